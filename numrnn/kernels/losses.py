"""Losses of one row of raw outputs: the value and the gradient, written once for all devices.

Every loss of values has the same signature::

    value = loss(outputs, row, targets, answer, weight, scale, d_outputs)

===========  ==============================  ==========================================================================
argument     type and shape                  meaning
===========  ==============================  ==========================================================================
outputs      float (n_rows, n_outputs)       raw outputs of the network; read
row          int                             the row of them that is meant
targets      float (n_answers, n_columns)    read; NaN is a missing value
answer       int                             the row of targets that belongs to it
weight       float64                         of the row
scale        float64                         factor of the gradient
d_outputs    float (n_rows, n_outputs)       the row is written: scale * weight * (derivative of the row's loss)
value        float64                         weight * loss, not scaled
===========  ==============================  ==========================================================================

Values are computed in float64, whatever the type of the arrays. A row of weight 0 counts for nothing, whatever its
outputs are. The loss of a row is the mean over the targets that are there.

The losses of probabilistic forecasts have several raw outputs for a target, side by side: output
``k * outputs_per_target + p`` is raw number p of target k. Raw numbers are any real numbers; what they mean:

==================  =========================  =====================================================================
loss                raw numbers of a target    distribution of the target t
==================  =========================  =====================================================================
quantile            one for each level         the number of the level nearest 1/2 is its quantile; from there
                                               outwards each quantile lies softplus(raw) beyond the one before
gaussian            m, s                       mean m, standard deviation softplus(s) + `SMALLEST_SCALE`
student_t           m, s, n                    location m, scale softplus(s) + `SMALLEST_SCALE`, degrees of freedom
                                               softplus(n) + 2, so that there is a variance
negative_binomial   m, a                       of counts: mean ``scale * (softplus(m) + SMALLEST_MEAN)``, variance
                                               ``mean + (softplus(a) + SMALLEST_DISPERSION) * mean**2``
==================  =========================  =====================================================================

where softplus(x) = log(1 + exp(x)). The targets of the negative binomial distribution are two columns for each: the
count, and the scale, a positive number that is known beforehand, such as the mean of the series [1]_.

.. [1] Salinas, D., Flunkert, V., Gasthaus, J. and Januschowski, T. (2020). DeepAR: probabilistic forecasting with
   autoregressive recurrent networks. International Journal of Forecasting 36, 1181-1191.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from numrnn.kernels.jit import inline, kernel

__all__ = [
    "SMALLEST_DISPERSION",
    "SMALLEST_MEAN",
    "SMALLEST_SCALE",
    "absolute_error_of_row",
    "count_observed",
    "digamma",
    "gaussian_of_row",
    "huber_of_row",
    "negative_binomial_of_row",
    "quantile_of_row",
    "squared_error_of_row",
    "student_t_of_row",
]

# Bounds that keep a likelihood finite when a distribution shrinks to a point.
SMALLEST_SCALE = 1e-3
SMALLEST_MEAN = 1e-6
SMALLEST_DISPERSION = 1e-4

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


@inline
def _softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@inline
def _sigmoid(x):
    e = math.exp(-abs(x))
    return (1.0 if x >= 0.0 else e) / (1.0 + e)


@kernel
def digamma(x):
    """Derivative of the logarithm of the gamma function for x > 0.

    Bernardo, J. M. (1976). Algorithm AS 103: psi (digamma) function. Applied Statistics 25, 315-317; with a later start
    and more terms of the asymptotic series, for the accuracy of float64.
    """
    shift = 0.0
    while x < 10.0:
        shift -= 1.0 / x
        x += 1.0
    square = 1.0 / (x * x)
    series = square * (
        1.0 / 12.0
        - square
        * (
            1.0 / 120.0
            - square
            * (
                1.0 / 252.0
                - square * (1.0 / 240.0 - square * (1.0 / 132.0 - square * (691.0 / 32760.0 - square / 12.0)))
            )
        )
    )
    return shift + math.log(x) - 0.5 / x - series


@inline
def count_observed(targets, answer, step):
    """How many of a row's targets, of which each has `step` columns, are not NaN in their first one."""
    count = 0
    for k in range(0, targets.shape[1], step):
        count += targets[answer, k] == targets[answer, k]
    return count


@inline
def _clear_row(matrix, row):
    for k in range(matrix.shape[1]):
        matrix[row, k] = 0.0


@inline
def squared_error_of_row(outputs, row, targets, answer, weight, scale, d_outputs):
    """Mean over the outputs of (y - t)**2 (no factor 1/2, as torch.nn.MSELoss)."""
    observed = count_observed(targets, answer, 1)
    if weight == 0.0 or observed == 0:
        _clear_row(d_outputs, row)
        return 0.0
    weight /= observed
    row_loss = 0.0
    for k in range(outputs.shape[1]):
        if targets[answer, k] != targets[answer, k]:
            d_outputs[row, k] = 0.0
            continue
        error = np.float64(outputs[row, k]) - np.float64(targets[answer, k])
        row_loss += error * error
        d_outputs[row, k] = scale * weight * 2.0 * error
    return weight * row_loss


