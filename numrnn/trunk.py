"""From the input to the features that a head reads: stages, dropout of the input, recurrent layers, pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.attention import AttentionPass, AttentionPooling
from numrnn.convolution import convolutions_from
from numrnn.dropout import INPUT_STREAM, drop
from numrnn.embedding import Embedding
from numrnn.packing import Sequences
from numrnn.projection import ProjectedEmbedding, ProjectedPass
from numrnn.stack import RecurrentPass, RecurrentStack, States
from numrnn.stages import Stage, StagePass
from numrnn.workers import Workers

__all__ = ["Trunk", "TrunkPass", "build_trunk"]


class TrunkPass:
    """What one forward pass leaves behind.

    Attributes
    ----------
    output : ndarray
        Features: of time steps `(n_steps, output_size)` without pooling, else of sequences.
    state : list of ndarray
        Final states of the recurrent layers.
    sequences : Sequences
        The input.
    """

    def __init__(
        self,
        sequences: Sequences,
        embedded: StagePass | None,
        run: RecurrentPass,
        attention: AttentionPass | None,
        dropout_seed: int,
        projected: ProjectedPass | None = None,
    ) -> None:
        self.sequences = sequences
        self.embedded = embedded
        self.projected = projected
        self.run = run
        self.attention = attention
        self.dropout_seed = dropout_seed
        self.output = run.output if attention is None else attention.pooled
        self.state = run.state


class Trunk:
    """Stages before the recurrent layers, the layers, and pooling over time.

    Stages that look at one time step alone run with the layers, window by window where time is cut into windows. If
    there are others, all stages run first, over whole sequences: `prepare` and `prepare_backward`.

    Parameters
    ----------
    stages : sequence of Stage
        From the input up.
    stack : RecurrentStack
    attention : AttentionPooling, default=None
        For ``pooling="attention"``; the layers know the other ways of pooling themselves.
    input_dropout : float, default=0.0
        Probability with which, in training, an element of the input of the recurrent layers is zeroed.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        stack: RecurrentStack,
        *,
        attention: AttentionPooling | None = None,
        input_dropout: float = 0.0,
    ) -> None:
        self.stages = tuple(stages)
        self.stack = stack
        self.attention = attention
        self.input_dropout = input_dropout
        stepwise = len(self.stages) == 1 and isinstance(self.stages[0], Embedding)
        self._stepwise: Stage | None = self.stages[0] if stepwise else None
        self._whole: tuple[Stage, ...] = () if stepwise else self.stages
        self._projection: ProjectedEmbedding | None = None
        if isinstance(self._stepwise, Embedding) and self._stepwise.is_whole_input and stack.n_directions == 1:
            self._projection = ProjectedEmbedding(self._stepwise, stack)

    @property
    def output_size(self) -> int:
        return self.stack.output_size

    @property
    def matmul_precision(self) -> str | None:
        """Of the recurrent layers, see `RecurrentStack`."""
        return self.stack.matmul_precision

    @matmul_precision.setter
    def matmul_precision(self, precision: str | None) -> None:
        self.stack.matmul_precision = precision
        if self._projection is not None:
            self._projection.matmul_precision = precision

    @property
    def uses_dropout(self) -> bool:
        """Whether a pass in training is another one than in inference."""
        stack = self.stack
        between_layers = stack.dropout if len(stack.hidden_sizes) > 1 else 0.0
        return max(between_layers, stack.recurrent_dropout, self.input_dropout) > 0

    @property
    def embedding(self) -> Embedding | None:
        """The first stage, if it looks vectors up."""
        first = self.stages[0] if self.stages else None
        return first if isinstance(first, Embedding) else None

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, from the input up."""
        shapes: dict[str, tuple[int, ...]] = {}
        for stage in self.stages:
            shapes |= stage.parameter_shapes()
        shapes |= self.stack.parameter_shapes()
        return shapes if self.attention is None else shapes | self.attention.parameter_shapes()

    def initialize(self, parameters: Mapping[str, NDArray], rng: np.random.RandomState) -> None:
        """Write initial values."""
        for stage in self.stages:
            stage.initialize(parameters, rng)
        self.stack.initialize(parameters, rng)
        if self.attention is not None:
            self.attention.initialize(parameters, rng)

    def layers(self) -> Trunk:
        """The recurrent layers and their pooling alone, without dropout."""
        stack = copy(self.stack)
        stack.dropout = stack.recurrent_dropout = 0.0
        return Trunk((), stack, attention=self.attention)

    # ---------------------------------------------------------------------------------------------------- whole input
    def prepare(
        self, parameters: Mapping[str, NDArray], sequences: Sequences, *, training: bool = False
    ) -> tuple[Sequences, list[StagePass]]:
        """Run the stages that need whole sequences: the input of `forward`, and what the way back needs."""
        passes: list[StagePass] = []
        for stage in self._whole:
            passes.append(stage.forward(parameters, sequences, training=training))
            sequences = passes[-1].sequences
        return sequences, passes

    def gradient_of_prepared(self, passes: list[StagePass]) -> NDArray | None:
        """Zeros to which `backward` adds the gradient of what `prepare` returned; None if nobody needs it."""
        return np.zeros_like(passes[-1].sequences.values) if passes else None

    def prepare_backward(
        self,
        passes: list[StagePass],
        parameters: Mapping[str, NDArray],
        d_values: NDArray | None,
        gradient: Mapping[str, NDArray],
    ) -> None:
        """Add the gradients of the stages that need whole sequences."""
        for number in range(len(passes) - 1, -1, -1):
            assert d_values is not None
            d_values = self._whole[number].backward(
                passes[number], parameters, d_values, gradient, need_input=number > 0
            )

    def embed(self, parameters: Mapping[str, NDArray], sequences: Sequences) -> Sequences:
        """What the recurrent layers see of the input, without dropout."""
        for stage in self.stages:
            sequences = stage.forward(parameters, sequences, training=False).sequences
        return sequences

    # ---------------------------------------------------------------------------------------------------------- passes
    def forward(
        self,
        parameters: Mapping[str, NDArray],
        sequences: Sequences,
        *,
        state: States | None = None,
        pooling: str | None = None,
        training: bool = False,
        dropout_seed: int = 0,
    ) -> TrunkPass:
        """Run the layers, and before them the stages that look at one time step; see `RecurrentStack.forward`."""
        drops = training and self.input_dropout > 0
        attends = pooling == "attention"
        options: dict[str, Any] = {
            "state": state,
            "pooling": None if attends else pooling,
            "training": training,
            "dropout_seed": dropout_seed,
        }
        embedded: StagePass | None = None
        projected: ProjectedPass | None = None
        if self._projection is not None and not drops:
            projected = self._projection.forward(parameters, sequences, **options)
        if projected is not None:
            run = projected.run
        else:
            inner = sequences
            if self._stepwise is not None:
                embedded = self._stepwise.forward(parameters, sequences, training=training)
                inner = embedded.sequences
            if drops:
                if embedded is None:
                    starts = np.cumsum(sequences.lengths) - sequences.lengths
                    inner = Sequences(sequences.values[sequences.rows()], starts, sequences.lengths)
                drop(inner.values, self.input_dropout, dropout_seed, INPUT_STREAM)
            run = self.stack.forward(parameters, inner, **options)
        attention = self.attend(parameters, run.output, sequences.lengths, training=training) if attends else None
        return TrunkPass(sequences, embedded, run, attention, dropout_seed, projected)

    def attend(
        self, parameters: Mapping[str, NDArray], hidden: NDArray, lengths: NDArray, *, training: bool = False
    ) -> AttentionPass:
        """Pool outputs of the layers, sequence after sequence, by attention."""
        assert self.attention is not None
        run = self.attention.forward(parameters, hidden, np.cumsum(lengths) - lengths, lengths)
        if not training:
            run.lease.release()
        return run

    def attend_backward(
        self, run: AttentionPass, parameters: Mapping[str, NDArray], d_pooled: NDArray, gradient: Mapping[str, NDArray]
    ) -> NDArray:
        """Gradient of the rows that `attend` has pooled; those of its parameters are added."""
        assert self.attention is not None
        return self.attention.backward(run, parameters, d_pooled, gradient)

    def backward(
        self,
        run: TrunkPass,
        parameters: Mapping[str, NDArray],
        d_output: NDArray,
        gradient: Mapping[str, NDArray],
        *,
        d_values: NDArray | None = None,
        d_state: States | None = None,
        need_input: bool = False,
    ) -> Any:
        """Add the gradients of a pass of `forward` in training.

        Parameters
        ----------
        run, parameters, d_output, gradient
            As for `RecurrentStack.backward`.
        d_values : ndarray, default=None
            Of the shape of `run.sequences.values`: the gradient of its rows is added. Only where no stage runs with the
            layers.
        d_state : list of ndarray, default=None
            Gradient of `run.state`; None is zero.
        need_input : bool, default=False

        Returns
        -------
        ndarray of shape (n_steps, input size of the layers) or None
            If `need_input`, the gradient of what the layers saw, before dropout; rows sequence after sequence.
        """
        if run.attention is not None:
            d_output = self.attend_backward(run.attention, parameters, d_output, gradient)
        if run.projected is not None:
            # The vectors that the layers would have seen were never made.
            assert self._projection is not None and not need_input and d_values is None
            self._projection.backward(run.projected, parameters, d_output, gradient, d_state=d_state)
            return None
        wanted = need_input or run.embedded is not None or d_values is not None
        d_input, _ = self.stack.backward(run.run, parameters, d_output, gradient, d_state=d_state, need_input=wanted)
        if d_input is None:
            return None
        drop(d_input, self.input_dropout, run.dropout_seed, INPUT_STREAM)
        if run.embedded is not None:
            assert self._stepwise is not None
            self._stepwise.backward(run.embedded, parameters, d_input, gradient, need_input=False)
        if d_values is not None:
            d_values[run.sequences.rows()] += d_input
        return d_input if need_input else None


def build_trunk(
    *,
    cell: str,
    input_size: int,
    hidden_sizes: tuple[int, ...],
    bidirectional: bool,
    pooling: str | None,
    residual: bool,
    dropout: float,
    recurrent_dropout: float,
    input_dropout: float,
    embeddings: Sequence[tuple[int, int, int]],
    convolutions: Sequence[Mapping[str, Any]],
    dtype: np.dtype,
    matmul_precision: str | None = None,
    workers: Workers,
) -> Trunk:
    """The trunk of a network of that form; the arguments are those of `Network`."""
    stages: list[Stage] = []
    size = input_size
    if embeddings:
        stages.append(Embedding(size, embeddings, dtype))
        size = stages[-1].output_size
    if convolutions:
        stages += convolutions_from(convolutions, size, dtype, workers=workers)
        size = stages[-1].output_size
    stack = RecurrentStack(
        cell,
        size,
        hidden_sizes,
        bidirectional=bidirectional,
        dropout=dropout,
        recurrent_dropout=recurrent_dropout,
        residual=residual,
        dtype=dtype.name,
        matmul_precision=matmul_precision,
        workers=workers,
    )
    attention: AttentionPooling | None = None
    if pooling == "attention":
        attention = AttentionPooling(stack.output_size, stack.output_size, dtype.name, workers=workers)
    return Trunk(stages, stack, attention=attention, input_dropout=input_dropout)
