"""One update of the flat parameter vector by each solver, clipping of the gradient included.

parameters, gradient and the solver's moments are contiguous vectors of one float type and one length. The gradient is
read, parameters and moments are written. Each kernel

1. takes the Euclidean norm of the whole gradient, summed in float64 in a fixed order,
2. returns it at once, with nothing written, if it is not finite,
3. scales the gradient to the norm `max_norm` if it is longer (Pascanu, Mikolov and Bengio 2013; infinity for no limit),
4. updates moments and parameters, and returns the norm before clipping.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from numrnn.kernels.cpu.reductions import sum_of_squares
from numrnn.kernels.jit import kernel

__all__ = ["adam", "euclidean_norm", "rmsprop", "sgd"]


@kernel
def euclidean_norm(vector):
    """The Euclidean norm, float64."""
    return math.sqrt(sum_of_squares(vector, 0, vector.size))


@kernel
def sgd(parameters, gradient, velocity, learning_rate, momentum, nesterov, max_norm):
    """v = momentum * v + g; p -= learning_rate * v, or with Nesterov's look-ahead learning_rate * (g + momentum * v).

    velocity: float (size,), read and written; of length 0 if momentum is 0 (p -= learning_rate * g).
    """
    norm = math.sqrt(sum_of_squares(gradient, 0, gradient.size))
    if not np.isfinite(norm):
        return norm
    clip = gradient.dtype.type(max_norm / norm if norm > max_norm else 1.0)
    rate = gradient.dtype.type(learning_rate)
    keep = gradient.dtype.type(momentum)
    if velocity.size == 0:
        for i in range(parameters.size):
            parameters[i] -= rate * (clip * gradient[i])
    elif nesterov:
        for i in range(parameters.size):
            g = clip * gradient[i]
            v = keep * velocity[i] + g
            velocity[i] = v
            parameters[i] -= rate * (g + keep * v)
    else:
        for i in range(parameters.size):
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
    step,
    learning_rate,
    beta_1,
    beta_2,
    epsilon,
    weight_decay,
    begins,
    ends,
    max_norm,
):
    """Algorithm 1 of Kingma and Ba (2015): p -= learning_rate * m_hat / (sqrt(v_hat) + epsilon).

    mean, square: float (size,), the running means of g and g**2, read and written. step: int, 1 at the first update.
    begins, ends: int64 (n_parts,); the parts `begins[i]:ends[i]` of the parameters are first multiplied by
    1 - learning_rate * weight_decay (the decoupled decay of Loshchilov and Hutter 2019).
    """
    norm = math.sqrt(sum_of_squares(gradient, 0, gradient.size))
    if not np.isfinite(norm):
        return norm
    number = gradient.dtype.type
    clip = number(max_norm / norm if norm > max_norm else 1.0)
    keep_1, take_1 = number(beta_1), number(1.0 - beta_1)
    keep_2, take_2 = number(beta_2), number(1.0 - beta_2)
    rate = number(learning_rate / (1.0 - beta_1**step))
    root = number(math.sqrt(1.0 - beta_2**step))
    small = number(epsilon)
    kept = number(1.0 - learning_rate * weight_decay)
    for part in range(begins.size):
        for i in range(begins[part], ends[part]):
            parameters[i] *= kept
    for i in range(parameters.size):
        g = clip * gradient[i]
        m = keep_1 * mean[i] + take_1 * g
        v = keep_2 * square[i] + take_2 * (g * g)
        mean[i] = m
        square[i] = v
        parameters[i] -= rate * m / (np.sqrt(v) / root + small)
    return norm


@kernel
def rmsprop(parameters, gradient, square, learning_rate, rho, epsilon, max_norm):
    """v = rho * v + (1 - rho) * g**2; p -= learning_rate * g / (sqrt(v) + epsilon).

    square: float (size,), the running mean of g**2, read and written.
    """
    norm = math.sqrt(sum_of_squares(gradient, 0, gradient.size))
    if not np.isfinite(norm):
        return norm
    number = gradient.dtype.type
    clip = number(max_norm / norm if norm > max_norm else 1.0)
    keep, take = number(rho), number(1.0 - rho)
    rate, small = number(learning_rate), number(epsilon)
    for i in range(parameters.size):
        g = clip * gradient[i]
        v = keep * square[i] + take * (g * g)
        square[i] = v
        parameters[i] -= rate * g / (np.sqrt(v) + small)
    return norm
