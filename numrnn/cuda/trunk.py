"""From the input to the outputs of the recurrent layers, on the device."""

from __future__ import annotations

from typing import Any

import numpy as np

from numrnn.cuda.batches import Batch, WindowRows
from numrnn.dropout import INPUT_STREAM, dropout_of
from numrnn.kernels.cuda.arrays import DeviceArrays
from numrnn.kernels.cuda.dropout import dropout
from numrnn.kernels.cuda.embedding import MAGNITUDE_BLOCKS, add_table_gradient, copy_columns, look_up
from numrnn.network import Network

__all__ = ["DeviceTrunk"]


class DeviceTrunk:
    """Tables of vectors, dropout of the input and recurrent layers.

    Parameters
    ----------
    network : Network
        On the host.
    stack
        Its recurrent layers on the device.
    arrays : DeviceArrays
    queue
    """

    def __init__(self, network: Network, stack: Any, arrays: DeviceArrays, queue: Any) -> None:
        self.stack = stack
        self.input_size = network.input_size
        self.inner_size = network.stack.input_size
        self.input_dropout = network.input_dropout
        self.dtype = network.dtype
        self.embedding = network.trunk.embedding
        self._arrays = arrays
        self._queue = queue
        columns = np.arange(self.input_size, dtype=np.int64)
        if self.embedding is not None:
            names = network.parameters
            self._spans = [names.span(name) for name in self.embedding.names]
            columns = self.embedding.numeric
        self._columns = arrays.put("columns", columns, queue)
        self._n_columns = len(columns)

    @property
    def needs_input_gradient(self) -> bool:
        return self.embedding is not None

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
        """Run over a window of time of a batch; the pass of the recurrent layers."""
        queue, arrays, plan = self._queue, self._arrays, rows.plan
        n_rows, size = plan.n_rows, self.inner_size
        inputs = arrays.at_least("inputs", n_rows * size, self.dtype)
        first = 0
        if self.embedding is not None:
            for number, (span, table) in enumerate(zip(self._spans, self.embedding.tables, strict=True)):
                column, _, dimension = table
                numbers = arrays.at_least(("numbers", number), n_rows, np.int64)
                look_up(
                    queue, batch.values, rows.source, n_rows, self.input_size, column, parameters, span.start,
                    dimension, inputs, size, first, numbers,
                )  # fmt: skip
                first += dimension
        copy_columns(
            queue, batch.values, rows.source, n_rows, self.input_size, self._columns, self._n_columns, inputs, size,
            first,
        )  # fmt: skip
        if training:
            self._drop(inputs, rows, dropout_seed)
        return self.stack.forward(
            inputs, plan, state=state, training=training, dropout_seed=dropout_seed, parameters=parameters
        )

    def backward(
        self, run: Any, parameters: Any, rows: WindowRows, d_outputs: Any, gradient: Any, dropout_seed: int
    ) -> None:
        """Add the gradients of a pass of `forward` in training, for the window that it was of."""
        queue, arrays, plan = self._queue, self._arrays, rows.plan
        d_inputs = self.stack.backward(run, parameters, d_outputs, gradient, need_input=self.needs_input_gradient)
        if self.embedding is None:
            return
        self._drop(d_inputs, rows, dropout_seed)
        largest = arrays.at_least("largest", MAGNITUDE_BLOCKS, self.dtype)
        first = 0
        for number, (span, table) in enumerate(zip(self._spans, self.embedding.tables, strict=True)):
            _, n_entries, dimension = table
            sums = arrays.zeros(("sums", number), n_entries * dimension, np.int64, queue)
            numbers = arrays.at_least(("numbers", number), plan.n_rows, np.int64)
            add_table_gradient(
                queue, numbers, plan.n_rows, d_inputs, self.inner_size, first, n_entries, dimension, largest, sums,
                gradient, span.start,
            )  # fmt: skip
            first += dimension

    def _drop(self, matrix: Any, rows: WindowRows, dropout_seed: int) -> None:
        if self.input_dropout > 0:
            mask = dropout_of(self.input_dropout, dropout_seed).mask(INPUT_STREAM, self.dtype)
            dropout(self._queue, matrix, matrix, rows.plan.n_rows, self.inner_size, rows.plan.place, *mask)
