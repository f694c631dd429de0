"""Pooling of outputs over the time steps of each sequence of a packed batch, on the device.

Rows are packed: row ``offsets[t] + n`` is step t of the sequence at position n, whose number is ``order[n]``. A batch
may be a window of longer sequences: its first step is step `begin` of those, and what was pooled in earlier windows is
in `pooled` already. A thread has one feature of one sequence, and walks through its time steps in their order.

===========  ==============================  ==========================================================================
argument     type and shape                  meaning
===========  ==============================  ==========================================================================
outputs      float (n_rows * n_features,)    read
offsets      int64 (n_timesteps + 1,)
steps        int64 (n_sequences,)            time steps in this window, by position
lengths      int64 (n_sequences,)            time steps of the whole sequences, by number
order        int64 (n_sequences,)
pooled       float (n_sequences, features)   by number; added to, or compared with
winners      int64 (n_sequences, features)   by number: the time step of the whole sequence that has the maximum
===========  ==============================  ==========================================================================
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from numba import cuda

from numrnn.kernels.cuda.grids import kernel, matrix_grid

__all__ = ["pool_last", "pool_last_adjoint", "pool_max", "pool_max_adjoint", "pool_mean", "pool_mean_adjoint"]


@kernel
def _pool_last(outputs, n_features, n_forward, offsets, steps, order, n_sequences, pooled):
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for n in range(begin, n_sequences, cuda.gridDim.x * cuda.blockDim.y):
        count, number = steps[n], order[n]
        # A sequence without a step in this window keeps what it has.
        for i in range(cuda.threadIdx.x, n_features if count > 0 else 0, cuda.blockDim.x):
            # A direction that walks backward ends at the first time step.
            t = count - 1 if i < n_forward else 0
            pooled[number * n_features + i] = outputs[(offsets[t] + n) * n_features + i]


@kernel
def _pool_last_adjoint(d_pooled, n_features, n_forward, offsets, steps, order, n_sequences, d_outputs):
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for n in range(begin, n_sequences, cuda.gridDim.x * cuda.blockDim.y):
        count, number = steps[n], order[n]
        for i in range(cuda.threadIdx.x, n_features, cuda.blockDim.x):
            last = count - 1 if i < n_forward else 0
            zero = d_pooled.dtype.type(0)
            for t in range(count):
                d_outputs[(offsets[t] + n) * n_features + i] = d_pooled[number * n_features + i] if t == last else zero


@kernel
def _pool_mean(outputs, n_features, offsets, steps, lengths, order, n_sequences, pooled):
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for n in range(begin, n_sequences, cuda.gridDim.x * cuda.blockDim.y):
        number = order[n]
        divisor = pooled.dtype.type(max(lengths[number], 1))
        for i in range(cuda.threadIdx.x, n_features, cuda.blockDim.x):
            total = pooled.dtype.type(0)
            for t in range(steps[n]):
                total += outputs[(offsets[t] + n) * n_features + i]
            pooled[number * n_features + i] += total / divisor


@kernel
def _pool_mean_adjoint(d_pooled, n_features, offsets, steps, lengths, order, n_sequences, d_outputs):
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for n in range(begin, n_sequences, cuda.gridDim.x * cuda.blockDim.y):
        number = order[n]
        divisor = d_pooled.dtype.type(max(lengths[number], 1))
        for i in range(cuda.threadIdx.x, n_features, cuda.blockDim.x):
            share = d_pooled[number * n_features + i] / divisor
            for t in range(steps[n]):
                d_outputs[(offsets[t] + n) * n_features + i] = share


@kernel
def _pool_max(outputs, n_features, offsets, steps, order, n_sequences, first, pooled, winners):
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for n in range(begin, n_sequences, cuda.gridDim.x * cuda.blockDim.y):
        number = order[n]
        for i in range(cuda.threadIdx.x, n_features, cuda.blockDim.x):
            at = number * n_features + i
            best, winner = pooled[at], winners[at]
            for t in range(steps[n]):
                value = outputs[(offsets[t] + n) * n_features + i]
                # NaN counts as larger than every number.
                if first + t == 0 or value > best or (value != value and best == best):
                    best = value
                    winner = first + t
            pooled[at] = best
            winners[at] = winner


@kernel
def _pool_max_adjoint(d_pooled, n_features, offsets, steps, order, n_sequences, first, winners, d_outputs):
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for n in range(begin, n_sequences, cuda.gridDim.x * cuda.blockDim.y):
        number = order[n]
        for i in range(cuda.threadIdx.x, n_features, cuda.blockDim.x):
            at = number * n_features + i
            zero = d_pooled.dtype.type(0)
            for t in range(steps[n]):
                d_outputs[(offsets[t] + n) * n_features + i] = d_pooled[at] if winners[at] == first + t else zero


def pool_last(queue, outputs, n_features, n_forward, offsets, steps, order, n_sequences, pooled):
    """The outputs at the last time step; from column `n_forward` on, of the direction that ends at the first one."""
    _pool_last[*matrix_grid(n_sequences), queue](
        outputs, n_features, n_forward, offsets, steps, order, n_sequences, pooled
    )


def pool_last_adjoint(queue, d_pooled, n_features, n_forward, offsets, steps, order, n_sequences, d_outputs):
    """d_outputs = d_pooled at the time step that was taken, zero elsewhere."""
    _pool_last_adjoint[*matrix_grid(n_sequences), queue](
        d_pooled, n_features, n_forward, offsets, steps, order, n_sequences, d_outputs
    )


def pool_mean(queue, outputs, n_features, offsets, steps, lengths, order, n_sequences, pooled):
    """Add to `pooled` what the steps of the window have in the mean over the whole sequence."""
    _pool_mean[*matrix_grid(n_sequences), queue](
        outputs, n_features, offsets, steps, lengths, order, n_sequences, pooled
    )


def pool_mean_adjoint(queue, d_pooled, n_features, offsets, steps, lengths, order, n_sequences, d_outputs):
    """d_outputs = d_pooled / length of the whole sequence."""
    _pool_mean_adjoint[*matrix_grid(n_sequences), queue](
        d_pooled, n_features, offsets, steps, lengths, order, n_sequences, d_outputs
    )


def pool_max(queue, outputs, n_features, offsets, steps, order, n_sequences, first, pooled, winners):
    """Compare `pooled` with the steps of the window, the first of which is step `first` of the whole sequences."""
    _pool_max[*matrix_grid(n_sequences), queue](
        outputs, n_features, offsets, steps, order, n_sequences, first, pooled, winners
    )


def pool_max_adjoint(queue, d_pooled, n_features, offsets, steps, order, n_sequences, first, winners, d_outputs):
    """d_outputs = d_pooled at the time step of the maximum, zero elsewhere."""
    _pool_max_adjoint[*matrix_grid(n_sequences), queue](
        d_pooled, n_features, offsets, steps, order, n_sequences, first, winners, d_outputs
    )


def examples():
    """Kernels with the types of their arguments: what a check without a device compiles."""
    for f in ("f4", "f8"):
        v = f"{f}[::1]"
        tables = ("i8[::1]", "i8[::1]")
        yield f"pool last {f}", _pool_last, (v, "i8", "i8", *tables, "i8[::1]", "i8", v)
        yield f"pool last, adjoint {f}", _pool_last_adjoint, (v, "i8", "i8", *tables, "i8[::1]", "i8", v)
        yield f"pool mean {f}", _pool_mean, (v, "i8", *tables, *tables, "i8", v)
        yield f"pool mean, adjoint {f}", _pool_mean_adjoint, (v, "i8", *tables, *tables, "i8", v)
        yield f"pool max {f}", _pool_max, (v, "i8", *tables, "i8[::1]", "i8", "i8", v, "i8[::1]")
        yield f"pool max, adjoint {f}", _pool_max_adjoint, (v, "i8", *tables, "i8[::1]", "i8", "i8", "i8[::1]", v)
