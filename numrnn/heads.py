"""Heads: from features to raw outputs, to a loss, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.crf import ConditionalRandomField
from numrnn.kernels.cpu.likelihoods import LIKELIHOODS
from numrnn.kernels.cpu.losses import LOSSES, workspace_size
from numrnn.kernels.cpu.matmul import SUM_ROWS
from numrnn.readout import Readout, Weights
from numrnn.softmax import BLOCK_BYTES, OutputSampler, blocked_cross_entropy, hide_from_other_rows
from numrnn.workers import Workers

__all__ = ["LOSS_NAMES", "Head", "RandomFieldHead", "TiedHead", "build_head"]

LOSS_NAMES = (*LOSSES, *LIKELIHOODS, "crf")

# Floating-point operations of one raw output in a loss.
_FLOPS_OF_LOSS = 64
# Rows of which outputs, loss and gradient are computed one after the other, while they are in the caches; and of many
# outputs, for which the rows are enough work.
_UNIT_ROWS = 384
_UNIT_ROWS_OF_MANY = 96
_MANY_OUTPUTS = 512


class Head:
    """Dense readout ``outputs = features @ weight_out.T + bias_out``, and a loss of every row of the outputs.

    A row is a sequence, or a time step where there is no pooling. What is computed for a row depends on nothing but
    that row and the parameters.

    Parameters
    ----------
    loss : str
        One of `LOSS_NAMES`; for "crf" see `RandomFieldHead`.
    n_features, n_outputs : int
    label_smoothing : float, default=0.0
        For the cross-entropy.
    quantile_levels : tuple of float, default=()
        For the loss "quantile".
    names : tuple of two str, default=("weight_out", "bias_out")
        Of the parameters.
    n_samples : int or None, default=None
        For the cross-entropy without label smoothing: the gradient is that of a sampled softmax, see `OutputSampler`.
        The value alone is always that of all outputs.
    dtype : dtype
    workers : Workers

    Attributes
    ----------
    n_target_columns : int
        Columns of the targets; `n_outputs`, but for the losses that have several raw outputs for a target.
    reads_whole_sequences : bool
        Whether the loss has to see all time steps of a sequence at once.
    unit_rows : int
        Rows whose losses are summed before they are added to those of others.
    """

    reads_whole_sequences = False

    def __init__(
        self,
        loss: str,
        n_features: int,
        n_outputs: int,
        *,
        label_smoothing: float = 0.0,
        quantile_levels: tuple[float, ...] = (),
        names: tuple[str, str] = ("weight_out", "bias_out"),
        n_samples: int | None = None,
        dtype: np.dtype,
        workers: Workers,
    ) -> None:
        fewest = 2 if loss == "cross_entropy" else 1
        if n_outputs < fewest:
            raise ValueError(f"n_outputs must be at least {fewest} for the loss {loss!r}, got {n_outputs}")
        if not 0 <= label_smoothing < 1 or (label_smoothing and loss != "cross_entropy"):
            raise ValueError(
                "label_smoothing must be at least 0 and below 1, and 0 for every loss but 'cross_entropy', got "
                f"{label_smoothing} for {loss!r}"
            )
        self.n_features = n_features
        self.n_outputs = n_outputs
        self._weight, self._bias = names
        self.n_target_columns = _count_target_columns(loss, n_outputs, quantile_levels)
        self.dtype = np.dtype(dtype)
        self.workers = workers
        self._loss: Any = LOSSES[loss] if loss in LOSSES else LIKELIHOODS[loss].kernel if loss in LIKELIHOODS else None
        self._is_cross_entropy = loss == "cross_entropy"
        self._label_smoothing = float(label_smoothing)
        self._levels = (np.array(quantile_levels, dtype=np.float64),) if loss == "quantile" else ()
        self._sampler: OutputSampler | None = None
        if n_samples is not None:
            if loss != "cross_entropy" or label_smoothing:
                raise ValueError(
                    "n_samples is for the loss 'cross_entropy' without label smoothing, got "
                    f"{loss!r} and {label_smoothing}"
                )
            self._sampler = OutputSampler(n_outputs, n_samples)
        # Outputs that count for a row only if they are its target; all others do for every row.
        self._for_their_rows: NDArray[np.int64] | None = None
        self.unit_rows = _UNIT_ROWS_OF_MANY if n_outputs > _MANY_OUTPUTS else _UNIT_ROWS
        self._readout = Readout(self.dtype, workers)

    @property
    def keeps_outputs(self) -> bool:
        """Whether the loss has all outputs of a row before it: they are not too many, and none is left out."""
        return self._sampler is None and self._for_their_rows is None and self.n_outputs <= _MANY_OUTPUTS

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters."""
        return {self._weight: (self.n_outputs, self.n_features), self._bias: (self.n_outputs,)}

    def initialize(self, parameters: Mapping[str, NDArray], rng: np.random.RandomState) -> None:
        """Write initial parameters: Glorot-uniform weights, bias zero."""
        shape = parameters[self._weight].shape
        bound = np.sqrt(6.0 / sum(shape))
        parameters[self._weight][...] = rng.uniform(-bound, bound, shape)
        parameters[self._bias][...] = 0.0

    def _weights(self, values: Mapping[str, NDArray]) -> Weights:
        """This head's own among the parameters, or their gradients."""
        return Weights(values[self._weight], values[self._bias])

    # -------------------------------------------------------------------------------------------------------- outputs
    def outputs(self, parameters: Mapping[str, NDArray], features: NDArray) -> NDArray:
        """Raw outputs (n_rows, n_outputs) of features (n_rows, n_features)."""
        return self._readout.outputs(features, self._weights(parameters))

    def features_gradient(self, parameters: Mapping[str, NDArray], d_outputs: NDArray) -> NDArray:
        """Gradient of the features (n_rows, n_features) from that of the outputs."""
        return self._readout.features_gradient(d_outputs, self._weights(parameters))

    def weights_gradient(self, features: NDArray, d_outputs: NDArray, gradient: Mapping[str, NDArray]) -> None:
        """Add the gradients of the parameters."""
        self._readout.weights_gradient(features, d_outputs, self._weights(gradient))

    # ----------------------------------------------------------------------------------------------------------- loss
    def loss(
        self,
        parameters: Mapping[str, NDArray],
        features: NDArray,
        lengths: NDArray,
        targets: NDArray,
        weights: NDArray,
        scale: float = 0.0,
        gradient: Mapping[str, NDArray] | None = None,
        seed: int = 0,
    ) -> tuple[float, NDArray | None]:
        """Sum of weight * loss over the rows, and its gradient.

        Parameters
        ----------
        parameters : mapping of str to ndarray
        features : ndarray of shape (n_rows, n_features)
            C-contiguous.
        lengths : ndarray of int64
            Of the sequences, which matter where rows are time steps that belong together.
        targets : ndarray
            int64 (n_rows,) for class numbers, else of the network's type (n_rows, n_target_columns).
        weights : ndarray of float64, shape (n_rows,)
        scale : float, default=0.0
            Factor of the gradient.
        gradient : mapping of str to ndarray, default=None
            The gradient of the parameters is added to it. None: the value is all that is wanted.
        seed : int, default=0
            Chooses the outputs of a sampled softmax.

        Returns
        -------
        total : float
            Not scaled.
        d_features : ndarray of shape (n_rows, n_features), or None if `gradient` is None
        """
        if gradient is not None and self._sampler is not None:
            return self._sampled_loss(parameters, features, lengths, targets, weights, scale, gradient, seed)
        d_features = None if gradient is None else np.empty_like(features)
        if self._is_cross_entropy and self.n_outputs > _MANY_OUTPUTS:
            total = blocked_cross_entropy(
                self._readout, self._weights(parameters), features, targets, weights, scale=scale,
                smoothing=self._label_smoothing, gradient=None if gradient is None else self._weights(gradient),
                d_features=d_features, for_their_rows=self._for_their_rows,
            )  # fmt: skip
            return total, d_features
        # Whole blocks of the weight gradient's sums, of which every thread has some.
        kept = self.workers.n * BLOCK_BYTES // (self.n_outputs * self.dtype.itemsize)
        kept = max(kept // SUM_ROWS, 1) * SUM_ROWS
        total = 0.0
        for first in range(0, len(features), kept):
            own = slice(first, first + kept)
            d_own = None if d_features is None else d_features[own]
            for part in self._loss_of_rows(
                parameters, features[own], targets[own], weights[own], scale, gradient, d_own
            ):
                total += part
        return total, d_features

    def _sampled_loss(
        self,
        parameters: Mapping[str, NDArray],
        features: NDArray,
        lengths: NDArray,
        targets: NDArray,
        weights: NDArray,
        scale: float,
        gradient: Mapping[str, NDArray],
        seed: int,
    ) -> tuple[float, NDArray | None]:
        """`loss` by some of the outputs."""
        assert self._sampler is not None
        chosen, offsets, own = self._sampler.draw(targets, seed)
        names = (self._weight, self._bias)
        few = Head("cross_entropy", self.n_features, len(chosen), names=names, dtype=self.dtype, workers=self.workers)
        few._for_their_rows = own
        of_chosen = {name: parameters[name][chosen] for name in names}
        of_chosen[self._bias] -= offsets.astype(self.dtype)
        d_chosen = {name: np.zeros_like(array) for name, array in of_chosen.items()}
        places = np.searchsorted(chosen, targets)
        result = few.loss(of_chosen, features, lengths, places, weights, scale, d_chosen)
        for name in names:
            gradient[name][chosen] += d_chosen[name]
        return result

    def _loss_of_rows(
        self,
        parameters: Mapping[str, NDArray],
        features: NDArray,
        targets: NDArray,
        weights: NDArray,
        scale: float,
        gradient: Mapping[str, NDArray] | None,
        d_features: NDArray | None,
    ) -> list[float]:
        """Sums of the losses of units of rows."""
        n_rows, size = len(features), self.unit_rows
        own = self._weights(parameters)
        # Every unit of rows has its own sum, so that the total does not depend on the threads.
        n_units = -(-n_rows // size)
        totals = [0.0] * n_units
        d_outputs = None if d_features is None else np.empty((n_rows, self.n_outputs), dtype=self.dtype)

        def units(begin: int, end: int) -> None:
            outputs = np.empty((min(size, n_rows), self.n_outputs), dtype=self.dtype)
            d_unused = None if d_outputs is not None else np.empty_like(outputs)
            smoothing: tuple[Any, ...] = ()
            if self._is_cross_entropy:
                smoothing = (self._label_smoothing, np.empty(workspace_size(self.n_outputs), dtype=np.float64))
            for unit in range(begin, end):
                rows = slice(unit * size, min((unit + 1) * size, n_rows))
                count = rows.stop - rows.start
                y = outputs[:count]
                d_y = d_unused[:count] if d_unused is not None else d_outputs[rows]  # type: ignore[index]
                self._readout.outputs_of_rows(features[rows], own, y)
                if self._for_their_rows is not None:
                    hide_from_other_rows(y, targets[rows], self._for_their_rows)
                totals[unit] = self._loss(y, targets[rows], weights[rows], *smoothing, *self._levels, scale, d_y)
                if d_features is not None:
                    self._readout.features_gradient_of_rows(d_y, own, d_features[rows])

        self.workers.divide(n_units, n_rows * self.n_outputs * (4 * self.n_features + _FLOPS_OF_LOSS), units)
        if gradient is not None:
            assert d_outputs is not None
            self.weights_gradient(features, d_outputs, gradient)
        return totals


class TiedHead(Head):
    """A readout whose weights are the vectors of an embedding (Press and Wolf 2017; Inan, Khosravi and Socher 2017).

    ``outputs = projected @ table.T + bias_out``. Features of the table's dimension are taken as they are; others go
    through a dense layer to it first, with the parameters `weight_projection` and `bias_projection`.

    Parameters
    ----------
    table : str
        Name of the embedding, which has a row for each output.
    dimension : int
        Of its vectors.
    """

    def __init__(
        self, loss: str, n_features: int, n_outputs: int, *, table: str, dimension: int, **options: Any
    ) -> None:
        super().__init__(loss, dimension, n_outputs, names=(table, "bias_out"), **options)
        self._projection: Head | None = None
        if dimension != n_features:
            names = ("weight_projection", "bias_projection")
            self._projection = Head(
                "squared_error", n_features, dimension, names=names, dtype=self.dtype, workers=self.workers
            )

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, without the embedding."""
        own: dict[str, tuple[int, ...]] = {self._bias: (self.n_outputs,)}
        return own if self._projection is None else self._projection.parameter_shapes() | own

    def initialize(self, parameters: Mapping[str, NDArray], rng: np.random.RandomState) -> None:
        parameters[self._bias][...] = 0.0
        if self._projection is not None:
            self._projection.initialize(parameters, rng)

    def _project(self, parameters: Mapping[str, NDArray], features: NDArray) -> NDArray:
        return features if self._projection is None else self._projection.outputs(parameters, features)

    def outputs(self, parameters: Mapping[str, NDArray], features: NDArray) -> NDArray:
        return super().outputs(parameters, self._project(parameters, features))

    def features_gradient(self, parameters: Mapping[str, NDArray], d_outputs: NDArray) -> NDArray:
        d_projected = super().features_gradient(parameters, d_outputs)
        return d_projected if self._projection is None else self._projection.features_gradient(parameters, d_projected)

    def loss(
        self,
        parameters: Mapping[str, NDArray],
        features: NDArray,
        lengths: NDArray,
        targets: NDArray,
        weights: NDArray,
        scale: float = 0.0,
        gradient: Mapping[str, NDArray] | None = None,
        seed: int = 0,
    ) -> tuple[float, NDArray | None]:
        projected = self._project(parameters, features)
        total, d_projected = super().loss(parameters, projected, lengths, targets, weights, scale, gradient, seed)
        if self._projection is None or gradient is None or d_projected is None:
            return total, d_projected
        self._projection.weights_gradient(features, d_projected, gradient)
        return total, self._projection.features_gradient(parameters, d_projected)


class RandomFieldHead(Head):
    """Dense readout of every time step, and a linear-chain conditional random field over its outputs.

    The loss is the negative log-likelihood of whole sequences of tags, which the outputs stand for. The rows of a
    sequence share its weight. The parameters are those of `Head`.
    """

    reads_whole_sequences = True

    def __init__(self, loss: str, n_features: int, n_outputs: int, **options: Any) -> None:
        super().__init__(loss, n_features, n_outputs, **options)
        self.field = ConditionalRandomField(n_outputs, self.dtype)

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return super().parameter_shapes() | self.field.parameter_shapes()

    def initialize(self, parameters: Mapping[str, NDArray], rng: np.random.RandomState) -> None:
        super().initialize(parameters, rng)
        self.field.initialize(parameters, rng)

    def loss(
        self,
        parameters: Mapping[str, NDArray],
        features: NDArray,
        lengths: NDArray,
        targets: NDArray,
        weights: NDArray,
        scale: float = 0.0,
        gradient: Mapping[str, NDArray] | None = None,
        seed: int = 0,
    ) -> tuple[float, NDArray | None]:
        starts = np.cumsum(lengths) - lengths
        of_sequences = np.zeros(len(lengths), dtype=np.float64)
        of_sequences[lengths > 0] = weights[starts[lengths > 0]]
        if not np.array_equal(np.repeat(of_sequences, lengths), weights):
            raise ValueError("the loss 'crf' is one of whole sequences, all time steps of which must have one weight")
        logits = self.outputs(parameters, features)
        arguments = (parameters, logits, starts, lengths, targets, of_sequences)
        if gradient is None:
            return self.field.loss(*arguments), None
        d_logits = np.empty_like(logits)
        total = self.field.loss(*arguments, scale, d_logits, gradient)
        self.weights_gradient(features, d_logits, gradient)
        return total, self.features_gradient(parameters, d_logits)


def build_head(
    loss: str, n_features: int, n_outputs: int, *, tied_to: tuple[str, int] | None = None, **options: Any
) -> Head:
    """The head for a loss; the arguments are those of `Head`, and name and dimension of the embedding of `TiedHead`."""
    if tied_to is not None:
        table, dimension = tied_to
        return TiedHead(loss, n_features, n_outputs, table=table, dimension=dimension, **options)
    return (RandomFieldHead if loss == "crf" else Head)(loss, n_features, n_outputs, **options)


def _count_target_columns(loss: str, n_outputs: int, quantile_levels: tuple[float, ...]) -> int:
    """Columns of the targets that belong to so many raw outputs."""
    levels = np.array(quantile_levels, dtype=np.float64)
    if (len(levels) > 0) != (loss == "quantile"):
        raise ValueError(f"quantile_levels are for the loss 'quantile' alone, got {quantile_levels} for {loss!r}")
    if not ((levels > 0) & (levels < 1)).all() or (np.diff(levels) <= 0).any():
        raise ValueError(f"quantile_levels must lie between 0 and 1 and increase, got {quantile_levels}")
    if loss not in LIKELIHOODS:
        return n_outputs
    _, outputs_per_target, columns_per_target = LIKELIHOODS[loss]
    n_targets, rest = divmod(n_outputs, outputs_per_target or len(levels))
    if rest:
        raise ValueError(
            f"n_outputs must be a multiple of {outputs_per_target or len(levels)}, the raw outputs of a target for "
            f"the loss {loss!r}, got {n_outputs}"
        )
    return n_targets * columns_per_target
