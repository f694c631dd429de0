"""From the input to the outputs of the recurrent layers, on the device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.convolution import Convolution
from numrnn.cuda.batches import Batch, WindowRows
from numrnn.cuda.convolution import ConvolutionOnDevice, StepRows
from numrnn.dropout import INPUT_STREAM, dropout_of
from numrnn.kernels.cuda.arrays import DeviceArrays, clear, scatter_rows
from numrnn.kernels.cuda.dropout import dropout
from numrnn.kernels.cuda.embedding import MAGNITUDE_BLOCKS, add_table_gradient, copy_columns, look_up

__all__ = ["DeviceTrunk"]


class DeviceTrunk:
    """Tables of vectors, convolutions, dropout of the input and recurrent layers.

    Convolutions run over whole sequences, before the first window of time and after the last way back: `prepare` and
    `finish` surround the passes of `forward` and `backward` over a batch. Without convolutions the windows read tables
    and numbers of the batch themselves.

    Parameters
    ----------
    network : Network, or its like
        On the host.
    stack
        Its recurrent layers on the device.
    arrays : DeviceArrays
    queue
    """

    def __init__(self, network: Any, stack: Any, arrays: DeviceArrays, queue: Any) -> None:
        self.stack = stack
        self.input_size = network.input_size
        self.inner_size = network.stack.input_size
        self.input_dropout = network.input_dropout
        self.dtype = network.dtype
        self.embedding = network.trunk.embedding
        self._arrays = arrays
        self._queue = queue
        names = network.parameters
        stages = [stage for stage in network.trunk.stages if isinstance(stage, Convolution)]
        self.convolutions = [
            ConvolutionOnDevice(stage, names, level, arrays, queue) for level, stage in enumerate(stages)
        ]
        columns = np.arange(self.input_size, dtype=np.int64)
        if self.embedding is not None:
            self._spans = [names.span(name) for name in self.embedding.names]
            columns = self.embedding.numeric
        self._columns = arrays.put("columns", columns, queue)
        self._n_columns = len(columns)
        self._every = arrays.put("every column", np.arange(self.inner_size, dtype=np.int64), queue)

    def prepared_lengths(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Time steps of the recurrent layers, for sequences of these lengths."""
        for convolution in self.convolutions:
            lengths = -(-lengths // convolution.pool[0])
        return lengths

    def row_bytes(self, training: bool) -> int:
        """Bytes that a time step of whole sequences costs in convolutions."""
        total, share = 0.0, 1.0
        for number, convolution in enumerate(self.convolutions):
            if number == 0:
                total += convolution.input_size * self.dtype.itemsize
            total += share * convolution.row_bytes(training)
            share /= convolution.pool[0]
        return math.ceil(total)

    def patch_bytes(self, n_rows: int) -> int:
        """Bytes of the patches of so many time steps, beside that."""
        return max((convolution.patch_bytes(n_rows) for convolution in self.convolutions), default=0)

    @property
    def needs_input_gradient(self) -> bool:
        return self.embedding is not None or bool(self.convolutions)

    # ------------------------------------------------------------------------------------------- before the windows
    def prepare(self, parameters: Any, batch: Batch, *, training: bool = False) -> Batch:
        """The batch that windows of time are cut from: after the convolutions, if there are any."""
        if not self.convolutions:
            return batch
        queue, arrays = self._queue, self._arrays
        rows = StepRows(batch.lengths, 0, arrays, queue, batch.starts)
        size = self.convolutions[0].input_size
        values = arrays.at_least("inputs of convolutions", rows.n_rows * size, self.dtype)
        self._look_up(parameters, batch.values, rows.sources, rows.n_rows, values, size)
        self._n_embedded = rows.n_rows
        for convolution in self.convolutions:
            values, rows = convolution.forward(parameters, values, rows, training)
        if training:
            count = rows.n_rows * self.inner_size
            self._d_prepared = arrays.at_least("d prepared", count, self.dtype)
            # Truncated passes leave time steps out.
            clear(queue, self._d_prepared, 0, count)
        return Batch(values, rows.starts, rows.lengths, batch.answers)

    def finish(self, parameters: Any, gradient: Any) -> None:
        """Add the gradients of what `prepare` did, when all windows have been there and back."""
        if not self.convolutions:
            return
        d_values = self._d_prepared
        for level in range(len(self.convolutions) - 1, -1, -1):
            need_input = level > 0 or self.embedding is not None
            d_values = self.convolutions[level].backward(parameters, d_values, gradient, need_input)
        if self.embedding is not None:
            self._look_up_back(self._n_embedded, d_values, self.convolutions[0].input_size, gradient)

    def _look_up(self, parameters: Any, values: Any, rows: Any, n_rows: int, inputs: Any, size: int) -> None:
        """Rows of the data with the vectors of tables in place of numbers."""
        queue, arrays, first = self._queue, self._arrays, 0
        if self.embedding is not None:
            for number, (span, table) in enumerate(zip(self._spans, self.embedding.tables, strict=True)):
                column, _, dimension = table
                numbers = arrays.at_least(("numbers", number), n_rows, np.int64)
                look_up(
                    queue, values, rows, n_rows, self.input_size, column, parameters, span.start, dimension, inputs,
                    size, first, numbers,
                )  # fmt: skip
                first += dimension
        copy_columns(
            queue, values, rows, n_rows, self.input_size, self._columns, self._n_columns, inputs, size, first
        )  # fmt: skip

    def _look_up_back(self, n_rows: int, d_inputs: Any, size: int, gradient: Any) -> None:
        """Add the gradients of the tables, for the rows that were looked up last."""
        queue, arrays, first = self._queue, self._arrays, 0
        assert self.embedding is not None
        largest = arrays.at_least("largest", MAGNITUDE_BLOCKS, self.dtype)
        for number, (span, table) in enumerate(zip(self._spans, self.embedding.tables, strict=True)):
            _, n_entries, dimension = table
            sums = arrays.zeros(("sums", number), n_entries * dimension, np.int64, queue)
            numbers = arrays.at_least(("numbers", number), n_rows, np.int64)
            add_table_gradient(
                queue, numbers, n_rows, d_inputs, size, first, n_entries, dimension, largest, sums, gradient,
                span.start,
            )  # fmt: skip
            first += dimension

    # --------------------------------------------------------------------------------------------------- one window
    def forward(
        self,
        parameters: Any,
        batch: Batch,
        rows: WindowRows,
        *,
        state: Any = None,
        training: bool = False,
        dropout_seed: int = 0,
    ) -> Any:
        """Run over a window of time of a prepared batch; the pass of the recurrent layers."""
        queue, plan, size = self._queue, rows.plan, self.inner_size
        inputs = self._arrays.at_least("inputs", plan.n_rows * size, self.dtype)
        if self.convolutions:
            copy_columns(queue, batch.values, rows.source, plan.n_rows, size, self._every, size, inputs, size, 0)
        else:
            self._look_up(parameters, batch.values, rows.source, plan.n_rows, inputs, size)
        if training:
            self._drop(inputs, rows, dropout_seed)
        return self.stack.forward(
            inputs, plan, state=state, training=training, dropout_seed=dropout_seed, parameters=parameters
        )

    def backward(
        self,
        run: Any,
        parameters: Any,
        rows: WindowRows,
        d_outputs: Any,
        gradient: Any,
        dropout_seed: int,
        d_state: Any = None,
    ) -> None:
        """Add the gradients of a pass of `forward` in training, for the window that it was of.

        d_state is the gradient of the final states, zero if it is None.
        """
        n_rows, size = rows.plan.n_rows, self.inner_size
        d_inputs = self.stack.backward(
            run, parameters, d_outputs, gradient, d_state=d_state, need_input=self.needs_input_gradient
        )
        if d_inputs is None:
            return
        self._drop(d_inputs, rows, dropout_seed)
        if self.convolutions:
            scatter_rows(self._queue, d_inputs, self._d_prepared, n_rows, size, rows.source)
        else:
            self._look_up_back(n_rows, d_inputs, size, gradient)

    def _drop(self, matrix: Any, rows: WindowRows, dropout_seed: int) -> None:
        if self.input_dropout > 0:
            mask = dropout_of(self.input_dropout, dropout_seed).mask(INPUT_STREAM, self.dtype)
            dropout(self._queue, matrix, matrix, rows.plan.n_rows, self.inner_size, rows.plan.place, *mask)
