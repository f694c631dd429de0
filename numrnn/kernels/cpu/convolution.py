"""Convolution, relu and max-pooling of planes in blocks that stay in the caches, and the way back.

A plane is `height` rows of `width` pixels of `channels` numbers, contiguous. An image is a plane; so is a sequence of
time steps, of height 1. Zeros stand around a plane so that the convolution keeps its size: (k - 1) // 2 before and the
rest of k - 1 behind.

Forward, the rows of a plane that one row of the result reads are interleaved to a strip, in which the numbers
under the kernel are contiguous for every pixel: (x of the kernel, y of the kernel, channel). The convolution is then a
product of overlapping rows of the strip with the weights. A time series is its own strip.

Backward, the gradient of the weights is a product too: with the plane transposed, channel by channel and zeros around,
what one weight sees of the plane is the plane itself from some pixel on. The gradient of the plane is a product of the
overlapping rows of the gradient of the convolution with the weights, and a sum over the rows of the kernel.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from numrnn.kernels.cpu.matmul import SUM_ROWS, height_of_tile, multiply, transpose_into
from numrnn.kernels.jit import inline, kernel
from numrnn.kernels.simd import (
    PANEL_VECTORS,
    absolute,
    clamp,
    lanes,
    load,
    load_partial,
    store,
    store_partial,
    tile,
    where_positive,
    zeros_like,
)

__all__ = ["PRODUCT_PIXELS", "convolve", "convolve_adjoint"]

# Pixels of one product in the backward pass.
PRODUCT_PIXELS = 256

# Not a literal: Numba would compile the product once more for every argument that is one.
ORIGIN = np.int64(0)
ZERO = np.float32(0)
HALF = np.float32(0.5)
ONE = np.float32(1)
MINUS_ONE = np.float32(-1)
INFINITY = np.float32(np.inf)


@inline
def _write_table(table, n_rows, span, pitch):
    """table[r * span + x] = r * pitch + x: where the pixels of some rows are, among those around which zeros stand."""
    for r in range(n_rows):
        for x in range(span):
            table[r * span + x] = r * pitch + x


@inline
def _write_strips(values, origin, height, width, channels, kernel_h, top, y0, y1, x0, count, strip):
    """The strips of the rows y0 to y1, from column x0 on (which may be left of the plane), `count` pixels each."""
    n_lanes = lanes(values)
    zero = values.dtype.type(0)
    cell = kernel_h * channels
    inside0, inside1 = max(0, -x0), min(count, width - x0)
    for y in range(y0, y1):
        for dy in range(kernel_h):
            target = (y - y0) * count * cell + dy * channels
            source_y = y + dy - top
            if source_y < 0 or source_y >= height:
                for j in range(count):
                    for c in range(channels):
                        strip[target + j * cell + c] = zero
                continue
            source = origin + (source_y * width + x0) * channels
            for j in range(inside0):
                for c in range(channels):
                    strip[target + j * cell + c] = zero
            for j in range(inside1, count):
                for c in range(channels):
                    strip[target + j * cell + c] = zero
            if cell == channels:
                # One row: pixels are contiguous on both sides.
                begin, end = inside0 * channels, inside1 * channels
                whole = end - (end - begin) % n_lanes
                for j in range(begin, whole, n_lanes):
                    store(strip, target + j, load(values, source + j))
                for j in range(whole, end):
                    strip[target + j] = values[source + j]
            elif channels == 1:
                for j in range(inside0, inside1):
                    strip[target + j * cell] = values[source + j]
            else:
                whole = channels - channels % n_lanes
                for j in range(inside0, inside1):
                    for c in range(0, whole, n_lanes):
                        store(strip, target + j * cell + c, load(values, source + j * channels + c))
                    for c in range(whole, channels):
                        strip[target + j * cell + c] = values[source + j * channels + c]


@kernel
def convolve(
    values, origins, heights, widths, begin, end, channels, kernel_h, kernel_w, pool_h, pool_w, panels, bias, filters,
    columns, block_h, block_w, table, strip, convolved, pixels, outputs, winners, training,
):  # fmt: skip
    """Planes begin to end: outputs = max over each pool_h x pool_w pixels of relu(convolution + bias).

    Pools at the right and lower edges are smaller, where the pool does not divide the plane.

    ===========  ===========================  ================================================================
    argument     shape                        meaning
    ===========  ===========================  ================================================================
    values       one-dimensional              plane i begins at element origins[i]; read
    heights,     int64 (n_planes,)            sizes of the planes
    widths
    panels                                    weights of a filter in the order (x, y, channel), as
                                              `pack_columns` writes them; read
    bias         (columns,)                   read; `columns` are the filters, padded to whole vectors
    block_h,     int                          pooled rows and columns that are computed at once
    block_w
    table        int64, one for each pixel    scratch
                 of a block
    strip        block_h * pool_h * (block_w  scratch
                 * pool_w + kernel_w - 1)
                 * kernel_h * channels
    convolved    pixels of a block * columns  scratch
    pixels       int64 (n_planes,)            number of the first pooled pixel of each plane in the next two
    outputs      (pooled pixels * filters,)   written
    winners      (pooled pixels * columns,)   written if training: which pixel of the pool has the maximum, counted
                                              row after row, the first of equals; -1 if it is not above zero
    ===========  ===========================  ================================================================
    """
    n_lanes = lanes(outputs)
    cell = kernel_h * channels
    top, left = (kernel_h - 1) // 2, (kernel_w - 1) // 2
    zero = zeros_like(load(bias, 0))
    table_span = -1
    for i in range(begin, end):
        height, width = heights[i], widths[i]
        pooled_h, pooled_w = (height + pool_h - 1) // pool_h, (width + pool_w - 1) // pool_w
        for first_y in range(0, pooled_h, block_h):
            y0, y1 = first_y * pool_h, min(height, (first_y + block_h) * pool_h)
            for first_x in range(0, pooled_w, block_w):
                x0, x1 = first_x * pool_w, min(width, (first_x + block_w) * pool_w)
                span = x1 - x0
                if span != table_span:
                    _write_table(table, block_h * pool_h, span, span + kernel_w - 1)
                    table_span = span
                _write_strips(
                    values, origins[i], height, width, channels, kernel_h, top, y0, y1, x0 - left,
                    span + kernel_w - 1, strip,
                )  # fmt: skip
                multiply(
                    strip, ORIGIN, table, ORIGIN, (y1 - y0) * span, cell, panels, ORIGIN, kernel_w * cell, columns,
                    bias, ORIGIN, ORIGIN, convolved, ORIGIN, columns,
                )  # fmt: skip
                for pooled_y in range(first_y, (y1 + pool_h - 1) // pool_h):
                    ya, yb = pooled_y * pool_h, min(y1, (pooled_y + 1) * pool_h)
                    for pooled_x in range(first_x, (x1 + pool_w - 1) // pool_w):
                        xa, xb = pooled_x * pool_w, min(x1, (pooled_x + 1) * pool_w)
                        pixel = pixels[i] + pooled_y * pooled_w + pooled_x
                        first = ((ya - y0) * span + xa - x0) * columns
                        for f in range(0, columns, n_lanes):
                            best, winner, number = load(convolved, first + f), zero, ZERO
                            for y in range(yb - ya):
                                at = first + f + y * span * columns
                                for _ in range(xb - xa):
                                    value = load(convolved, at)
                                    larger = value - best
                                    winner = where_positive(larger, number, winner)
                                    best = where_positive(larger, value, best)
                                    number += ONE
                                    at += columns
                            if training:
                                store(winners, pixel * columns + f, where_positive(best, winner, MINUS_ONE))
                            best = clamp(best, zero, INFINITY)
                            if f + n_lanes <= filters:
                                store(outputs, pixel * filters + f, best)
                            else:
                                store_partial(outputs, pixel * filters + f, filters - f, best)


@inline
def _write_transposed(values, origin, height, width, channels, top, left, padded_w, identity, plane, plane_pitch):
    """plane[c * plane_pitch + y * padded_w + x] = channel c of the pixel (y - top, x - left), zero around the plane."""
    n_lanes = lanes(values)
    zero = zeros_like(load(plane, 0))
    for c in range(channels):
        for j in range(0, plane_pitch, n_lanes):
            store(plane, c * plane_pitch + j, zero)
    for y in range(height):
        target = (y + top) * padded_w + left
        source = origin + y * width * channels
        if channels == 1:
            for x in range(width):
                plane[target + x] = values[source + x]
        else:
            transpose_into(values, source, identity, 0, width, channels, channels, plane, target, plane_pitch)


@inline
def _write_gradient(
    d_outputs, winners, pixel0, pooled_w, width, y0, y1, pool_h, pool_w, filters, columns, kernel_w, lead, d_convolved,
    d_bias,
):  # fmt: skip
    """The gradient of the convolution in the rows y0 to y1, with zeros around, and its sum added to d_bias.

    `lead` pixels of zeros come first, and kernel_w - 1 behind every row.
    """
    n_lanes = lanes(d_outputs)
    zero = zeros_like(load(d_bias, 0))
    padded_w = width + kernel_w - 1
    for j in range(0, lead * columns, n_lanes):
        store(d_convolved, j, zero)
    for y in range(y1 - y0):
        first = (lead + y * padded_w + width) * columns
        for j in range(0, (kernel_w - 1) * columns, n_lanes):
            store(d_convolved, first + j, zero)
    for pooled_y in range(y0 // pool_h, (y1 + pool_h - 1) // pool_h):
        ya, yb = pooled_y * pool_h, min(y1, (pooled_y + 1) * pool_h)
        for pooled_x in range(pooled_w):
            xa, xb = pooled_x * pool_w, min(width, (pooled_x + 1) * pool_w)
            pixel = pixel0 + pooled_y * pooled_w + pooled_x
            for f in range(0, columns, n_lanes):
                winner = load(winners, pixel * columns + f)
                if f + n_lanes <= filters:
                    d = load(d_outputs, pixel * filters + f)
                else:
                    d = load_partial(d_outputs, pixel * filters + f, filters - f)
                store(d_bias, f, load(d_bias, f) + where_positive(winner + HALF, d, zero))
                number = ZERO
                for y in range(ya, yb):
                    at = (lead + (y - y0) * padded_w + xa) * columns + f
                    for _ in range(xb - xa):
                        store(d_convolved, at, where_positive(HALF - absolute(winner - number), d, zero))
                        number += ONE
                        at += columns


@kernel
def convolve_adjoint(
    values, origins, heights, widths, begin, end, channels, kernel_h, kernel_w, pool_h, pool_w, filters, columns,
    pixels, winners, d_outputs, block_h, plane, plane_pitch, taps, identity, d_convolved, panel, product, d_bias,
    need_input, panels, table, zeros, strip_columns, d_strip, d_origins, d_values,
):  # fmt: skip
    """Gradients of the weights and the bias, summed over the planes begin to end, and of the planes themselves.

    ============  ==========================  ================================================================
    argument      shape                       meaning
    ============  ==========================  ================================================================
    block_h       int                         pooled rows that are taken at once
    plane         (channels * plane_pitch,)   scratch; the pitch is a multiple of a vector's lanes and holds
                                              the largest plane with the zeros around it
    taps          int64 (weights of a         where a weight's part of the transposed plane begins, in the
                  filter,)                    order (channel, y, x)
    identity      int64                       0, 1, ..., at least to the largest width
    d_convolved   (pixels of the block's      scratch
                  rows with zeros
                  + kernel_w - 1) * columns
    panel         PANEL_VECTORS vectors       scratch
                  * SUM_ROWS
    product       (weights of a filter,       written: gradient of the weights
                  columns)
    d_bias        (columns,)                  written
    panels                                    weights (x of the kernel from the right, filter; y, channel), as
                                              `pack_rows` writes them; read if need_input, as all that follow
    table         int64, one for each pixel   scratch
                  of a block
    zeros         (strip_columns,)            zeros
    strip_columns int                         kernel_h * channels, padded to whole vectors
    d_strip       PRODUCT_PIXELS              scratch
                  * strip_columns
    d_origins     int64 (n_planes,)           element of d_values with which each plane begins
    d_values      one-dimensional             added to: gradient of the planes
    ============  ==========================  ================================================================
    """
    n_lanes = lanes(product)
    top, left = (kernel_h - 1) // 2, (kernel_w - 1) // 2
    lead = kernel_w - 1 - left
    step = PANEL_VECTORS * n_lanes
    whole = channels - channels % n_lanes
    zero = zeros_like(load(product, 0))
    for j in range(0, len(product), n_lanes):
        store(product, j, zero)
    for j in range(0, columns, n_lanes):
        store(d_bias, j, zero)
    table_width = -1
    for i in range(begin, end):
        height, width = heights[i], widths[i]
        if height * width == 0:
            continue
        padded_w = width + kernel_w - 1
        pooled_h, pooled_w = (height + pool_h - 1) // pool_h, (width + pool_w - 1) // pool_w
        _write_transposed(
            values, origins[i], height, width, channels, top, left, padded_w, identity, plane, plane_pitch
        )
        for first_y in range(0, pooled_h, block_h):
            y0, y1 = first_y * pool_h, min(height, (first_y + block_h) * pool_h)
            _write_gradient(
                d_outputs, winners, pixels[i], pooled_w, width, y0, y1, pool_h, pool_w, filters, columns, kernel_w,
                lead, d_convolved, d_bias,
            )  # fmt: skip
            # Zeros between the rows let one sum run over all of them.
            n_pixels = (y1 - y0) * padded_w - (kernel_w - 1)
            for first in range(0, n_pixels, SUM_ROWS):
                depth = min(SUM_ROWS, n_pixels - first)
                for column in range(0, columns, step):
                    width_now = min(step, columns - column)
                    factor, factor0 = d_convolved, (lead + first) * columns
                    if width_now != columns:
                        # The rows of a tile's factor must be contiguous.
                        factor, factor0 = panel, 0
                        for r in range(depth):
                            source = (lead + first + r) * columns + column
                            for j in range(0, width_now, n_lanes):
                                store(panel, r * width_now + j, load(d_convolved, source + j))
                    tap = 0
                    while tap < len(taps):
                        rows = height_of_tile(len(taps) - tap)
                        target = tap * columns + column
                        tile(
                            rows, width_now // n_lanes, plane, y0 * padded_w + first, taps, tap, 1, factor, factor0,
                            depth, product, target, columns, product, target, columns,
                        )  # fmt: skip
                        tap += rows
            if not need_input:
                continue
            if width != table_width:
                _write_table(table, block_h * pool_h, width, padded_w)
                table_width = width
            for first in range(0, (y1 - y0) * width, PRODUCT_PIXELS):
                n_pixels = min(PRODUCT_PIXELS, (y1 - y0) * width - first)
                multiply(
                    d_convolved, ORIGIN, table, first, n_pixels, columns, panels, ORIGIN, kernel_w * columns,
                    strip_columns, zeros, ORIGIN, ORIGIN, d_strip, ORIGIN, strip_columns,
                )  # fmt: skip
                y, x = y0 + first // width, first % width
                for r in range(n_pixels):
                    for dy in range(max(0, top - y), min(kernel_h, height + top - y)):
                        target = d_origins[i] + ((y + dy - top) * width + x) * channels
                        source = r * strip_columns + dy * channels
                        for c in range(0, whole, n_lanes):
                            store(d_values, target + c, load(d_values, target + c) + load(d_strip, source + c))
                        for c in range(whole, channels):
                            d_values[target + c] += d_strip[source + c]
                    x += 1
                    if x == width:
                        y, x = y + 1, 0
