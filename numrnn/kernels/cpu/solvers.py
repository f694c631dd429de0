"""One update of the flat parameter vector by each solver, clipping of the gradient included.

parameters, gradient and the solver's moments are contiguous vectors of one float type and one length. An update has to
do with the spans `begins[i]:ends[i]` of them and with nothing else: with one span for all of a dense gradient, with one
for every row that a minibatch has reached of a large table. begins and ends are int64 (n_spans,). The gradient is read,
parameters and moments are written. Each kernel

1. takes the Euclidean norm of the gradient, summed in float64 span after span,
2. returns it at once, with nothing written, if it is not finite,
3. scales the gradient to the norm `max_norm` if it is longer (Pascanu, Mikolov and Bengio 2013; infinity for no limit),
4. updates moments and parameters, and returns the norm before clipping.

Loops go over views of the spans, whose index begins at 0: only then are they computed in vectors.

The kernels `..._spans` are the last step alone, for a gradient that is scaled by a given factor.

The kernels `..._missed` make at once the updates that spans have missed, `ages[i]` (int64) of them, as they would have
been with gradients of zero: moments decay, and go on moving the parameters while they do.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from numrnn.kernels.cpu.reductions import sum_of_squares
from numrnn.kernels.jit import ZERO, inline, kernel
from numrnn.kernels.updates import (
    adam_factors,
    clip_factor,
    momentum_step,
    nesterov_step,
    rmsprop_step,
    scaled_step,
)

__all__ = [
    "adam",
    "adam_missed",
    "adam_spans",
    "euclidean_norm",
    "rmsprop",
    "rmsprop_missed",
    "rmsprop_spans",
    "scale_spans",
    "sgd",
    "sgd_missed",
    "sgd_spans",
]

# Terms of a sum that are smaller than this part of the first one do not count.
_NEGLIGIBLE = 1e-17


@inline
def _norm_of_spans(vector, begins, ends):
    total = 0.0
    for span in range(len(begins)):
        total += sum_of_squares(vector, begins[span], ends[span])
    return math.sqrt(total)


@kernel
def scale_spans(vector, begins, ends, factor):
    """Multiply the spans of a vector by a factor."""
    for span in range(len(begins)):
        own = vector[begins[span] : ends[span]]
        for i in range(len(own)):
            own[i] *= factor


@kernel
def euclidean_norm(vector):
    """The Euclidean norm, float64."""
    return math.sqrt(sum_of_squares(vector, 0, vector.size))


@kernel
def sgd_spans(parameters, gradient, begins, ends, factor, step, learning_rate, velocity, momentum, nesterov):
    """The update of `sgd` for a gradient that is scaled by a factor; step is not used."""
    clip = gradient.dtype.type(factor)
    rate = gradient.dtype.type(learning_rate)
    keep = gradient.dtype.type(momentum)
    for span in range(len(begins)):
        begin, end = begins[span], ends[span]
        p, grad, velocity_ = parameters[begin:end], gradient[begin:end], velocity[begin:end]
        if velocity.size == 0:
            for i in range(end - begin):
                p[i] -= rate * (clip * grad[i])
        elif nesterov:
            for i in range(end - begin):
                p[i], velocity_[i] = nesterov_step(p[i], clip * grad[i], velocity_[i], rate, keep)
        else:
            for i in range(end - begin):
                p[i], velocity_[i] = momentum_step(p[i], clip * grad[i], velocity_[i], rate, keep)


@kernel
def sgd(parameters, gradient, velocity, begins, ends, learning_rate, momentum, nesterov, max_norm):
    """v = momentum * v + g; p -= learning_rate * v, or with Nesterov's look-ahead learning_rate * (g + momentum * v).

    velocity: float (size,), read and written; of length 0 if momentum is 0 (p -= learning_rate * g).
    """
    norm = _norm_of_spans(gradient, begins, ends)
    if np.isfinite(norm):
        factor = clip_factor(norm, max_norm)
        sgd_spans(parameters, gradient, begins, ends, factor, ZERO, learning_rate, velocity, momentum, nesterov)
    return norm


@kernel
def sgd_missed(parameters, velocity, begins, ends, ages, learning_rate, momentum, nesterov):
    """The updates of `sgd` that spans have missed: velocities decay by the momentum and move on."""
    number = parameters.dtype.type
    for span in range(len(begins)):
        keep = momentum ** ages[span]
        distance = momentum * (1.0 - keep) / (1.0 - momentum)
        rate = number(learning_rate * (momentum * distance if nesterov else distance))
        decay = number(keep)
        p, velocity_ = parameters[begins[span] : ends[span]], velocity[begins[span] : ends[span]]
        for i in range(len(p)):
            p[i] -= rate * velocity_[i]
            velocity_[i] *= decay


@kernel
def adam_spans(
    parameters,
    gradient,
    begins,
    ends,
    factor,
    step,
    learning_rate,
    mean,
    square,
    beta_1,
    beta_2,
    epsilon,
    weight_decay,
    decay_begins,
    decay_ends,
):
    """The update of `adam` for a gradient that is scaled by a factor."""
    number = gradient.dtype.type
    clip = number(factor)
    take_1, take_2 = number(1.0 - beta_1), number(1.0 - beta_2)
    corrected, correction = adam_factors(step, learning_rate, beta_1, beta_2)
    rate, root = number(corrected), number(correction)
    small = number(epsilon)
    kept = number(1.0 - learning_rate * weight_decay)
    for part in range(len(decay_begins)):
        p = parameters[decay_begins[part] : decay_ends[part]]
        for i in range(len(p)):
            p[i] *= kept
    keep_1, keep_2 = number(beta_1), number(beta_2)
    for span in range(len(begins)):
        begin, end = begins[span], ends[span]
        p, grad, mean_, square_ = parameters[begin:end], gradient[begin:end], mean[begin:end], square[begin:end]
        for i in range(end - begin):
            p[i], mean_[i], square_[i] = scaled_step(
                p[i], clip * grad[i], mean_[i], square_[i], rate, root, keep_1, take_1, keep_2, take_2, small
            )


@kernel
def adam(
    parameters,
    gradient,
    mean,
    square,
    begins,
    ends,
    step,
    learning_rate,
    beta_1,
    beta_2,
    epsilon,
    weight_decay,
    decay_begins,
    decay_ends,
    max_norm,
):
    """Algorithm 1 of Kingma and Ba (2015): p -= learning_rate * m_hat / (sqrt(v_hat) + epsilon).

    mean, square: float (size,), the running means of g and g**2, read and written. step: int, 1 at the first update.
    decay_begins, decay_ends: int64 (n_parts,); these parts of the parameters are first multiplied by
    1 - learning_rate * weight_decay (the decoupled decay of Loshchilov and Hutter 2019).
    """
    norm = _norm_of_spans(gradient, begins, ends)
    if np.isfinite(norm):
        adam_spans(
            parameters,
            gradient,
            begins,
            ends,
            clip_factor(norm, max_norm),
            step,
            learning_rate,
            mean,
            square,
            beta_1,
            beta_2,
            epsilon,
            weight_decay,
            decay_begins,
            decay_ends,
        )
    return norm


@kernel
def adam_missed(parameters, mean, square, begins, ends, ages, n_updates, learning_rate, beta_1, beta_2, epsilon):
    """The updates of `adam` that spans have missed; n_updates: int, those made so far.

    With gradients of zero the ratio of the two means falls by beta_1 / sqrt(beta_2) in every update, so that the way of
    a parameter is its first step times a sum that all elements of a span share. (Only epsilon is taken as it is in the
    first of them.)
    """
    number = parameters.dtype.type
    ratio = beta_1 / math.sqrt(beta_2)
    for span in range(len(begins)):
        first = n_updates - ages[span] + 1
        distance, share = 0.0, 1.0
        power_1, power_2 = beta_1 ** (first - 1), beta_2 ** (first - 1)
        for _ in range(ages[span]):
            share *= ratio
            if share < _NEGLIGIBLE:
                break
            power_1 *= beta_1
            power_2 *= beta_2
            distance += share * math.sqrt(1.0 - power_2) / (1.0 - power_1)
        rate = number(learning_rate * distance)
        small = number(epsilon * math.sqrt(1.0 - beta_2**first) / math.sqrt(beta_2))
        decay_1, decay_2 = number(beta_1 ** ages[span]), number(beta_2 ** ages[span])
        begin, end = begins[span], ends[span]
        p, mean_, square_ = parameters[begin:end], mean[begin:end], square[begin:end]
        for i in range(end - begin):
            p[i] -= rate * mean_[i] / (np.sqrt(square_[i]) + small)
            mean_[i] *= decay_1
            square_[i] *= decay_2


@kernel
def rmsprop_missed(square, begins, ends, ages, rho):
    """The updates of `rmsprop` that spans have missed: nothing moves, the means decay."""
    for span in range(len(begins)):
        decay = square.dtype.type(rho ** ages[span])
        square_ = square[begins[span] : ends[span]]
        for i in range(len(square_)):
            square_[i] *= decay


@kernel
def rmsprop_spans(parameters, gradient, begins, ends, factor, step, learning_rate, square, rho, epsilon):
    """The update of `rmsprop` for a gradient that is scaled by a factor; step is not used."""
    number = gradient.dtype.type
    clip = number(factor)
    take = number(1.0 - rho)
    rate, small, keep = number(learning_rate), number(epsilon), number(rho)
    for span in range(len(begins)):
        begin, end = begins[span], ends[span]
        p, grad, square_ = parameters[begin:end], gradient[begin:end], square[begin:end]
        for i in range(end - begin):
            p[i], square_[i] = rmsprop_step(p[i], clip * grad[i], square_[i], rate, keep, take, small)


@kernel
def rmsprop(parameters, gradient, square, begins, ends, learning_rate, rho, epsilon, max_norm):
    """v = rho * v + (1 - rho) * g**2; p -= learning_rate * g / (sqrt(v) + epsilon).

    square: float (size,), the running mean of g**2, read and written.
    """
    norm = _norm_of_spans(gradient, begins, ends)
    if np.isfinite(norm):
        factor = clip_factor(norm, max_norm)
        rmsprop_spans(parameters, gradient, begins, ends, factor, ZERO, learning_rate, square, rho, epsilon)
    return norm
