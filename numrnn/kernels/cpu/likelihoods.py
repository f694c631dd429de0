"""Losses of probabilistic forecasts: quantiles, and the negative log-likelihoods of distributions.

They have the signature and the contract of the losses in `numrnn.kernels.cpu.losses`, but a target has several raw
outputs, side by side. What they mean is in `numrnn.kernels.losses`, where the loss of one row is.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import Any, NamedTuple

from numrnn.kernels.cpu.losses import rows_kernel
from numrnn.kernels.jit import kernel
from numrnn.kernels.losses import (
    SMALLEST_DISPERSION,
    SMALLEST_MEAN,
    SMALLEST_SCALE,
    digamma,
    gaussian_of_row,
    negative_binomial_of_row,
    quantile_of_row,
    student_t_of_row,
)

__all__ = [
    "LIKELIHOODS",
    "SMALLEST_DISPERSION",
    "SMALLEST_MEAN",
    "SMALLEST_SCALE",
    "Likelihood",
    "digamma",
    "gaussian",
    "negative_binomial",
    "quantile",
    "student_t",
]


@kernel
def quantile(outputs, targets, weights, levels, scale, d_outputs):
    """As the others, with `levels`, float64 (n_levels,), between 0 and 1, increasing; read."""
    total = 0.0
    for row in range(len(outputs)):
        total += quantile_of_row(outputs, row, targets, row, weights[row], levels, scale, d_outputs)
    return total


gaussian = rows_kernel("gaussian", gaussian_of_row)
student_t = rows_kernel("student_t", student_t_of_row)
negative_binomial = rows_kernel("negative_binomial", negative_binomial_of_row)


class Likelihood(NamedTuple):
    """A loss and the form of its arrays."""

    # loss(outputs, targets, weights, scale, d_outputs); with the levels after the weights for "quantile".
    kernel: Any
    # Raw outputs of a target; None: one for each quantile level.
    outputs_per_target: int | None
    # Columns of the targets for each of them.
    columns_per_target: int


LIKELIHOODS = {
    "quantile": Likelihood(quantile, None, 1),
    "gaussian": Likelihood(gaussian, 2, 1),
    "student_t": Likelihood(student_t, 3, 1),
    "negative_binomial": Likelihood(negative_binomial, 2, 2),
}
