"""One update of the flat parameter vector on the device, without a word to the host.

parameters, gradient and the solver's moments are contiguous vectors of one float type and one length. What the host
would have to know in order to go on stays on the device: `conclude` ends a minibatch by writing its loss and the norm
of its gradient to `record`, and if one of them is not finite, its number to `failed`; updates then do nothing any more,
until the host looks at the end of the epoch. Sums are in an order that depends on nothing but the sizes.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np
from numba import cuda

from numrnn.kernels.cuda.grids import THREADS, block_sum, kernel, plain, vector_grid
from numrnn.kernels.updates import clip_factor, momentum_step, nesterov_step, rmsprop_step, scaled_step

__all__ = ["PARTS", "adam", "conclude", "rmsprop", "sgd"]

_clip_factor = plain(clip_factor)
_momentum_step = plain(momentum_step)
_nesterov_step = plain(nesterov_step)
_rmsprop_step = plain(rmsprop_step)
_scaled_step = plain(scaled_step)

# Blocks that add up squares, each a part of them.
PARTS = 256


@kernel
def _squares(parameters, gradient, weight_marks, strength, parts):
    """Add the gradient of the penalty, and sum squares: of the gradient to parts[0], of the weights to parts[1]."""
    scratch = cuda.shared.array(THREADS, np.float64)
    number = gradient.dtype.type
    of_gradient = of_weights = 0.0
    for i in range(cuda.grid(1), gradient.size, cuda.gridsize(1)):
        g = gradient[i]
        if strength != 0.0 and weight_marks[i] != 0:
            p = parameters[i]
            of_weights += np.float64(p) * np.float64(p)
            g += number(strength) * p
            gradient[i] = g
        of_gradient += np.float64(g) * np.float64(g)
    of_gradient = block_sum(of_gradient, scratch)
    of_weights = block_sum(of_weights, scratch)
    if cuda.threadIdx.x == 0:
        parts[cuda.blockIdx.x] = of_gradient
        parts[PARTS + cuda.blockIdx.x] = of_weights


@kernel
def _conclude(parts, n_parts, losses, n_losses, loss_scale, penalty, max_norm, record, place, failed, clip):
    """One block: from sums to the loss, the norm and the factor that clips it."""
    scratch = cuda.shared.array(THREADS, np.float64)
    me = cuda.threadIdx.x
    of_gradient = of_weights = of_losses = 0.0
    for part in range(me, n_parts, THREADS):
        of_gradient += parts[part]
        of_weights += parts[PARTS + part]
    for row in range(me, n_losses, THREADS):
        of_losses += losses[row]
    of_gradient = block_sum(of_gradient, scratch)
    of_weights = block_sum(of_weights, scratch)
    of_losses = block_sum(of_losses, scratch)
    if me == 0:
        loss = of_losses * loss_scale + 0.5 * penalty * of_weights
        norm = math.sqrt(of_gradient)
        if failed[0] < 0:
            record[2 * place] = loss
            record[2 * place + 1] = norm
            if not (math.isfinite(loss) and math.isfinite(norm)):
                failed[0] = place
        clip[0] = _clip_factor(norm, max_norm)


def conclude(
    queue, parameters, gradient, weight_marks, strength, parts, losses, n_losses, loss_scale, penalty, max_norm,
    record, place, failed, clip,
):  # fmt: skip
    """End a minibatch.

    ============  ===================  ==============================================================================
    argument      type and shape       meaning
    ============  ===================  ==============================================================================
    gradient      float (size,)        that of the penalty, strength * parameter, is added for all weights
    weight_marks  uint8 (size,)        1 for the parameters that are weights
    strength      float64              0 for no penalty
    parts         float64 (2 * PARTS,) scratch
    losses        float64 (>= n_losses,)  weight * loss of each row; read
    loss_scale    float64              factor of their sum
    penalty       float64              half of it times the sum of the squared weights is part of the loss
    record        float64              elements 2 * place and 2 * place + 1 receive the loss and the norm
    failed        int64 (1,)           `place` is written if one of them is not finite and nothing was before
    clip          float64 (1,)         receives the factor of the gradient in the update
    ============  ===================  ==============================================================================
    """
    grid, threads = vector_grid(gradient.size, PARTS)
    _squares[grid, threads, queue](parameters, gradient, weight_marks, strength, parts)
    _conclude[1, THREADS, queue](
        parts, grid, losses, n_losses, loss_scale, penalty, max_norm, record, place, failed, clip
    )


@kernel
def _sgd(parameters, gradient, clip, failed, rate):
    if failed[0] >= 0:
        return
    factor = gradient.dtype.type(clip[0])
    for i in range(cuda.grid(1), parameters.size, cuda.gridsize(1)):
        parameters[i] -= rate * (factor * gradient[i])


@kernel
def _momentum(parameters, gradient, velocity, clip, failed, rate, keep, nesterov):
    if failed[0] >= 0:
        return
    factor = gradient.dtype.type(clip[0])
    for i in range(cuda.grid(1), parameters.size, cuda.gridsize(1)):
        g = factor * gradient[i]
        if nesterov:
            p, v = _nesterov_step(parameters[i], g, velocity[i], rate, keep)
        else:
            p, v = _momentum_step(parameters[i], g, velocity[i], rate, keep)
        parameters[i] = p
        velocity[i] = v


@kernel
def _adam(
    parameters, gradient, mean, square, marks, clip, failed, rate, root, keep_1, take_1, keep_2, take_2, small, kept
):
    if failed[0] >= 0:
        return
    factor = gradient.dtype.type(clip[0])
    for i in range(cuda.grid(1), parameters.size, cuda.gridsize(1)):
        p = parameters[i]
        if marks.size > 0 and marks[i] != 0:
            p *= kept
        p, m, s = _scaled_step(
            p, factor * gradient[i], mean[i], square[i], rate, root, keep_1, take_1, keep_2, take_2, small
        )
        parameters[i] = p
        mean[i] = m
        square[i] = s


@kernel
def _rmsprop(parameters, gradient, square, clip, failed, rate, keep, take, small):
    if failed[0] >= 0:
        return
    factor = gradient.dtype.type(clip[0])
    for i in range(cuda.grid(1), parameters.size, cuda.gridsize(1)):
        p, s = _rmsprop_step(parameters[i], factor * gradient[i], square[i], rate, keep, take, small)
        parameters[i] = p
        square[i] = s


def sgd(queue, parameters, gradient, velocity, clip, failed, rate, momentum, nesterov):
    """As `numrnn.kernels.cpu.solvers.sgd`; velocity is None without momentum. Numbers are of the vectors' type."""
    grid = vector_grid(parameters.size)
    if velocity is None:
        _sgd[*grid, queue](parameters, gradient, clip, failed, rate)
    else:
        _momentum[*grid, queue](parameters, gradient, velocity, clip, failed, rate, momentum, nesterov)


