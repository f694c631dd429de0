"""A network whose parameters lie on the device: passes forward and backward, exact or truncated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.cuda.batches import Batch, Plan, Plans, WindowRows
from numrnn.cuda.head import RandomFieldOnDevice, make_head
from numrnn.cuda.pooling import AttentionOnDevice, Pooling
from numrnn.cuda.stack import make_stack
from numrnn.cuda.trunk import DeviceTrunk
from numrnn.dropout import OUTPUT_STREAM, dropout_of
from numrnn.kernels.cuda.arrays import (
    DeviceArrays,
    clear,
    download,
    gather_rows,
    new_queue,
    scatter_rows,
    upload,
    window_rows,
)
from numrnn.kernels.cuda.dropout import dropout
from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.windows import window_seed

__all__ = ["DeviceNetwork"]

# A sequence's steps before its last training window are read in windows of at least this many.
_PREFIX_STEPS = 256
# In inference longer sequences than this are read window by window.
_INFERENCE_STEPS = 4096


class DeviceNetwork:
    """What `Network` does with a batch, on the device.

    Parameters
    ----------
    network : Network
        On the host: its form, and the parameters to start from.

    Attributes
    ----------
    parameters, gradient : device array
        Flat vectors in the order of the network's parameters.
    losses : device array of float64
        weight * loss of every row of the last batch, in some order.
    state : list of device arrays, or None
        Of the recurrent layers after the last batch, if that was one window.
    queue
        Where everything is launched, in order.

    Notes
    -----
    Nothing here waits for the device but `outputs`, `features` and `download`. Results are the same bits from run to
    run.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.dtype = network.dtype
        self.queue = queue = new_queue()
        self.arrays = arrays = DeviceArrays()
        self.plans = Plans()
        self.stack = make_stack(network, arrays, queue)
        self.trunk = DeviceTrunk(network, self.stack, arrays, queue)
        self.head = make_head(network, arrays, queue)
        self.attention = AttentionOnDevice(network, arrays, queue) if network.pooling == "attention" else None
        kind = network.pooling
        self.pooling = Pooling(kind, network, arrays, queue) if kind in ("last", "mean", "max") else None
        self.per_step = network.pooling is None
        # A loss of whole sequences sees the outputs of all their steps at once.
        self._sees_sequences = isinstance(self.head, RandomFieldOnDevice)
        self.parameters = upload(network.parameters.flat, queue)
        self.gradient = upload(np.zeros_like(network.parameters.flat), queue)
        self.losses: Any = None
        self.state: Any = None
        self._nothing = upload(np.zeros(0, dtype=np.int64), queue)

    def upload(self, parameters: NDArray) -> None:
        """Take parameters from the host."""
        self.parameters.copy_to_device(parameters, stream=self.queue)

    def download(self) -> None:
        """Give the network on the host these parameters."""
        download(self.parameters, self.queue, self.network.parameters.flat)

    # ---------------------------------------------------------------------------------------------------- inference
    def features(self, batch: Batch) -> NDArray:
        """As `Network.features`."""
        size, batch = self.network.stack.output_size, self._prepared(batch)
        if self.per_step:
            return self._by_step(batch, size, lambda run, plan: self._rows_of(run.output, plan.n_rows, size))
        return self._rows_of(self._pooled_features(batch), len(batch), size)

    def outputs(self, batch: Batch) -> NDArray:
        """As `Network.outputs`."""
        batch = self._prepared(batch)
        if self.per_step:
            return self._by_step(batch, self.head.n_outputs, lambda run, plan: self._read_out(run.output, plan.n_rows))
        return self._read_out(self._pooled_features(batch), len(batch))

    def attention_weights(self, batch: Batch) -> NDArray:
        """As `Network.attention_weights`, in a matrix of one column."""
        attention = self.attention
        assert attention is not None

        def weights(run: Any, plan: Plan) -> NDArray:
            attention.forward(self.parameters, run.output, plan)
            return self._rows_of(attention.weights, plan.n_rows, 1)

        return self._by_step(self._prepared(batch), 1, weights)

    def best_tags(self, batch: Batch) -> NDArray:
        """As `Network.decode`, in a matrix of one column."""
        field = self._random_field()

        def tags(run: Any, plan: Plan) -> NDArray:
            return self._rows_of(field.best_tags(self.parameters, run.output, plan), plan.n_rows, 1)

        return self._by_step(self._prepared(batch), 1, tags)

    def marginals(self, batch: Batch) -> NDArray:
        """As `Network.marginals`."""
        field = self._random_field()

        def probabilities(run: Any, plan: Plan) -> NDArray:
            return self._rows_of(field.marginals(self.parameters, run.output, plan), plan.n_rows, field.n_outputs)

        return self._by_step(self._prepared(batch), field.n_outputs, probabilities)

    def _random_field(self) -> RandomFieldOnDevice:
        assert isinstance(self.head, RandomFieldOnDevice)
        return self.head

    def loss(self, batch: Batch) -> float:
        """As `Network.loss`."""
        batch, answers = self._prepared(batch), batch.answers
        assert answers is not None
        self._begin_losses(answers.n_rows)
        n_rows = 0
        if self.per_step:
            for _, rows, run, _ in self._windows(batch, self._inference_steps(batch), 0, training=False):
                count = rows.plan.n_rows
                self.head.loss(
                    self.parameters, run.output, count, rows.answer, answers, self.losses, n_rows, plan=rows.plan
                )
                n_rows += count
        else:
            n_rows = len(batch)
            features = self._pooled_features(batch)
            self.head.loss(self.parameters, features, n_rows, self._answer_rows(batch), answers, self.losses, 0)
        total = float(download(self.losses, self.queue)[:n_rows].sum())
        return total / answers.total if answers.total else 0.0

    def _prepared(self, batch: Batch) -> Batch:
        return self.trunk.prepare(self.parameters, batch)

    def _inference_steps(self, batch: Batch) -> int:
        """Steps of the windows in which sequences are read: all, for what needs to see all of them."""
        whole = self.network.bidirectional or self.attention is not None or self._sees_sequences
        return max(batch.max_length if whole else min(batch.max_length, _INFERENCE_STEPS), 1)

    def _pooled_features(self, batch: Batch) -> Any:
        features: Any = None
        if self.pooling is not None:
            self.pooling.begin(batch.lengths)
            features = self.pooling.features
        for begin, rows, run, _ in self._windows(batch, self._inference_steps(batch), 0, training=False):
            if self.pooling is not None:
                self.pooling.add(run.output, rows.plan, begin)
            else:
                assert self.attention is not None
                features = self.attention.forward(self.parameters, run.output, rows.plan)
        return features

    def _by_step(self, batch: Batch, n_columns: int, compute: Callable[[Any, Plan], NDArray]) -> NDArray:
        """Rows of all time steps, sequence after sequence, of what is computed from the passes over windows."""
        firsts = np.cumsum(batch.lengths) - batch.lengths
        result = np.empty((int(batch.lengths.sum()), n_columns), dtype=self.dtype)
        places = Sequences(result, firsts, batch.lengths)
        steps = self._inference_steps(batch)
        for begin, rows, run, _ in self._windows(batch, steps, 0, training=False):
            n_rows = rows.plan.n_rows
            in_window = download(rows.plan.place, self.queue)[:n_rows]
            result[places.window(begin, begin + steps).rows()[in_window]] = compute(run, rows.plan)
        return result

    def _read_out(self, features: Any, n_rows: int) -> NDArray:
        """Raw outputs of rows of features, on the host."""
        outputs = np.empty((n_rows, self.head.n_outputs), dtype=self.dtype)
        at_once = self.head.rows_at_once
        for first in range(0, n_rows, at_once):
            count = min(at_once, n_rows - first)
            own = self.head.outputs(self.parameters, features, first, count)
            outputs[first : first + count] = download(own, self.queue)
        return outputs

    def _rows_of(self, matrix: Any, n_rows: int, n_columns: int) -> NDArray:
        """The first rows of a matrix, on the host."""
        return download(matrix, self.queue)[: n_rows * n_columns].reshape(n_rows, n_columns)

    # ----------------------------------------------------------------------------------------------------- training
    def accumulate(
        self, batch: Batch, scale: float, *, bptt_steps: int | None = None, dropout_seed: int = 0, state: Any = None
    ) -> None:
        """Write the losses of the rows of a batch to `losses`, and its gradient to `gradient`.

        Parameters
        ----------
        batch : Batch
        scale : float
            Factor of the gradient.
        bptt_steps, dropout_seed, state
            As for `Network.loss_and_gradient`; a state is one that `state` was.
        """
        assert batch.answers is not None
        clear(self.queue, self.gradient, 0, self.gradient.size)
        self._begin_losses(batch.answers.n_rows)
        self.state = None
        batch = self.trunk.prepare(self.parameters, batch, training=True)
        if bptt_steps is None or bptt_steps >= batch.max_length:
            self._at_once(batch, 0, batch.max_length, scale, dropout_seed, state)
        elif self.per_step and not self._sees_sequences:
            self._step_by_step(batch, scale, dropout_seed, bptt_steps)
        elif self.network.pooling == "last":
            self._last_window(batch, scale, dropout_seed, bptt_steps)
        else:
            self._twice(batch, scale, dropout_seed, bptt_steps)
        self.trunk.finish(self.parameters, self.gradient)

    def _at_once(self, batch: Batch, begin: Any, end: Any, scale: float, seed: int, state: Any = None) -> None:
        rows = self._rows(batch, begin, end)
        run = self._forward(batch, rows, state, seed)
        if self.per_step:
            d_outputs = self._learn(
                run.output, rows.plan.n_rows, rows.answer, batch, 0, scale, rows.plan.place, seed, rows.plan
            )
        elif self.attention is not None:
            features = self.attention.forward(self.parameters, run.output, rows.plan)
            d_features = self._learn_pooled(features, batch, scale, seed)
            d_outputs = self.attention.backward(self.parameters, run.output, rows.plan, d_features, self.gradient)
        else:
            assert self.pooling is not None
            self.pooling.begin(batch.lengths if self.pooling.kind != "last" else rows.lengths)
            self.pooling.add(run.output, rows.plan, 0)
            d_features = self._learn_pooled(self.pooling.features, batch, scale, seed)
            d_outputs = self.pooling.gradient(d_features, rows.plan, 0)
        self.trunk.backward(run, self.parameters, rows, d_outputs, self.gradient, seed)
        self.state = run.state

    def _last_window(self, batch: Batch, scale: float, dropout_seed: int, steps: int) -> None:
        """The loss sees the last states: there is no gradient but in the last steps of every sequence."""
        cut = np.maximum(batch.lengths - steps, 0)
        training = self.network.trunk.uses_dropout
        state = None
        at_once = steps if training else max(steps, _PREFIX_STEPS)
        for begin in range(0, max(int(cut.max(initial=0)), 1), at_once):
            rows = self._rows(batch, np.minimum(begin, cut), np.minimum(begin + at_once, cut))
            seed = window_seed(dropout_seed, begin)
            run = self.trunk.forward(self.parameters, batch, rows, state=state, training=training, dropout_seed=seed)
            state = run.state
        self._at_once(batch, cut, batch.lengths, scale, window_seed(dropout_seed, batch.max_length), state)
        self.state = None

    def _step_by_step(self, batch: Batch, scale: float, dropout_seed: int, steps: int) -> None:
        """The loss of a time step sees nothing but that step: window after window."""
        first = 0
        for _, rows, run, seed in self._windows(batch, steps, dropout_seed, training=True):
            n_rows = rows.plan.n_rows
            d_outputs = self._learn(run.output, n_rows, rows.answer, batch, first, scale, rows.plan.place, seed)
            self.trunk.backward(run, self.parameters, rows, d_outputs, self.gradient, seed)
            first += n_rows

    def _twice(self, batch: Batch, scale: float, dropout_seed: int, steps: int) -> None:
        """The loss sees all of a sequence: once through all windows to get it, and once more with the way back."""
        if self.pooling is None:
            self._twice_over_outputs(batch, scale, dropout_seed, steps)
            return
        self.pooling.begin(batch.lengths)
        for begin, rows, run, _ in self._windows(batch, steps, dropout_seed, self.network.trunk.uses_dropout):
            self.pooling.add(run.output, rows.plan, begin)
        d_features = self._learn_pooled(self.pooling.features, batch, scale, dropout_seed)
        for begin, rows, run, seed in self._windows(batch, steps, dropout_seed, training=True):
            d_outputs = self.pooling.gradient(d_features, rows.plan, begin)
            self.trunk.backward(run, self.parameters, rows, d_outputs, self.gradient, seed)

    def _twice_over_outputs(self, batch: Batch, scale: float, dropout_seed: int, steps: int) -> None:
        """Head or pooling read the outputs of all time steps, which are kept; the layers go through windows."""
        queue, arrays, size = self.queue, self.arrays, self.head.n_features
        whole = Plan(batch.lengths, DeviceArrays(), queue)
        positions = np.empty(len(batch), dtype=np.int64)
        positions[whole.packing.order] = np.arange(len(batch))
        at = arrays.put("positions", positions, queue)
        hidden = arrays.at_least("outputs of all steps", whole.n_rows * size, self.dtype)

        def places(plan: Plan, begin: int) -> Any:
            rows = arrays.at_least("rows of window", plan.n_rows, np.int64)
            window_rows(queue, plan.offsets, plan.n_timesteps, plan.order, whole.offsets, at, begin, rows)
            return rows

        for begin, rows, run, _ in self._windows(batch, steps, dropout_seed, self.network.trunk.uses_dropout):
            scatter_rows(queue, run.output, hidden, rows.plan.n_rows, size, places(rows.plan, begin))
        if self.attention is not None:
            features = self.attention.forward(self.parameters, hidden, whole)
            d_features = self._learn_pooled(features, batch, scale, dropout_seed)
            d_hidden = self.attention.backward(self.parameters, hidden, whole, d_features, self.gradient)
        else:
            answers = WindowRows(self.plans, self.arrays, batch, 0, batch.max_length, True, queue).answer
            d_hidden = self._learn(hidden, whole.n_rows, answers, batch, 0, scale, whole.place, dropout_seed, whole)
        for begin, rows, run, seed in self._windows(batch, steps, dropout_seed, training=True):
            d_outputs = arrays.at_least("d outputs of window", rows.plan.n_rows * size, self.dtype)
            gather_rows(queue, d_hidden, d_outputs, rows.plan.n_rows, size, places(rows.plan, begin))
            self.trunk.backward(run, self.parameters, rows, d_outputs, self.gradient, seed)

    def _windows(
        self, batch: Batch, steps: int, dropout_seed: int, training: bool
    ) -> Iterator[tuple[int, WindowRows, Any, int]]:
        """First step, rows, pass and seed of the windows [0, steps), [steps, 2 steps), ..."""
        state = None
        for begin in range(0, max(batch.max_length, 1), steps):
            rows = self._rows(batch, begin, begin + steps)
            seed = window_seed(dropout_seed, begin)
            run = self.trunk.forward(self.parameters, batch, rows, state=state, training=training, dropout_seed=seed)
            state = run.state
            yield begin, rows, run, seed

    def _forward(self, batch: Batch, rows: WindowRows, state: Any, seed: int) -> Any:
        return self.trunk.forward(self.parameters, batch, rows, state=state, training=True, dropout_seed=seed)

    def _learn_pooled(self, features: Any, batch: Batch, scale: float, seed: int) -> Any:
        return self._learn(features, len(batch), self._answer_rows(batch), batch, 0, scale, self._nothing, seed)

    def _learn(
        self,
        features: Any,
        n_rows: int,
        of_answers: Any,
        batch: Batch,
        first: int,
        scale: float,
        numbers: Any,
        seed: int,
        plan: Plan | None = None,
    ) -> Any:
        """The head, forward and backward: the gradient of the features. `numbers` are the rows of the dropout mask."""
        answers = batch.answers
        assert answers is not None
        size, probability = self.head.n_features, self.network.output_dropout
        mask: Any = None
        if probability > 0:
            mask = dropout_of(probability, seed).mask(OUTPUT_STREAM, self.dtype)
            kept = self.arrays.at_least("features", n_rows * size, self.dtype)
            dropout(self.queue, features, kept, n_rows, size, numbers, *mask)
            features = kept
        d_features = self.head.loss(
            self.parameters, features, n_rows, of_answers, answers, self.losses, first, scale, self.gradient, plan
        )
        if mask is not None:
            dropout(self.queue, d_features, d_features, n_rows, size, numbers, *mask)
        return d_features

    def _begin_losses(self, n_rows: int) -> None:
        self.losses = self.arrays.at_least("losses", n_rows, np.float64)

    def _answer_rows(self, batch: Batch) -> Any:
        assert batch.answers is not None
        return self.arrays.put("answers of sequences", batch.answers.starts, self.queue)

    def _rows(self, batch: Batch, begin: Any, end: Any) -> WindowRows:
        return WindowRows(self.plans, self.arrays, batch, begin, end, self.per_step, self.queue)
