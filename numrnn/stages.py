"""What stands before the recurrent layers: steps from sequences to sequences, each with its backward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from numrnn.packing import Sequences

__all__ = ["Stage", "StagePass"]


class StagePass:
    """What a forward pass leaves for the backward pass. A stage derives from it to keep what it needs.

    Parameters
    ----------
    sequences : Sequences
        The output: values of the network's type `(n_rows_out, output_size)`, C-contiguous, sequence after sequence.
    """

    def __init__(self, sequences: Sequences) -> None:
        self.sequences = sequences


class Stage(Protocol):
    """A step from sequences to sequences.

    A stage owns no parameters: every call is given them, by the names of `parameter_shapes`. What it computes for a
    sequence depends on nothing but that sequence and the parameters.

    Attributes
    ----------
    output_size : int
        Features of a time step of the output.
    """

    output_size: int

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters."""
        ...

    def initialize(self, parameters: Mapping[str, NDArray], rng: np.random.RandomState) -> None:
        """Write initial values."""
        ...

    def forward(self, parameters: Mapping[str, NDArray], sequences: Sequences, *, training: bool) -> StagePass:
        """Run over a batch; `training` says whether `backward` will follow."""
        ...

    def backward(
        self,
        run: StagePass,
        parameters: Mapping[str, NDArray],
        d_values: NDArray,
        gradient: Mapping[str, NDArray],
        *,
        need_input: bool,
    ) -> NDArray | None:
        """Add the gradients of the parameters to `gradient`.

        Parameters
        ----------
        run : StagePass
            Of ``forward(training=True)``.
        parameters : mapping of str to ndarray
            As in that forward pass.
        d_values : ndarray
            Gradient of `run.sequences.values`, of its shape.
        gradient : mapping of str to ndarray
        need_input : bool
            Whether to compute the gradient of the input.

        Returns
        -------
        ndarray of shape (n_rows_in, n_features_in) or None
            Gradient of the input's time steps, sequence after sequence.
        """
        ...