@inline
def absolute_error_of_row(outputs, row, targets, answer, weight, scale, d_outputs):
    """Mean over the outputs of abs(y - t); the derivative at y = t is 0."""
    observed = count_observed(targets, answer, 1)
    if weight == 0.0 or observed == 0:
        _clear_row(d_outputs, row)
        return 0.0
    weight /= observed
    row_loss = 0.0
    for k in range(outputs.shape[1]):
        if targets[answer, k] != targets[answer, k]:
            d_outputs[row, k] = 0.0
            continue
        error = np.float64(outputs[row, k]) - np.float64(targets[answer, k])
        row_loss += abs(error)
        sign = error if error != error else np.float64(error > 0.0) - np.float64(error < 0.0)
        d_outputs[row, k] = scale * weight * sign
    return weight * row_loss


@inline
def huber_of_row(outputs, row, targets, answer, weight, scale, d_outputs):
    """Mean over the outputs of Huber's loss: e**2 / 2 for abs(e) <= 1, else abs(e) - 1/2, with e = y - t [1]_.

    .. [1] Huber, P. J. (1964). Robust estimation of a location parameter. Annals of Mathematical Statistics 35, 73-101.
    """
    observed = count_observed(targets, answer, 1)
    if weight == 0.0 or observed == 0:
        _clear_row(d_outputs, row)
        return 0.0
    weight /= observed
    row_loss = 0.0
    for k in range(outputs.shape[1]):
        if targets[answer, k] != targets[answer, k]:
            d_outputs[row, k] = 0.0
            continue
        error = np.float64(outputs[row, k]) - np.float64(targets[answer, k])
        if abs(error) > 1.0:
            row_loss += abs(error) - 0.5
            d_outputs[row, k] = scale * weight * (1.0 if error > 0.0 else -1.0)
        else:
            row_loss += 0.5 * error * error
            d_outputs[row, k] = scale * weight * error
    return weight * row_loss


@inline
def quantile_of_row(outputs, row, targets, answer, weight, levels, scale, d_outputs):
    """Mean over targets and levels of the pinball loss: level * (t - q) for t > q, else (1 - level) * (q - t) [1]_.

    levels: float64 (n_levels,), between 0 and 1, increasing; read. The quantiles never cross. The derivative at t = q
    is that of t < q.

    .. [1] Koenker, R. and Bassett, G. (1978). Regression quantiles. Econometrica 46, 33-50.
    """
    n_levels = levels.size
    n_targets = targets.shape[1]
    anchor = 0
    for j in range(1, n_levels):
        if abs(levels[j] - 0.5) < abs(levels[anchor] - 0.5):
            anchor = j
    observed = count_observed(targets, answer, 1)
    if weight == 0.0 or observed == 0:
        _clear_row(d_outputs, row)
        return 0.0
    weight /= observed * n_levels
    factor = scale * weight
    row_loss = 0.0
    for k in range(n_targets):
        first = k * n_levels
        target = np.float64(targets[answer, k])
        if target != target:
            for j in range(n_levels):
                d_outputs[row, first + j] = 0.0
            continue
        # From the anchor to one side, then to the other: the derivative by each quantile is left in d_outputs.
        center = np.float64(outputs[row, first + anchor])
        value = center
        for j in range(anchor, n_levels):
            if j > anchor:
                value += _softplus(np.float64(outputs[row, first + j]))
            error = value - target
            slope = error if error != error else (-levels[j] if error < 0.0 else 1.0 - levels[j])
            row_loss += slope * error
            d_outputs[row, first + j] = factor * slope
        value = center
        for j in range(anchor - 1, -1, -1):
            value -= _softplus(np.float64(outputs[row, first + j]))
            error = value - target
            slope = error if error != error else (-levels[j] if error < 0.0 else 1.0 - levels[j])
            row_loss += slope * error
            d_outputs[row, first + j] = factor * slope
        # A raw number moves its own quantile and all beyond it.
        beyond = 0.0
        for j in range(n_levels - 1, anchor, -1):
            beyond += np.float64(d_outputs[row, first + j])
            d_outputs[row, first + j] = beyond * _sigmoid(np.float64(outputs[row, first + j]))
        below = 0.0
        for j in range(anchor):
            below += np.float64(d_outputs[row, first + j])
            d_outputs[row, first + j] = -below * _sigmoid(np.float64(outputs[row, first + j]))
        d_outputs[row, first + anchor] = np.float64(d_outputs[row, first + anchor]) + beyond + below
    return weight * row_loss


