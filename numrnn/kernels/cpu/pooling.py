"""Pooling of outputs over the time steps of each sequence of a packed batch."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from numrnn.kernels.jit import kernel

__all__ = ["pool_max", "pool_max_adjoint", "pool_mean", "pool_mean_adjoint"]


@kernel
def pool_mean(outputs, offsets, lengths, order, totals, pooled):
    """pooled[order[n]] = mean over t of outputs (n_rows, n_features).

    totals is float64 of the shape of pooled, and zero before.
    """
    n_features = outputs.shape[1]
    for t in range(len(offsets) - 1):
        for n in range(offsets[t + 1] - offsets[t]):
            for i in range(n_features):
                totals[order[n], i] += outputs[offsets[t] + n, i]
    for n in range(len(order)):
        for i in range(n_features):
            pooled[order[n], i] = totals[order[n], i] / max(lengths[n], 1)


@kernel
def pool_mean_adjoint(d_pooled, offsets, lengths, order, d_outputs):
    """d_outputs (n_rows, n_features) = d_pooled / length."""
    n_features = d_pooled.shape[1]
    for t in range(len(offsets) - 1):
        for n in range(offsets[t + 1] - offsets[t]):
            for i in range(n_features):
                d_outputs[offsets[t] + n, i] = d_pooled[order[n], i] / lengths[n]


@kernel
def pool_max(outputs, offsets, order, pooled, steps):
    """pooled[order[n]] = maximum over t of outputs; steps[order[n]] = the first time step that has it.

    A sequence without time steps keeps what pooled holds. NaN counts as larger than every number.
    """
    n_features = outputs.shape[1]
    for t in range(len(offsets) - 1):
        for n in range(offsets[t + 1] - offsets[t]):
            for i in range(n_features):
                value = outputs[offsets[t] + n, i]
                best = pooled[order[n], i]
                if t == 0 or (value > best) or (value != value and best == best):
                    pooled[order[n], i] = value
                    steps[order[n], i] = t


@kernel
def pool_max_adjoint(d_pooled, offsets, order, steps, d_outputs):
    """d_outputs (n_rows, n_features) = d_pooled at the time step of the maximum, zero elsewhere."""
    n_features = d_pooled.shape[1]
    for t in range(len(offsets) - 1):
        for n in range(offsets[t + 1] - offsets[t]):
            for i in range(n_features):
                at = order[n]
                d_outputs[offsets[t] + n, i] = d_pooled[at, i] if steps[at, i] == t else d_pooled.dtype.type(0)
