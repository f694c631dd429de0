"""The gradient of a batch: backpropagation through time, exact or truncated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numrnn.dropout import OUTPUT_STREAM, drop
from numrnn.heads import Head
from numrnn.packing import Sequences
from numrnn.parameters import Parameters
from numrnn.stack import States
from numrnn.trunk import Trunk
from numrnn.windows import last_in_windows, per_step_passes, pooled_backward, pooled_forward, window_seed

__all__ = ["Backpropagation"]

# A sequence's steps before its last training window are read in windows of at least this many.
_PREFIX_STEPS = 256


class Backpropagation:
    """Loss of a batch, and its gradient, by one way through trunk, pooling and head and back.

    Parameters
    ----------
    trunk : Trunk
    head : Head
    pooling : str or None
    output_dropout : float
        Of what the head sees.
    parameters : Parameters
    gradient : Parameters
        Is added to.
    """

    def __init__(
        self,
        trunk: Trunk,
        head: Head,
        pooling: str | None,
        output_dropout: float,
        parameters: Parameters,
        gradient: Parameters,
    ) -> None:
        self.trunk = trunk
        self.head = head
        self.pooling = pooling
        self.output_dropout = output_dropout
        self.parameters = parameters
        self.gradient = gradient
        # Where the last batch ended, if it was taken in one window.
        self.final_state: States | None = None

    def accumulate(
        self,
        sequences: Sequences,
        targets: NDArray,
        weights: NDArray,
        scale: float,
        bptt_steps: int | None,
        dropout_seed: int,
        state: States | None = None,
    ) -> float:
        """Add a batch to the gradient; return its sum of weight * loss.

        Parameters
        ----------
        sequences, targets, weights, bptt_steps, dropout_seed, state
            As for `Network.loss_and_gradient`.
        scale : float
            Factor of the gradient.
        """
        prepared, passes = self.trunk.prepare(self.parameters, sequences, training=True)
        d_prepared = self.trunk.gradient_of_prepared(passes)
        arguments = (prepared, targets, weights, scale, dropout_seed, d_prepared)
        if bptt_steps is None or bptt_steps >= prepared.max_length:
            total = self._at_once(*arguments, state)
        elif self.pooling is None and not self.head.reads_whole_sequences:
            total = self._step_by_step(*arguments, bptt_steps)
        elif self.pooling == "last":
            total = self._last_window(*arguments, bptt_steps)
        else:
            total = self._twice(*arguments, bptt_steps)
        self.trunk.prepare_backward(passes, self.parameters, d_prepared, self.gradient)
        return total

    def _at_once(
        self,
        sequences: Sequences,
        targets: NDArray,
        weights: NDArray,
        scale: float,
        dropout_seed: int,
        d_values: NDArray | None,
        state: States | None = None,
    ) -> float:
        run = self.trunk.forward(
            self.parameters, sequences, state=state, pooling=self.pooling, training=True, dropout_seed=dropout_seed
        )
        self.final_state = run.state
        total, d_features = self._read_out(run.output, sequences.lengths, targets, weights, scale, dropout_seed)
        self.trunk.backward(run, self.parameters, d_features, self.gradient, d_values=d_values)
        return total

    def _last_window(
        self,
        sequences: Sequences,
        targets: NDArray,
        weights: NDArray,
        scale: float,
        dropout_seed: int,
        d_values: NDArray | None,
        steps: int,
    ) -> float:
        """The loss sees the last states: there is no gradient but in the last steps of every sequence."""
        cut = np.maximum(sequences.lengths - steps, 0)
        # The state that enters a window went through dropout like everything else, if there is any.
        before = last_in_windows(
            self.trunk,
            self.parameters,
            sequences.window(0, cut),
            steps if self.trunk.uses_dropout else max(steps, _PREFIX_STEPS),
            training=self.trunk.uses_dropout,
            dropout_seed=dropout_seed,
        )
        final = sequences.window(cut, sequences.lengths)
        seed = window_seed(dropout_seed, sequences.max_length)
        return self._at_once(final, targets, weights, scale, seed, d_values, before.state)

    def _step_by_step(
        self,
        sequences: Sequences,
        targets: NDArray,
        weights: NDArray,
        scale: float,
        dropout_seed: int,
        d_values: NDArray | None,
        steps: int,
    ) -> float:
        """The loss of a time step sees nothing but that step: window after window."""
        total = 0.0
        for rows, seed, run in per_step_passes(
            self.trunk, self.parameters, sequences, steps, training=True, dropout_seed=dropout_seed
        ):
            of_window, d_features = self._read_out(
                run.output, run.sequences.lengths, targets[rows], weights[rows], scale, seed
            )
            self.trunk.backward(run, self.parameters, d_features, self.gradient, d_values=d_values)
            total += of_window
        return total

    def _twice(
        self,
        sequences: Sequences,
        targets: NDArray,
        weights: NDArray,
        scale: float,
        dropout_seed: int,
        d_values: NDArray | None,
        steps: int,
    ) -> float:
        """The loss sees all of a sequence: once through all windows to get it, and once more with the way back."""
        attends = self.pooling == "attention"
        arguments = (self.trunk, self.parameters, sequences, None if attends else self.pooling, steps)
        features, winners = pooled_forward(*arguments, training=self.trunk.uses_dropout, dropout_seed=dropout_seed)
        run = None
        if attends:
            run = self.trunk.attend(self.parameters, features, sequences.lengths, training=True)
            features = run.pooled
        total, d_features = self._read_out(features, sequences.lengths, targets, weights, scale, dropout_seed)
        if run is not None:
            d_features = self.trunk.attend_backward(run, self.parameters, d_features, self.gradient)
        pooled_backward(*arguments, d_features, winners, self.gradient, dropout_seed=dropout_seed, d_values=d_values)
        return total

    def _read_out(
        self,
        features: NDArray,
        lengths: NDArray,
        targets: NDArray,
        weights: NDArray,
        scale: float,
        dropout_seed: int,
    ) -> tuple[float, NDArray]:
        """The head, forward and backward: sum of weight * loss and the gradient of the features.

        The features are overwritten by what dropout leaves of them.
        """
        drop(features, self.output_dropout, dropout_seed, OUTPUT_STREAM)
        total, d_features = self.head.loss(
            self.parameters, features, lengths, targets, weights, scale, self.gradient, dropout_seed
        )
        assert d_features is not None
        drop(d_features, self.output_dropout, dropout_seed, OUTPUT_STREAM)
        return total, d_features
