"""Readout and loss on the device."""

from __future__ import annotations

from typing import Any

import numpy as np

from numrnn.cuda.batches import Answers
from numrnn.kernels.cuda.arrays import DeviceArrays, add_columns, spread
from numrnn.kernels.cuda.losses import LOSSES
from numrnn.kernels.cuda.matrices import multiply
from numrnn.network import Network

__all__ = ["OUTPUT_BYTES", "DeviceHead"]

# Raw outputs, and their gradients, are kept for so many bytes of rows at a time.
OUTPUT_BYTES = 2**28


class DeviceHead:
    """Dense readout ``outputs = features @ weight_out.T + bias_out`` and the loss of every row, on the device.

    Parameters
    ----------
    network : Network
        On the host.
    arrays : DeviceArrays
    queue
    """

    def __init__(self, network: Network, arrays: DeviceArrays, queue: Any) -> None:
        self.n_features = network.stack.output_size
        self.n_outputs = network.n_outputs
        self.dtype = network.dtype
        self._arrays = arrays
        self._queue = queue
        self._loss = LOSSES[network.loss_name]
        self._in_place = network.loss_name == "cross_entropy"
        self._option: Any = float(network.label_smoothing)
        if network.loss_name == "quantile":
            self._option = arrays.put("levels", np.array(network.quantile_levels, dtype=np.float64), queue)
        self._weight = network.parameters.span("weight_out").start
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
            if gradient is None:
                continue
            flat = d_outputs.reshape(-1)
            multiply(
                queue, self._arrays, (flat, 0, False), (parameters, self._weight, False), (d_features, first * size),
                (count, size, self.n_outputs),
            )  # fmt: skip
            multiply(
                queue, self._arrays, (flat, 0, True), (features, first * size, False), (gradient, self._weight),
                (self.n_outputs, size, count), accumulate=True,
            )  # fmt: skip
            add_columns(queue, flat, count, self.n_outputs, gradient, self._bias)
        return d_features