def adam(
    queue, parameters, gradient, mean, square, marks, clip, failed, rate, root, keep_1, take_1, keep_2, take_2, small,
    kept,
):  # fmt: skip
    """As `numrnn.kernels.cpu.solvers.adam`; `marks`, uint8, is 1 where parameters are multiplied by `kept` first."""
    _adam[*vector_grid(parameters.size), queue](
        parameters, gradient, mean, square, marks, clip, failed, rate, root, keep_1, take_1, keep_2, take_2, small, kept
    )


def rmsprop(queue, parameters, gradient, square, clip, failed, rate, keep, take, small):
    """As `numrnn.kernels.cpu.solvers.rmsprop`."""
    _rmsprop[*vector_grid(parameters.size), queue](parameters, gradient, square, clip, failed, rate, keep, take, small)


def examples():
    """Kernels with the types of their arguments: what a check without a device compiles."""
    for f in ("f4", "f8"):
        v, control = f"{f}[::1]", ("f8[::1]", "i8[::1]")
        yield f"squares {f}", _squares, (v, v, "u1[::1]", "f8", "f8[::1]")
        yield f"sgd {f}", _sgd, (v, v, *control, f)
        yield f"momentum {f}", _momentum, (v, v, v, *control, f, f, "b1")
        yield f"adam {f}", _adam, (v, v, v, v, "u1[::1]", *control, *8 * (f,))
        yield f"rmsprop {f}", _rmsprop, (v, v, v, *control, *4 * (f,))
    numbers = ("f8[::1]", "i8", "f8[::1]", "i8", "f8", "f8", "f8", "f8[::1]", "i8", "i8[::1]", "f8[::1]")
    yield "conclude", _conclude, numbers
