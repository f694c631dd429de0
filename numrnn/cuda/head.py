"""Readout and loss on the device."""

from __future__ import annotations

from typing import Any

import numpy as np

from numrnn.cuda.batches import Answers, Plan
from numrnn.kernels.cuda.arrays import DeviceArrays, add_columns, clear, spread, upload
from numrnn.kernels.cuda.crf import add_counts, best_tags, count_blocks, log_likelihood, marginals
from numrnn.kernels.cuda.losses import LOSSES
from numrnn.kernels.cuda.matrices import multiply
from numrnn.network import Network

__all__ = ["OUTPUT_BYTES", "DeviceHead", "RandomFieldOnDevice", "make_head"]

# Raw outputs, and their gradients, are kept for so many bytes of rows at a time.
OUTPUT_BYTES = 2**28


class DeviceHead:
    """Dense readout ``outputs = features @ weight_out.T + bias_out`` and the loss of every row, on the device.

    Parameters
    ----------
    network : Network or EncoderDecoder
        On the host.
    arrays : DeviceArrays
    queue
    n_features : int, default=None
        None: those of the network's recurrent layers.
    weight : str, default="weight_out"
        Name of the weight.
    """

    def __init__(
        self,
        network: Any,
        arrays: DeviceArrays,
        queue: Any,
        n_features: int | None = None,
        weight: str = "weight_out",
    ) -> None:
        self.n_features = network.stack.output_size if n_features is None else n_features
        self.n_outputs = network.n_outputs
        self.dtype = network.dtype
        self._arrays = arrays
        self._queue = queue
        self._loss: Any = LOSSES.get(network.loss_name)
        self._in_place = network.loss_name == "cross_entropy"
        self._option: Any = float(network.label_smoothing)
        if network.loss_name == "quantile":
            self._option = arrays.put("levels", np.array(network.quantile_levels, dtype=np.float64), queue)
        self._weight = network.parameters.span(weight).start
        self._bias = network.parameters.span("bias_out").start
        row_bytes = self.n_outputs * self.dtype.itemsize * (1 if self._in_place else 2)
        self.rows_at_once = max(OUTPUT_BYTES // row_bytes, 1)

    def outputs(self, parameters: Any, features: Any, first: int, count: int) -> Any:
        """Raw outputs (count, n_outputs) of rows of features, from row `first` on."""
        outputs = self._arrays.matrix("outputs", count, self.n_outputs, self.dtype)
        flat = outputs.reshape(-1)
        spread(self._queue, parameters, self._bias, self.n_outputs, flat, count)
        multiply(
            self._queue,
            self._arrays,
            (features, first * self.n_features, False),
            (parameters, self._weight, True),
            (flat, 0),
            (count, self.n_outputs, self.n_features),
            accumulate=True,
        )
        return outputs

    def loss(
        self,
        parameters: Any,
        features: Any,
        n_rows: int,
        rows: Any,
        answers: Answers,
        losses: Any,
        first_loss: int,
        scale: float = 0.0,
        gradient: Any = None,
        plan: Plan | None = None,
    ) -> Any:
        """Write weight * loss of every row to `losses`, and add the gradient of the parameters to `gradient`.

        Parameters
        ----------
        parameters : device array
            The flat vector.
        features : device array
            (n_rows * n_features,).
        n_rows : int
        rows : device array of int64, shape (n_rows,)
            Where the answer of each row is.
        answers : Answers
        losses : device array of float64
        first_loss : int
            The element of `losses` that belongs to the first row.
        scale : float, default=0.0
            Factor of the gradient.
        gradient : device array, default=None
            The flat vector. None: values are all that is wanted.
        plan : Plan, default=None
            How the rows are packed, for a loss of whole sequences.

        Returns
        -------
        d_features : device array (n_rows * n_features,), or None
        """
        queue, size = self._queue, self.n_features
        d_features = None if gradient is None else self._arrays.at_least("d features", n_rows * size, self.dtype)
        for first in range(0, n_rows, self.rows_at_once):
            count = min(self.rows_at_once, n_rows - first)
            outputs = self.outputs(parameters, features, first, count)
            d_outputs = outputs
            if not self._in_place:
                d_outputs = self._arrays.matrix("d outputs", count, self.n_outputs, self.dtype)
            own = rows if not first else rows[first : first + count]
            self._loss(
                queue, outputs, count, own, answers.targets, answers.weights, self._option, scale, d_outputs, losses,
                first_loss + first,
            )  # fmt: skip
            if gradient is not None:
                self._read_back(parameters, features, first, count, d_outputs.reshape(-1), gradient, d_features)
        return d_features

    def _read_back(
        self, parameters: Any, features: Any, first: int, count: int, d_outputs: Any, gradient: Any, d_features: Any
    ) -> None:
        """From the gradient of some rows of outputs to those of their features and of the readout."""
        queue, arrays, size = self._queue, self._arrays, self.n_features
        multiply(
            queue, arrays, (d_outputs, 0, False), (parameters, self._weight, False), (d_features, first * size),
            (count, size, self.n_outputs),
        )  # fmt: skip
        multiply(
            queue, arrays, (d_outputs, 0, True), (features, first * size, False), (gradient, self._weight),
            (self.n_outputs, size, count), accumulate=True,
        )  # fmt: skip
        add_columns(queue, d_outputs, count, self.n_outputs, gradient, self._bias)


class RandomFieldOnDevice(DeviceHead):
    """Readout of every time step, and a linear-chain conditional random field over whole sequences of them.

    The parameters are those of `DeviceHead`; all time steps of a sequence have one weight.
    """

    def __init__(self, network: Network, arrays: DeviceArrays, queue: Any) -> None:
        super().__init__(network, arrays, queue)
        spans = [network.parameters.span(name) for name in ("crf_transitions", "crf_start", "crf_end")]
        assert spans[0].stop == spans[1].start and spans[1].stop == spans[2].start
        self._field = spans[0].start
        self._no_rows = upload(np.zeros(0, dtype=np.int64), queue)
        self._no_numbers = upload(np.zeros(0, dtype=np.float64), queue)

    def _call(self, kernel: Any, parameters: Any, logits: Any, plan: Plan, *arguments: Any) -> None:
        """Call with what all kernels of a random field want, and what this one wants beside it."""
        kernel(
            self._queue, logits, self.n_outputs, plan.offsets, plan.steps, plan.n_sequences, parameters, self._field,
            *arguments,
        )  # fmt: skip

    def _logits(self, parameters: Any, features: Any, plan: Plan) -> Any:
        return self.outputs(parameters, features, 0, plan.n_rows).reshape(-1)

    def _log_alpha(self, plan: Plan) -> Any:
        return self._arrays.at_least("log alpha", plan.n_rows * self.n_outputs, np.float64)

    def _log_beta(self, plan: Plan) -> tuple[Any, int]:
        n_blocks = count_blocks(plan.n_sequences, self.n_outputs)
        return self._arrays.at_least("log beta", 2 * n_blocks * self.n_outputs, np.float64), n_blocks

    def loss(
        self,
        parameters: Any,
        features: Any,
        n_rows: int,
        rows: Any,
        answers: Answers,
        losses: Any,
        first_loss: int,
        scale: float = 0.0,
        gradient: Any = None,
        plan: Plan | None = None,
    ) -> Any:
        assert plan is not None
        queue, arrays, n_tags = self._queue, self._arrays, self.n_outputs
        logits, log_alpha = self._logits(parameters, features, plan), self._log_alpha(plan)
        known = rows, answers.targets, answers.weights
        clear(queue, losses, first_loss, first_loss + n_rows)
        self._call(log_likelihood, parameters, logits, plan, *known, log_alpha, losses, first_loss)
        if gradient is None:
            return None
        d_features = arrays.at_least("d features", n_rows * self.n_features, self.dtype)
        d_logits = arrays.at_least("d logits", n_rows * n_tags, self.dtype)
        log_beta, n_blocks = self._log_beta(plan)
        counts = arrays.at_least("counts of tags", n_blocks * n_tags * (n_tags + 2), np.float64)
        self._call(
            marginals, parameters, logits, plan, *known, scale, log_alpha, log_beta, d_logits, counts, n_blocks
        )  # fmt: skip
        add_counts(queue, counts, n_blocks, n_tags, gradient, self._field)
        self._read_back(parameters, features, 0, n_rows, d_logits, gradient, d_features)
        return d_features

    def marginals(self, parameters: Any, features: Any, plan: Plan) -> Any:
        """The probability of every tag at every packed row, given the whole sequence."""
        none = self._no_numbers
        logits, log_alpha = self._logits(parameters, features, plan), self._log_alpha(plan)
        unknown = self._no_rows, self._no_rows, none
        self._call(log_likelihood, parameters, logits, plan, *unknown, log_alpha, none, 0)
        found = self._arrays.at_least("d logits", plan.n_rows * self.n_outputs, self.dtype)
        log_beta, n_blocks = self._log_beta(plan)
        self._call(marginals, parameters, logits, plan, *unknown, 1.0, log_alpha, log_beta, found, none, n_blocks)
        return found

    def best_tags(self, parameters: Any, features: Any, plan: Plan) -> Any:
        """The tag of every packed row in the most probable sequences of tags."""
        logits, size = self._logits(parameters, features, plan), plan.n_rows * self.n_outputs
        origins = self._arrays.at_least("origins of tags", size, np.int32)
        tags = self._arrays.at_least("best tags", plan.n_rows, np.int64)
        self._call(best_tags, parameters, logits, plan, self._log_alpha(plan), origins, tags)
        return tags


def make_head(network: Network, arrays: DeviceArrays, queue: Any) -> DeviceHead:
    """The head for a network's loss."""
    return (RandomFieldOnDevice if network.loss_name == "crf" else DeviceHead)(network, arrays, queue)
