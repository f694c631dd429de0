"""Convolution, relu and max-pooling by their definitions, one sequence and one number at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from oracle.cells import Array


def _padded(image: Array, kernel: tuple[int, int]) -> Array:
    """Zeros around an image (height, width, channels): (k - 1) // 2 before, the rest of k - 1 behind."""
    around = [((k - 1) // 2, k - 1 - (k - 1) // 2) for k in kernel]
    return np.pad(image, [*around, (0, 0)])


def convolve(image: Array, weight: Array, bias: Array) -> Array:
    """(height, width, filters) of an image (height, width, channels); weight (filters, channels, rows, columns)."""
    height, width, _ = image.shape
    rows, columns = weight.shape[2:]
    padded = _padded(image, (rows, columns))
    result = np.zeros((height, width, len(weight)))
    for y in range(height):
        for x in range(width):
            window = padded[y : y + rows, x : x + columns]
            for f in range(len(weight)):
                result[y, x, f] = bias[f] + (window * weight[f].transpose(1, 2, 0)).sum()
    return result


def pool(values: Array, size: tuple[int, int]) -> tuple[Array, NDArray[np.int64]]:
    """Maximum over each pool, the last ones smaller, and where it lies (y, x), the first of equals."""
    height, width, filters = values.shape
    shape = (-(-height // size[0]), -(-width // size[1]), filters)
    result, where = np.zeros(shape), np.zeros((*shape, 2), dtype=np.int64)
    for y, x, f in np.ndindex(*shape):
        window = values[y * size[0] : (y + 1) * size[0], x * size[1] : (x + 1) * size[1], f]
        inside = np.unravel_index(window.argmax(), window.shape)
        result[y, x, f] = window[inside]
        where[y, x, f] = (y * size[0] + inside[0], x * size[1] + inside[1])
    return result, where


def forward(image: Array, weight: Array, bias: Array, size: tuple[int, int]) -> Array:
    return pool(np.maximum(convolve(image, weight, bias), 0), size)[0]


def backward(
    image: Array, weight: Array, bias: Array, size: tuple[int, int], d_result: Array
) -> tuple[Array, Array, Array]:
    """Gradients of the image, the weight and the bias."""
    convolved = convolve(image, weight, bias)
    rows, columns = weight.shape[2:]
    padded = _padded(image, (rows, columns))
    d_padded, d_weight, d_bias = np.zeros(padded.shape), np.zeros(weight.shape), np.zeros(bias.shape)
    _, where = pool(np.maximum(convolved, 0), size)
    for index in np.ndindex(*d_result.shape):
        f, (y, x) = index[2], where[index]
        if convolved[y, x, f] > 0:
            d = d_result[index]
            d_bias[f] += d
            d_weight[f] += d * padded[y : y + rows, x : x + columns].transpose(2, 0, 1)
            d_padded[y : y + rows, x : x + columns] += d * weight[f].transpose(1, 2, 0)
    top, left = (rows - 1) // 2, (columns - 1) // 2
    return d_padded[top : top + image.shape[0], left : left + image.shape[1]], d_weight, d_bias
