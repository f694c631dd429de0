"""What a solver does to one parameter, written once for all devices.

Every function takes a parameter, its gradient and its moments, and returns the new parameter and moments. All values
are of the network's floating-point type. What all parameters of an update have in common comes from the functions
`..._factors`, in float64.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

from numrnn.kernels.jit import inline

__all__ = ["adam_factors", "clip_factor", "momentum_step", "nesterov_step", "rmsprop_step", "scaled_step"]


@inline
def clip_factor(norm, max_norm):
    """What scales a gradient of that norm to `max_norm`, if it is longer (Pascanu, Mikolov and Bengio 2013)."""
    return max_norm / norm if norm > max_norm else 1.0


@inline
def momentum_step(parameter, gradient, velocity, rate, keep):
    """v = keep * v + g; p -= rate * v."""
    velocity = keep * velocity + gradient
    return parameter - rate * velocity, velocity


@inline
def nesterov_step(parameter, gradient, velocity, rate, keep):
    """v = keep * v + g; p -= rate * (g + keep * v)."""
    velocity = keep * velocity + gradient
    return parameter - rate * (gradient + keep * velocity), velocity


@inline
def adam_factors(step, learning_rate, beta_1, beta_2):
    """The rate and the root that correct both means for their start at zero; step is 1 at the first update."""
    return learning_rate / (1.0 - beta_1**step), math.sqrt(1.0 - beta_2**step)


@inline
def scaled_step(parameter, gradient, mean, square, rate, root, keep_1, take_1, keep_2, take_2, small):
    """Algorithm 1 of Kingma and Ba (2015): p -= rate * m / (sqrt(v) / root + small)."""
    mean = keep_1 * mean + take_1 * gradient
    square = keep_2 * square + take_2 * (gradient * gradient)
    return parameter - rate * mean / (math.sqrt(square) / root + small), mean, square


@inline
def rmsprop_step(parameter, gradient, square, rate, keep, take, small):
    """v = keep * v + take * g**2; p -= rate * g / (sqrt(v) + small)."""
    square = keep * square + take * (gradient * gradient)
    return parameter - rate * gradient / (math.sqrt(square) + small), square
