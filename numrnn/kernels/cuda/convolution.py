"""Around the products of convolutions on the device: patches of images, relu and max-pooling, and their adjoints.

Sequences follow one another without gaps. A time step is a row of `width` pixels with `channels` numbers each; a time
series is an image that is one pixel wide. The kernel is `kernel_h` time steps by `kernel_w` pixels, and the convolution
is a product: the numbers under the kernel, for every pixel, with the weights as they lie.

===============  ====================================  ================================================================
argument         type and shape                        meaning
===============  ====================================  ================================================================
begins, ends     int64 (n_rows,)                       of each row the first row of its sequence, and the one behind it
firsts, lasts    int64 (n_pooled_rows,)                of each pooled row the first of its rows, and the one behind them
values           float (n_rows * width * channels,)    pixels
convolved        float (n_rows * width * filters,)     before relu and pooling
winners          int32, as the pooled outputs          which pixel of the pool has the maximum, counted row after row,
                                                       the first of equals; -1 if it is not above zero
===============  ====================================  ================================================================
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from numba import cuda

from numrnn.kernels.cuda.grids import kernel, matrix_grid, vector_grid

__all__ = ["patches", "place_pools", "place_rows", "pool", "swap_weights", "unpool"]


@kernel
def _place_rows(starts, lengths, n_sequences, source_starts, begins, ends, sources):
    me = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for i in range(me, n_sequences, cuda.gridDim.x * cuda.blockDim.y):
        start, length = starts[i], lengths[i]
        for t in range(cuda.threadIdx.x, length, cuda.blockDim.x):
            begins[start + t] = start
            ends[start + t] = start + length
            sources[start + t] = source_starts[i] + t


def place_rows(queue, starts, lengths, n_sequences, source_starts, begins, ends, sources):
    """begins and ends, and sources: the row of each row where its sequence begins at source_starts[i].

    starts, lengths: int64 (n_sequences,).
    """
    if n_sequences:
        _place_rows[*matrix_grid(n_sequences), queue](
            starts, lengths, n_sequences, source_starts, begins, ends, sources
        )


@kernel
def _place_pools(pooled_starts, pooled_lengths, n_sequences, starts, lengths, pool_h, firsts, lasts):
    me = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for i in range(me, n_sequences, cuda.gridDim.x * cuda.blockDim.y):
        end = starts[i] + lengths[i]
        for t in range(cuda.threadIdx.x, pooled_lengths[i], cuda.blockDim.x):
            first = starts[i] + t * pool_h
            firsts[pooled_starts[i] + t] = first
            lasts[pooled_starts[i] + t] = min(end, first + pool_h)


def place_pools(queue, pooled_starts, pooled_lengths, n_sequences, starts, lengths, pool_h, firsts, lasts):
    """firsts and lasts; starts and lengths are int64 (n_sequences,)."""
    if n_sequences:
        _place_pools[*matrix_grid(n_sequences), queue](
            pooled_starts, pooled_lengths, n_sequences, starts, lengths, pool_h, firsts, lasts
        )


@kernel
def _patches(
    values, begins, ends, width, channels, kernel_h, kernel_w, top, left, turned, first, count, result
):  # fmt: skip
    area = kernel_h * kernel_w
    taps = channels * area
    me = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for p in range(me, count, cuda.gridDim.x * cuda.blockDim.y):
        row, x = (first + p) // width, (first + p) % width
        begin, end = begins[row], ends[row]
        for tap in range(cuda.threadIdx.x, taps, cuda.blockDim.x):
            channel, i, j = tap // area, tap % area // kernel_w, tap % kernel_w
            source, at = row + i - top, x + j - left
            if turned:
                source, at = row + top - i, x + left - j
            value = values.dtype.type(0)
            if begin <= source and source < end and at >= 0 and at < width:
                value = values[(source * width + at) * channels + channel]
            result[p * taps + tap] = value


def patches(queue, values, begins, ends, width, channels, kernel, corner, turned, first, count, result):
    """The numbers under the kernel (count, channels * kernel_h * kernel_w), for the pixels from `first` on.

    kernel: its height and width. corner: which of its pixels is the one that it is laid on. turned: it is laid on
    upside down and back to front, as for the gradient of the pixels.
    """
    if count:
        _patches[*matrix_grid(count), queue](
            values, begins, ends, width, channels, *kernel, *corner, turned, first, count, result
        )


@kernel
def _pool(
    convolved, firsts, lasts, n_pixels, width, pooled_width, filters, pool_w, outputs, winners, training
):  # fmt: skip
    zero = convolved.dtype.type(0)
    me = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for p in range(me, n_pixels, cuda.gridDim.x * cuda.blockDim.y):
        row, begin = p // pooled_width, p % pooled_width * pool_w
        end = min(width, begin + pool_w)
        for f in range(cuda.threadIdx.x, filters, cuda.blockDim.x):
            best, winner, number = zero, 0, 0
            for y in range(firsts[row], lasts[row]):
                for x in range(begin, end):
                    value = convolved[(y * width + x) * filters + f]
                    if number == 0 or value > best:
                        best, winner = value, number
                    number += 1
            # NaN stays NaN.
            outputs[p * filters + f] = zero if best <= zero else best
            if training:
                winners[p * filters + f] = -1 if best <= zero else winner


def pool(
    queue, convolved, firsts, lasts, n_pixels, width, pooled_width, filters, pool_w, outputs, winners, training
):  # fmt: skip
    """outputs (n_pixels, filters) = relu of the maxima over pools; winners are written if training."""
    if n_pixels:
        _pool[*matrix_grid(n_pixels), queue](
            convolved, firsts, lasts, n_pixels, width, pooled_width, filters, pool_w, outputs, winners, training
        )


@kernel
def _unpool(d_outputs, winners, firsts, lasts, n_pixels, width, pooled_width, filters, pool_w, d_convolved):
    me = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for p in range(me, n_pixels, cuda.gridDim.x * cuda.blockDim.y):
        row, begin = p // pooled_width, p % pooled_width * pool_w
        end = min(width, begin + pool_w)
        for f in range(cuda.threadIdx.x, filters, cuda.blockDim.x):
            winner, number = winners[p * filters + f], 0
            d = d_outputs[p * filters + f]
            for y in range(firsts[row], lasts[row]):
                for x in range(begin, end):
                    value = d if number == winner else d_outputs.dtype.type(0)
                    d_convolved[(y * width + x) * filters + f] = value
                    number += 1


def unpool(queue, d_outputs, winners, firsts, lasts, n_pixels, width, pooled_width, filters, pool_w, d_convolved):
    """The adjoint of `pool`: every pixel belongs to one pool, and is written."""
    if n_pixels:
        _unpool[*matrix_grid(n_pixels), queue](
            d_outputs, winners, firsts, lasts, n_pixels, width, pooled_width, filters, pool_w, d_convolved
        )


@kernel
def _swap_weights(parameters, first, filters, channels, area, result):
    for at in range(cuda.grid(1), filters * channels * area, cuda.gridsize(1)):
        f, rest = at // (channels * area), at % (channels * area)
        channel, place = rest // area, rest % area
        result[(f * area + place) * channels + channel] = parameters[first + at]


def swap_weights(queue, parameters, first, filters, channels, area, result):
    """Weights (filters, channels, area) as (filters, area, channels), by which patches of a gradient are multiplied."""
    _swap_weights[*vector_grid(filters * channels * area), queue](parameters, first, filters, channels, area, result)


def examples():
    """The kernels of this file with the types of their arguments."""
    i = "i8[::1]"
    yield "place rows", _place_rows, (i, i, "i8", i, i, i, i)
    yield "place pools", _place_pools, (i, i, "i8", i, i, "i8", i, i)
    for f in ("f4", "f8"):
        v, sizes = f"{f}[::1]", ("i8",) * 5
        yield f"patches {f}", _patches, (v, i, i, *("i8",) * 6, "b1", "i8", "i8", v)
        yield f"pool {f}", _pool, (v, i, i, *sizes, v, "i4[::1]", "b1")
        yield f"unpool {f}", _unpool, (v, "i4[::1]", i, i, *sizes, v)
        yield f"swap weights {f}", _swap_weights, (v, *("i8",) * 4, v)
