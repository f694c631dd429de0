"""The decoder on the device: what `numrnn.seq2seq.decoder.Decoder` does with given inputs, there and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from numrnn.cuda.batches import Plan
from numrnn.cuda.cross_attention import CrossAttention, DeviceRead
from numrnn.cuda.feeding import Feeding
from numrnn.cuda.layer import DeviceLayer, StackPass
from numrnn.cuda.projection import DeviceProjection
from numrnn.cuda.stack import DeviceStack
from numrnn.direction import Direction, Dropout
from numrnn.dropout import OUTPUT_STREAM, dropout_of
from numrnn.kernels.cuda.arrays import DeviceArrays, clear
from numrnn.kernels.cuda.decoder import squash, squash_adjoint
from numrnn.kernels.cuda.dropout import dropout
from numrnn.parameters import Parameters
from numrnn.seq2seq.decoder import LAYER_STREAM, Decoder

__all__ = ["DeviceDecoder"]

_PREFIX = "decoder_"


class _BetweenLayers(Dropout):
    """The masks between the layers of a decoder, by the number of the layer below."""

    def mask(self, stream: int, dtype: np.dtype) -> tuple[np.uint32, np.uint32, np.uint32, Any]:
        return super().mask(LAYER_STREAM + stream, dtype)


class _Layers:
    """The layers of a decoder as `DeviceStack` wants to know them."""

    recurrent_dropout = 0.0

    def __init__(self, decoder: Decoder) -> None:
        self.dtype = decoder.dtype
        self.dropout = decoder.dropout
        widths = (decoder.input_size, *decoder.sizes[:-1])
        self.directions = [
            [Direction(decoder.cell.name, number, False, width, size, decoder.dtype)]
            for number, (width, size) in enumerate(zip(widths, decoder.sizes, strict=True))
        ]

    def dropout_of(self, dropout_seed: int) -> Dropout:
        return _BetweenLayers(self.dropout, dropout_seed)

    def is_residual(self, layer: int) -> bool:
        return False


@dataclass
class _Pass:
    """What the last forward pass leaves behind."""

    plan: Plan
    read: DeviceRead
    inputs: Any
    initials: list[tuple[Any, int]]
    hidden: Any
    squashed: Any
    dropout_seed: int
    run: StackPass | None


class DeviceDecoder:
    """Recurrent layers, attention, and the dense layer that a head reads.

    Where the attention goes into the next step, layers and attention go through time together, step by step. Else the
    layers run first, as those of any other network, and then the attention of all steps is one launch.

    Parameters
    ----------
    decoder : Decoder
        Of the host, for its form.
    names : Parameters
        Where the parameters lie in the flat vector.
    queue

    Attributes
    ----------
    read_bytes, row_bytes : callable of (int,) -> int
        Memory for each row of the sources, and of the inputs, in training, if the longest source has that many rows.
    """

    def __init__(self, decoder: Decoder, names: Parameters, queue: Any) -> None:
        self.dtype = decoder.dtype
        self.input_size = decoder.input_size
        self.readout_size = decoder.readout_size
        self.top_size = decoder.sizes[-1]
        self.output_dropout = decoder.output_dropout
        self._arrays = arrays = DeviceArrays()
        self._queue = queue
        self._form = form = _Layers(decoder)

        def on_device(projection: Any) -> DeviceProjection:
            return DeviceProjection(projection, names, arrays, queue)

        self._bridges = [on_device(bridge) for bridge in decoder.bridges]
        self._attention = CrossAttention(decoder, names, arrays, queue) if decoder.attention is not None else None
        self._read_state, self._read_input = on_device(decoder.read_state), on_device(decoder.read_input)
        self._read_context = None if decoder.read_context is None else on_device(decoder.read_context)
        self._walk: Feeding | None = None
        self._stack: DeviceStack | None = None
        if decoder.context is not None:
            assert self._attention is not None
            layers = [DeviceLayer(layer[0], names, _PREFIX) for layer in form.directions]
            context = on_device(decoder.context)
            self._walk = Feeding(layers, context, self._attention, self.dtype, arrays, queue)
        else:
            self._stack = DeviceStack(form, names, arrays, queue, _PREFIX)
        self._nothing = arrays.zeros("no numbers", 0, np.int64, queue)

    def read_bytes(self) -> int:
        return 0 if self._attention is None else self._attention.row_bytes(0)[0]

    def row_bytes(self, longest: int) -> int:
        layers = self._walk if self._walk is not None else self._stack
        assert layers is not None
        attention = 0 if self._attention is None else self._attention.row_bytes(longest)[1]
        own = 3 * self.input_size + 4 * self.readout_size + self.top_size
        return layers.step_bytes + attention + self.dtype.itemsize * own

    # ------------------------------------------------------------------------------------------------------- forward
    def forward(
        self,
        parameters: Any,
        read: DeviceRead,
        inputs: Any,
        plan: Plan,
        *,
        training: bool = False,
        dropout_seed: int = 0,
    ) -> Any:
        """Features of all packed rows, (n_rows * readout_size,); valid until the next pass.

        Parameters
        ----------
        parameters : device array
            The flat vector.
        read : DeviceRead
        inputs : device array
            (n_rows * input_size,), packed rows; kept for `backward`.
        plan : Plan
        training : bool, default=False
            Whether to apply dropout, and to keep what `backward` needs.
        dropout_seed : int, default=0
        """
        queue, arrays, n_rows, size = self._queue, self._arrays, plan.n_rows, self.readout_size
        initials = self._first_states(parameters, read, plan)
        if self._attention is not None:
            self._attention.begin(parameters, read, plan)
        run: StackPass | None = None
        if self._walk is not None:
            between = self._form.dropout_of(dropout_seed) if training and self._form.dropout > 0 else None
            hidden = self._walk.through(inputs, plan, parameters, initials, between, training)
        else:
            assert self._stack is not None
            run = self._stack.forward(
                inputs, plan, parameters=parameters, state=initials, training=training, dropout_seed=dropout_seed
            )
            hidden = run.output
            if self._attention is not None:
                self._attention.attend(parameters, hidden, 0, n_rows)
        features = squashed = arrays.at_least("squashed", n_rows * size, self.dtype)
        target = squashed, 0, size
        self._read_state.apply(parameters, (hidden, 0, self.top_size), n_rows, squashed)
        if self._read_context is not None:
            assert self._attention is not None
            of_contexts = self._attention.contexts, 0, self._attention.context_size
            self._read_context.add(parameters, of_contexts, n_rows, target)
        self._read_input.add(parameters, (inputs, 0, self.input_size), n_rows, target)
        squash(queue, squashed, n_rows * size)
        if training and self.output_dropout > 0:
            features = arrays.at_least("features", n_rows * size, self.dtype)
            self._drop(squashed, features, n_rows, dropout_seed)
        self._pass = _Pass(plan, read, inputs, initials, hidden, squashed, dropout_seed, run)
        return features

    def _first_states(self, parameters: Any, read: DeviceRead, plan: Plan) -> list[tuple[Any, int]]:
        """The states before the first step, in the caller's order of the sequences."""
        n, initials = plan.n_sequences, []
        for number, bridge in enumerate(self._bridges):
            found = self._arrays.at_least(("first states", number), n * bridge.n_outputs, self.dtype)
            bridge.begin(parameters, found, n)
            column = 0
            for array, first, pitch, width in read.summary:
                target = found, 0, bridge.n_outputs
                bridge.add(parameters, (array, first, pitch), n, target, column=column, width=width)
                column += width
            squash(self._queue, found, n * bridge.n_outputs)
            initials.append((found, 0))
        return initials

    def _drop(self, source: Any, target: Any, n_rows: int, dropout_seed: int) -> None:
        mask = dropout_of(self.output_dropout, dropout_seed).mask(OUTPUT_STREAM, self.dtype)
        dropout(self._queue, source, target, n_rows, self.readout_size, self._nothing, *mask)

    # ------------------------------------------------------------------------------------------------------ backward
    def backward(
        self, parameters: Any, d_features: Any, gradient: Any
    ) -> tuple[Any, list[tuple[Any, int, int, int]], Any]:
        """Gradients of everything that the last pass in training read; those of the parameters are added.

        Parameters
        ----------
        d_features : device array
            (n_rows * readout_size,); overwritten.
        gradient : device array
            The flat vector.

        Returns
        -------
        d_inputs : device array
            (n_rows * input_size,), packed rows.
        d_summary : list of (device array, first element, elements from row to row, columns)
            For every part of the summary.
        d_states : device array or None
            Of the states that were read.
        """
        queue, arrays, attention, last = self._queue, self._arrays, self._attention, self._pass
        plan, n_rows, size = last.plan, last.plan.n_rows, self.readout_size
        if self.output_dropout > 0:
            self._drop(d_features, d_features, n_rows, last.dropout_seed)
        squash_adjoint(queue, last.squashed, d_features, 0, n_rows * size)
        d_read = d_features, 0, size
        hidden, inputs = (last.hidden, 0, self.top_size), (last.inputs, 0, self.input_size)
        d_top = arrays.at_least("d top", n_rows * self.top_size, self.dtype)
        self._read_state.input_gradient(parameters, d_read, n_rows, (d_top, 0, self.top_size))
        self._read_state.weight_gradient(d_read, n_rows, hidden, gradient)
        self._read_state.bias_gradient(d_features, n_rows, gradient)
        self._read_input.weight_gradient(d_read, n_rows, inputs, gradient)
        if attention is not None:
            assert self._read_context is not None
            attention.begin_backward()
            width = attention.context_size
            self._read_context.input_gradient(parameters, d_read, n_rows, (attention.d_contexts, 0, width))
            self._read_context.weight_gradient(d_read, n_rows, (attention.contexts, 0, width), gradient)
        if self._walk is not None:
            d_inputs, d_initial = self._walk.back(plan, parameters, d_top, gradient)
        else:
            assert self._stack is not None and last.run is not None
            if attention is not None and plan.n_timesteps:
                attention.backward(parameters, d_top, 0, plan.n_timesteps)
            d_inputs = self._stack.backward(last.run, parameters, d_top, gradient, need_input=True)
            assert last.run.d_initial is not None
            d_initial = last.run.d_initial
        self._read_input.input_gradient(parameters, d_read, n_rows, (d_inputs, 0, self.input_size), add=True)
        d_states = None if attention is None else attention.finish(parameters, last.hidden, gradient)
        return d_inputs, self._summary_gradient(parameters, d_initial, gradient), d_states

    def _summary_gradient(
        self, parameters: Any, d_initial: list[tuple[Any, int]], gradient: Any
    ) -> list[tuple[Any, int, int, int]]:
        last, queue = self._pass, self._queue
        n = last.plan.n_sequences
        d_summary = []
        for number, (_, _, pitch, width) in enumerate(last.read.summary):
            d_part = self._arrays.at_least(("d summary", number), n * pitch, self.dtype)
            clear(queue, d_part, 0, n * pitch)
            d_summary.append((d_part, 0, pitch, width))
        for bridge, initial, (d_found, begin) in zip(self._bridges, last.initials, d_initial, strict=True):
            squash_adjoint(queue, initial[0], d_found, begin, n * bridge.n_outputs)
            d_y = d_found, begin, bridge.n_outputs
            column = 0
            for part, (d_part, first, pitch, width) in zip(last.read.summary, d_summary, strict=True):
                columns = {"column": column, "width": width}
                bridge.input_gradient(parameters, d_y, n, (d_part, first, pitch), **columns, add=True)
                bridge.weight_gradient(d_y, n, part[:3], gradient, **columns)
                column += width
            assert begin == 0
            bridge.bias_gradient(d_found, n, gradient)
        return d_summary
