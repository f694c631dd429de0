"""One update of the flat parameter vector by each solver, clipping of the gradient included.

parameters, gradient and the solver's moments are contiguous vectors of one float type and one length. An update has to
do with the spans `begins[i]:ends[i]` of them and with nothing else: with one span for all of a dense gradient, with one
for every row that a minibatch has reached of a large table. The last update of span i was `ages[i]` + 1 updates ago;
its moments first decay for the updates that it has missed, as they would have with a gradient of zero. begins, ends and
ages are int64 (n_spans,). The gradient is read, parameters and moments are written. Each kernel

1. takes the Euclidean norm of the gradient, summed in float64 span after span,
2. returns it at once, with nothing written, if it is not finite,
3. scales the gradient to the norm `max_norm` if it is longer (Pascanu, Mikolov and Bengio 2013; infinity for no limit),
4. updates moments and parameters, and returns the norm before clipping.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from numrnn.kernels.cpu.reductions import sum_of_squares
from numrnn.kernels.jit import inline, kernel

__all__ = ["adam", "euclidean_norm", "rmsprop", "scale_spans", "sgd"]


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
        for i in range(begins[span], ends[span]):
            vector[i] *= factor


@kernel
def euclidean_norm(vector):
    """The Euclidean norm, float64."""
    return math.sqrt(sum_of_squares(vector, 0, vector.size))


@kernel
def sgd(parameters, gradient, velocity, begins, ends, ages, learning_rate, momentum, nesterov, max_norm):
    """v = momentum * v + g; p -= learning_rate * v, or with Nesterov's look-ahead learning_rate * (g + momentum * v).

    velocity: float (size,), read and written; of length 0 if momentum is 0 (p -= learning_rate * g).
    """
    norm = _norm_of_spans(gradient, begins, ends)
    if not np.isfinite(norm):
        return norm
    clip = gradient.dtype.type(max_norm / norm if norm > max_norm else 1.0)
    rate = gradient.dtype.type(learning_rate)
    ahead = gradient.dtype.type(momentum)
    for span in range(len(begins)):
        keep = gradient.dtype.type(momentum ** (ages[span] + 1))
        if velocity.size == 0:
            for i in range(begins[span], ends[span]):
                parameters[i] -= rate * (clip * gradient[i])
        elif nesterov:
            for i in range(begins[span], ends[span]):
                g = clip * gradient[i]
                v = keep * velocity[i] + g
                velocity[i] = v
                parameters[i] -= rate * (g + ahead * v)
        else:
            for i in range(begins[span], ends[span]):
                v = keep * velocity[i] + clip * gradient[i]
                velocity[i] = v
                parameters[i] -= rate * v
    return norm


@kernel
def adam(
    parameters,
    gradient,
    mean,
    square,
    begins,
    ends,
    ages,
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
    if not np.isfinite(norm):
        return norm
    number = gradient.dtype.type
    clip = number(max_norm / norm if norm > max_norm else 1.0)
    take_1, take_2 = number(1.0 - beta_1), number(1.0 - beta_2)
    rate = number(learning_rate / (1.0 - beta_1**step))
    root = number(math.sqrt(1.0 - beta_2**step))
    small = number(epsilon)
    kept = number(1.0 - learning_rate * weight_decay)
    for part in range(len(decay_begins)):
        for i in range(decay_begins[part], decay_ends[part]):
            parameters[i] *= kept
    for span in range(len(begins)):
        keep_1, keep_2 = number(beta_1 ** (ages[span] + 1)), number(beta_2 ** (ages[span] + 1))
        for i in range(begins[span], ends[span]):
            g = clip * gradient[i]
            m = keep_1 * mean[i] + take_1 * g
            v = keep_2 * square[i] + take_2 * (g * g)
            mean[i] = m
            square[i] = v
            parameters[i] -= rate * m / (np.sqrt(v) / root + small)
    return norm


@kernel
def rmsprop(parameters, gradient, square, begins, ends, ages, learning_rate, rho, epsilon, max_norm):
    """v = rho * v + (1 - rho) * g**2; p -= learning_rate * g / (sqrt(v) + epsilon).

    square: float (size,), the running mean of g**2, read and written.
    """
    norm = _norm_of_spans(gradient, begins, ends)
    if not np.isfinite(norm):
        return norm
    number = gradient.dtype.type
    clip = number(max_norm / norm if norm > max_norm else 1.0)
    take = number(1.0 - rho)
    rate, small = number(learning_rate), number(epsilon)
    for span in range(len(begins)):
        keep = number(rho ** (ages[span] + 1))
        for i in range(begins[span], ends[span]):
            g = clip * gradient[i]
            v = keep * square[i] + take * (g * g)
            square[i] = v
            parameters[i] -= rate * g / (np.sqrt(v) + small)
    return norm
