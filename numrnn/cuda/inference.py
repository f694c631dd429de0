"""Inference on the device, in batches of bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.cuda.batches import Answers, Batch
from numrnn.cuda.faults import device_errors
from numrnn.cuda.network import DeviceNetwork
from numrnn.kernels.cuda.arrays import free_bytes, upload
from numrnn.packing import Sequences

__all__ = ["DeviceInference"]

# Batches are cut so that what the layers need stays near this, or half of what is free.
_BYTES = 2**30


class DeviceInference:
    """The part of `Network` that only reads its parameters, on the device.

    Parameters
    ----------
    device : DeviceNetwork
    keeps_values : bool, default=False
        Whether sequences stay on the device, since the same will be asked for again, as for validation in every epoch.

    Notes
    -----
    Calls from several threads take turns.
    """

    def __init__(self, device: DeviceNetwork, *, keeps_values: bool = False) -> None:
        self.device = device
        self._keeps_values = keeps_values
        self._kept: tuple[NDArray, Any] | None = None
        self._lock = threading.Lock()

    def take(self, parameters: NDArray) -> None:
        """Use these values of the parameters from now on."""
        with self._lock, device_errors("the upload of parameters"):
            self.device.upload(parameters)

    def outputs(self, sequences: Sequences) -> NDArray:
        """As `Network.outputs`."""
        return self._rows(sequences, self.device.network.n_outputs, self.device.outputs, self.device.per_step)

    def features(self, sequences: Sequences) -> NDArray:
        """As `Network.features`."""
        size = self.device.network.stack.output_size
        return self._rows(sequences, size, self.device.features, self.device.per_step)

    def attention_weights(self, sequences: Sequences) -> NDArray:
        """As `Network.attention_weights`."""
        return self._rows(sequences, 1, self.device.attention_weights, True)[:, 0]

    def decode(self, sequences: Sequences) -> NDArray[np.int64]:
        """As `Network.decode`."""
        return self._rows(sequences, 1, self.device.best_tags, True, np.int64)[:, 0]

    def marginals(self, sequences: Sequences) -> NDArray:
        """As `Network.marginals`."""
        return self._rows(sequences, self.device.head.n_outputs, self.device.marginals, True)

    def loss(self, sequences: Sequences, targets: NDArray, weights: NDArray | None) -> float:
        """As `Network.loss`."""
        device = self.device
        total = whole = 0.0
        with self._lock, device_errors("the computation of a loss"):
            for batch, _, rows in self._batches(sequences, device.per_step):
                own = None if weights is None else weights[rows]
                n_rows = rows.stop - rows.start
                starts = np.arange(len(batch), dtype=np.int64)
                if device.per_step:
                    starts = np.cumsum(batch.lengths) - batch.lengths
                batch.answers = Answers(
                    upload(targets[rows], device.queue),
                    upload(np.zeros(0) if own is None else own, device.queue),
                    starts,
                    float(n_rows) if own is None else float(own.sum()),
                    n_rows,
                )
                total += device.loss(batch) * batch.answers.total
                whole += batch.answers.total
        return total / whole if whole else 0.0

    def _rows(
        self,
        sequences: Sequences,
        n_columns: int,
        compute: Callable[[Batch], NDArray],
        by_step: bool,
        dtype: Any = None,
    ) -> NDArray:
        n_rows = int(self.device.trunk.prepared_lengths(sequences.lengths).sum()) if by_step else len(sequences)
        result = np.empty((n_rows, n_columns), dtype=dtype or self.device.dtype)
        with self._lock, device_errors("inference"):
            for batch, _, rows in self._batches(sequences, by_step):
                result[rows] = compute(batch)
        return result

    def _batches(self, sequences: Sequences, by_step: bool) -> Iterator[tuple[Batch, slice, slice]]:
        """Consecutive sequences with their numbers, and the rows of the result that are theirs."""
        device = self.device
        device.network._check_sequences(sequences)
        if device.network.trunk.embedding is not None:
            device.network.trunk.embedding.check(sequences)
        memory = min(_BYTES, free_bytes() / 2)
        step_bytes = device.stack.step_bytes + device.dtype.itemsize * (sequences.n_features + device.head.n_features)
        step_bytes += device.trunk.row_bytes(training=False)
        first = 0
        for chunk in device.network._chunks(sequences.lengths * step_bytes, int(memory)):
            part = Sequences(sequences.values, sequences.starts[chunk], sequences.lengths[chunk])
            values, starts = self._values_of(part)
            n_rows = int(device.trunk.prepared_lengths(part.lengths).sum()) if by_step else len(part)
            yield Batch(values, starts, part.lengths), chunk, slice(first, first + n_rows)
            first += n_rows

    def _values_of(self, part: Sequences) -> tuple[Any, NDArray[np.int64]]:
        """Time steps on the device, and where each sequence begins in them."""
        device = self.device
        if self._kept is not None and self._kept[0] is part.values:
            return self._kept[1], part.starts
        if self._keeps_values and part.values.nbytes < free_bytes() / 4:
            self._kept = part.values, upload(part.values.reshape(-1), device.queue)
            return self._kept[1], part.starts
        own = part.values[part.rows()]
        values = device.arrays.put("values of inference", own.reshape(-1), device.queue)
        return values, np.cumsum(part.lengths) - part.lengths
