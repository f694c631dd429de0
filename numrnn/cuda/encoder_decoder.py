"""An encoder and a decoder whose parameters lie on the device: passes forward and backward with given targets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.cuda.batches import Batch, Plans, WindowRows
from numrnn.cuda.cross_attention import DeviceRead
from numrnn.cuda.decoder import DeviceDecoder
from numrnn.cuda.faults import device_errors
from numrnn.cuda.head import DeviceHead
from numrnn.cuda.pairs import DevicePairs, PairSource
from numrnn.cuda.stack import DeviceStack
from numrnn.cuda.trunk import DeviceTrunk
from numrnn.dropout import dropout_of
from numrnn.kernels.cuda.arrays import DeviceArrays, clear, download, gather_rows, new_queue, scatter_rows, upload
from numrnn.kernels.cuda.dropout import dropout
from numrnn.kernels.cuda.embedding import MAGNITUDE_BLOCKS, add_table_gradient, copy_columns, look_up
from numrnn.seq2seq import EncoderDecoder, PairBatch
from numrnn.seq2seq.decoder import INPUT_STREAM
from numrnn.seq2seq.form import TARGET_TABLE
from numrnn.seq2seq.network import chunk_seed
from numrnn.seq2seq.passes import part_of

__all__ = ["DeviceEncoderDecoder", "PairInference"]


class _Encoder:
    """The encoder as `DeviceTrunk` wants to know a network."""

    def __init__(self, network: EncoderDecoder) -> None:
        assert network.encoder is not None
        self.trunk = network.encoder
        self.stack = network.encoder.stack
        self.input_size = 1 if network.source == "ids" else network.source_size
        self.input_dropout = network.encoder.input_dropout
        self.dtype = network.dtype
        self.parameters = network.parameters


class DeviceEncoderDecoder:
    """What `EncoderDecoder` does with pairs, on the device.

    Parameters
    ----------
    network : EncoderDecoder
        On the host: its form, and the parameters to start from.

    Attributes
    ----------
    parameters, gradient : device array
        Flat vectors in the order of the network's parameters.
    losses : device array of float64
        weight * loss of every row of the last minibatch, in some order.
    queue
        Where everything is launched, in order.

    Notes
    -----
    As of `DeviceNetwork`: nothing waits for the device but `outputs`, `loss` and `download`, and results are the same
    bits from run to run.
    """

    # Time is not cut into windows, and no state goes from one minibatch into the next.
    state = None

    def __init__(self, network: EncoderDecoder) -> None:
        self.network = network
        self.dtype = network.dtype
        self.queue = queue = new_queue()
        self.arrays = arrays = DeviceArrays()
        names = network.parameters
        self._plans_of_sources, self._plans_of_targets = Plans(), Plans()
        self.encoder: DeviceTrunk | None = None
        # Layers of the encoder and of the decoder have arrays of the same purposes.
        self._of_encoder = DeviceArrays()
        if network.encoder is not None:
            stack = DeviceStack(network.encoder.stack, names, self._of_encoder, queue)
            self.encoder = DeviceTrunk(_Encoder(network), stack, self._of_encoder, queue)
        self.decoder = DeviceDecoder(network.decoder, names, queue)
        weight = TARGET_TABLE if network.tied_embeddings else "weight_out"
        self.head = DeviceHead(network, arrays, queue, network.readout_size, weight)
        self._table = names.span(TARGET_TABLE).start if network.takes_ids else 0
        columns = np.arange(self.decoder.input_size, dtype=np.int64)
        self._columns = arrays.put("columns", columns, queue)
        self.parameters = upload(names.flat, queue)
        self.gradient = upload(np.zeros_like(names.flat), queue)
        self.losses: Any = None

    def upload(self, parameters: NDArray) -> None:
        """Take parameters from the host."""
        self.parameters.copy_to_device(parameters, stream=self.queue)

    def download(self) -> None:
        """Give the network on the host these parameters."""
        download(self.parameters, self.queue, self.network.parameters.flat)

    def row_bytes(self, longest: int) -> tuple[int, int]:
        """Memory in training for each row of the sources and of the inputs, with sources as long as that."""
        item, source = self.dtype.itemsize, 0
        if self.encoder is not None:
            size = self.network.encoder.output_size  # type: ignore[union-attr]
            inner = self.encoder.inner_size
            source = self.encoder.stack.step_bytes + item * (3 * size + inner * (1 + self.encoder.needs_input_gradient))
            source += self.decoder.read_bytes()
        # Tables of row numbers.
        return source + 5 * 8, self.decoder.row_bytes(longest) + 6 * 8

    # ---------------------------------------------------------------------------------------------------- inference
    def outputs(self, pairs: DevicePairs) -> NDArray:
        """Raw outputs (n_rows, n_outputs) of all steps of the decoder, sequence after sequence."""
        rows, features = self._forward(pairs, training=False, seed=0)
        n_rows, n_outputs = rows.plan.n_rows, self.head.n_outputs
        outputs = np.empty((n_rows, n_outputs), dtype=self.dtype)
        places = download(rows.plan.place, self.queue)[:n_rows]
        for first in range(0, n_rows, self.head.rows_at_once):
            count = min(self.head.rows_at_once, n_rows - first)
            own = self.head.outputs(self.parameters, features, first, count)
            outputs[places[first : first + count]] = download(own, self.queue)
        return outputs

    def loss(self, pairs: DevicePairs) -> float:
        """Sum of weight * loss of all rows, without dropout."""
        answers = pairs.answers
        assert answers is not None
        rows, features = self._forward(pairs, training=False, seed=0)
        n_rows = rows.plan.n_rows
        self.losses = self.arrays.at_least("losses", n_rows, np.float64)
        self.head.loss(self.parameters, features, n_rows, rows.answer, answers, self.losses, 0)
        return float(download(self.losses, self.queue)[:n_rows].sum())

    # ----------------------------------------------------------------------------------------------------- training
    def accumulate(
        self,
        pairs: DevicePairs,
        scale: float,
        *,
        bptt_steps: int | None = None,
        dropout_seed: int = 0,
        state: None = None,
    ) -> None:
        """Write the losses of the rows of a minibatch to `losses`, and its gradient to `gradient`.

        Parameters
        ----------
        pairs : DevicePairs
        scale : float
            Factor of the gradient.
        bptt_steps, state : None
            As of `EncoderDecoder.loss_and_gradient`.
        dropout_seed : int, default=0
        """
        if bptt_steps is not None or state is not None:
            raise ValueError(
                "an encoder and a decoder are trained on whole sequences: bptt_steps and state must be None"
            )
        answers = pairs.answers
        assert answers is not None
        clear(self.queue, self.gradient, 0, self.gradient.size)
        self.losses = self.arrays.at_least("losses", answers.n_rows, np.float64)
        sources, inputs, first = pairs.sources.lengths, pairs.inputs.lengths, 0
        # The parts of the CPU, for the same masks.
        chunks = self.network._training_chunks(sources, inputs - self.network.takes_ids)
        for number, chunk in enumerate(chunks):
            part = pairs.part(chunk)
            self._accumulate(part, scale, chunk_seed(dropout_seed, number), first)
            first += int(part.inputs.lengths.sum())

    def _accumulate(self, pairs: DevicePairs, scale: float, seed: int, first_loss: int) -> None:
        queue, arrays, parameters, gradient = self.queue, self.arrays, self.parameters, self.gradient
        answers = pairs.answers
        assert answers is not None
        if not pairs.inputs.max_length:
            return
        rows, features = self._forward(pairs, training=True, seed=seed)
        n_rows = rows.plan.n_rows
        d_features = self.head.loss(
            parameters, features, n_rows, rows.answer, answers, self.losses, first_loss, scale, gradient
        )
        d_inputs, d_summary, d_states = self.decoder.backward(parameters, d_features, gradient)
        if self.network.takes_ids:
            self._drop(d_inputs, rows, seed)
            size, n_entries = self.decoder.input_size, self.network.n_outputs
            largest = arrays.at_least("largest", MAGNITUDE_BLOCKS, self.dtype)
            sums = arrays.zeros("sums", n_entries * size, np.int64, queue)
            numbers = arrays.at_least("numbers", n_rows, np.int64)
            add_table_gradient(
                queue, numbers, n_rows, d_inputs, size, 0, n_entries, size, largest, sums, gradient, self._table
            )
        if self.encoder is not None:
            self._encoder_backward(d_summary, d_states, seed)

    # ------------------------------------------------------------------------------------------------------- parts
    def _forward(self, pairs: DevicePairs, *, training: bool, seed: int) -> tuple[WindowRows, Any]:
        """Both sides: the packed rows of the decoder, and their features."""
        queue, arrays, inputs = self.queue, self.arrays, pairs.inputs
        read = self._read(pairs.sources, training=training, seed=seed)
        rows = WindowRows(self._plans_of_targets, arrays, inputs, 0, inputs.max_length, True, queue)
        n_rows, size = rows.plan.n_rows, self.decoder.input_size
        given = arrays.at_least("inputs", n_rows * size, self.dtype)
        if self.network.takes_ids:
            numbers = arrays.at_least("numbers", n_rows, np.int64)
            look_up(
                queue, inputs.values, rows.source, n_rows, 1, 0, self.parameters, self._table, size, given, size, 0,
                numbers,
            )  # fmt: skip
        else:
            copy_columns(queue, inputs.values, rows.source, n_rows, size, self._columns, size, given, size, 0)
        if training:
            self._drop(given, rows, seed)
        features = self.decoder.forward(self.parameters, read, given, rows.plan, training=training, dropout_seed=seed)
        return rows, features

    def _drop(self, matrix: Any, rows: WindowRows, seed: int) -> None:
        if self.network.input_dropout > 0:
            mask = dropout_of(self.network.input_dropout, seed).mask(INPUT_STREAM, self.dtype)
            dropout(self.queue, matrix, matrix, rows.plan.n_rows, self.decoder.input_size, rows.plan.place, *mask)

    def _read(self, sources: Batch, *, training: bool, seed: int) -> DeviceRead:
        """Run the encoder; without one, the sources are the summary."""
        queue, arrays, n = self.queue, self.arrays, len(sources)
        if self.encoder is None:
            size = self.network.source_size
            summary = arrays.at_least("summary", n * size, self.dtype)
            starts = arrays.put("rows of sources", sources.starts, queue)
            gather_rows(queue, sources.values, summary, n, size, starts)
            return DeviceRead([(summary, 0, size, size)], None, None, None, 0, 0)
        rows = WindowRows(self._plans_of_sources, self._of_encoder, sources, 0, sources.max_length, False, queue)
        run = self.encoder.forward(self.parameters, sources, rows, training=training, dropout_seed=seed)
        self._encoded = rows, run
        stack = self.network.encoder.stack  # type: ignore[union-attr]
        width = stack.hidden_sizes[-1]
        pitch = stack.cell.n_states * width
        summary = [(array, first, pitch, width) for array, first in run.state[-stack.n_directions :]]
        if self.network.attention is None:
            return DeviceRead(summary, None, None, None, 0, 0)
        n_rows, size = rows.plan.n_rows, stack.output_size
        states = arrays.at_least("states of the encoder", n_rows * size, self.dtype)
        scatter_rows(queue, run.output, states, n_rows, size, rows.plan.place)
        lengths = np.ascontiguousarray(sources.lengths, dtype=np.int64)
        firsts = arrays.put("first rows", np.cumsum(lengths) - lengths, queue)
        counts = arrays.put("numbers of rows", lengths, queue)
        return DeviceRead(summary, states, firsts, counts, n_rows, max(sources.max_length, 1))

    def _encoder_backward(self, d_summary: list[tuple[Any, int, int, int]], d_states: Any, seed: int) -> None:
        assert self.encoder is not None
        rows, run = self._encoded
        n_rows, size = rows.plan.n_rows, self.network.encoder.output_size  # type: ignore[union-attr]
        d_output = self.arrays.at_least("d output of the encoder", n_rows * size, self.dtype)
        if d_states is None:
            clear(self.queue, d_output, 0, n_rows * size)
        else:
            gather_rows(self.queue, d_states, d_output, n_rows, size, rows.plan.place)
        d_final: list[Any] = [None] * (len(run.state) - len(d_summary))
        d_final += [(array, first) for array, first, _, _ in d_summary]
        self.encoder.backward(run, self.parameters, rows, d_output, self.gradient, seed, d_final)


class PairInference:
    """The part of `EncoderDecoder` that reads given targets, on the device, in batches of bounded memory.

    Parameters
    ----------
    device : DeviceEncoderDecoder

    Notes
    -----
    Calls from several threads take turns.
    """

    def __init__(self, device: DeviceEncoderDecoder) -> None:
        self.device = device
        # Nothing stays there but what a batch needs.
        self._source = PairSource(device.network, None, 0.0, device.arrays, device.queue)
        self._lock = threading.Lock()

    def take(self, parameters: NDArray) -> None:
        """Use these values of the parameters from now on."""
        with self._lock, device_errors("the upload of parameters"):
            self.device.upload(parameters)

    def outputs_of(self, pairs: PairBatch) -> NDArray:
        """As `EncoderDecoder.outputs_of`."""
        network = self.device.network
        network._check_batch(pairs)
        result = np.empty((network._n_expected(pairs.targets), network.n_outputs), dtype=network.dtype)
        with self._lock, device_errors("inference"):
            for part, rows in self._parts(pairs):
                if rows.stop > rows.start:
                    result[rows] = self.device.outputs(self._source.made(part))
        return result

    def loss(self, pairs: PairBatch, expected: NDArray, weights: NDArray | None) -> float:
        """As `EncoderDecoder.loss`."""
        network = self.device.network
        expected, checked = network._check(pairs, expected, weights)
        total = 0.0
        with self._lock, device_errors("the computation of a loss"):
            for part, rows in self._parts(pairs):
                if rows.stop > rows.start:
                    own = None if weights is None else checked[rows]
                    total += self.device.loss(self._source.made(part, expected[rows], own))
        total_weight = float(checked.sum())
        return total / total_weight if total_weight else 0.0

    def _parts(self, pairs: PairBatch) -> Iterator[tuple[PairBatch, slice]]:
        """Consecutive pairs, and the rows that are expected of them."""
        network, first = self.device.network, 0
        for chunk in network._inference_chunks(pairs.sources.lengths, pairs.targets.lengths):
            part = part_of(pairs, chunk)
            rows = slice(first, first + network._n_expected(part.targets))
            first = rows.stop
            yield part, rows