@inline
def gaussian_of_row(outputs, row, targets, answer, weight, scale, d_outputs):
    """Negative logarithm of the normal density: log(2 pi) / 2 + log(sigma) + ((t - mean) / sigma)**2 / 2."""
    n_targets = targets.shape[1]
    observed = count_observed(targets, answer, 1)
    if weight == 0.0 or observed == 0:
        _clear_row(d_outputs, row)
        return 0.0
    weight /= observed
    factor = scale * weight
    row_loss = 0.0
    for k in range(n_targets):
        target = np.float64(targets[answer, k])
        if target != target:
            d_outputs[row, 2 * k] = 0.0
            d_outputs[row, 2 * k + 1] = 0.0
            continue
        raw_scale = np.float64(outputs[row, 2 * k + 1])
        sigma = _softplus(raw_scale) + SMALLEST_SCALE
        z = (target - np.float64(outputs[row, 2 * k])) / sigma
        row_loss += _HALF_LOG_TWO_PI + math.log(sigma) + 0.5 * z * z
        d_outputs[row, 2 * k] = -factor * z / sigma
        d_outputs[row, 2 * k + 1] = factor * (1.0 - z * z) / sigma * _sigmoid(raw_scale)
    return weight * row_loss


@inline
def student_t_of_row(outputs, row, targets, answer, weight, scale, d_outputs):
    """Negative logarithm of the density of Student's t with location, scale and degrees of freedom."""
    n_targets = targets.shape[1]
    observed = count_observed(targets, answer, 1)
    if weight == 0.0 or observed == 0:
        _clear_row(d_outputs, row)
        return 0.0
    weight /= observed
    factor = scale * weight
    row_loss = 0.0
    for k in range(n_targets):
        target = np.float64(targets[answer, k])
        first = 3 * k
        if target != target:
            for p in range(3):
                d_outputs[row, first + p] = 0.0
            continue
        raw_scale = np.float64(outputs[row, first + 1])
        raw_freedom = np.float64(outputs[row, first + 2])
        sigma = _softplus(raw_scale) + SMALLEST_SCALE
        nu = _softplus(raw_freedom) + 2.0
        z = (target - np.float64(outputs[row, first])) / sigma
        share = z * z / (nu + z * z)
        tail = math.log1p(z * z / nu)
        row_loss += (
            math.lgamma(0.5 * nu)
            - math.lgamma(0.5 * (nu + 1.0))
            + 0.5 * math.log(nu * math.pi)
            + math.log(sigma)
            + 0.5 * (nu + 1.0) * tail
        )
        d_outputs[row, first] = -factor * (nu + 1.0) * z / (nu + z * z) / sigma
        d_outputs[row, first + 1] = factor * (1.0 - (nu + 1.0) * share) / sigma * _sigmoid(raw_scale)
        d_nu = digamma(0.5 * nu) - digamma(0.5 * (nu + 1.0)) + 1.0 / nu + tail - (nu + 1.0) * share / nu
        d_outputs[row, first + 2] = 0.5 * factor * d_nu * _sigmoid(raw_freedom)
    return weight * row_loss


@inline
def negative_binomial_of_row(outputs, row, targets, answer, weight, scale, d_outputs):
    """Negative logarithm of the probability of counts; targets (n_rows, 2 * n_targets): counts and scales by turns."""
    observed = count_observed(targets, answer, 2)
    if weight == 0.0 or observed == 0:
        _clear_row(d_outputs, row)
        return 0.0
    weight /= observed
    factor = scale * weight
    row_loss = 0.0
    for k in range(targets.shape[1] // 2):
        count = np.float64(targets[answer, 2 * k])
        if count != count:
            d_outputs[row, 2 * k] = 0.0
            d_outputs[row, 2 * k + 1] = 0.0
            continue
        size = np.float64(targets[answer, 2 * k + 1])
        raw_mean = np.float64(outputs[row, 2 * k])
        raw_dispersion = np.float64(outputs[row, 2 * k + 1])
        mean = size * (_softplus(raw_mean) + SMALLEST_MEAN)
        dispersion = _softplus(raw_dispersion) + SMALLEST_DISPERSION
        inverse = 1.0 / dispersion
        spread = math.log1p(dispersion * mean)
        row_loss += (
            math.lgamma(count + 1.0)
            + math.lgamma(inverse)
            - math.lgamma(count + inverse)
            + (inverse + count) * spread
            - count * math.log(dispersion * mean)
        )
        d_mean = (mean - count) / (mean * (1.0 + dispersion * mean))
        d_dispersion = (
            inverse * inverse * (digamma(count + inverse) - digamma(inverse) - spread)
            + (mean * (inverse + count)) / (1.0 + dispersion * mean)
            - count * inverse
        )
        d_outputs[row, 2 * k] = factor * d_mean * size * _sigmoid(raw_mean)
        d_outputs[row, 2 * k + 1] = factor * d_dispersion * _sigmoid(raw_dispersion)
    return weight * row_loss
