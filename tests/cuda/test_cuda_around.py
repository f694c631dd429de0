"""Kernels around the recurrence: equal to those of the CPU on the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from numrnn.kernels.cpu.dropout import dropout as dropout_of_cpu
from numrnn.kernels.cpu.likelihoods import LIKELIHOODS
from numrnn.kernels.cpu.losses import LOSSES, workspace_size
from numrnn.kernels.cuda import dropout, embedding, losses
from numrnn.kernels.cuda.arrays import DeviceArrays, add_columns, download, new_queue, spread, upload

# More rows than the blocks of the simulator have threads, and no multiple of anything.
N_ROWS = 11
LEVELS = np.array([0.1, 0.5, 0.9])


@pytest.fixture
def queue():
    return new_queue()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("numbered", [False, True])
def test_dropout_draws_the_masks_of_the_cpu(rng, queue, dtype, numbered):
    x = rng.normal(size=(7, 5)).astype(dtype)
    mask = np.uint32(3), np.uint32(4), np.uint32(2**31), np.dtype(dtype).type(2)
    wanted = x.copy()
    dropout_of_cpu(wanted.reshape(-1), 7, 5, 5, *mask)
    numbers = rng.permutation(7) if numbered else np.arange(7)
    source, target = upload(x[numbers].reshape(-1), queue), upload(np.ones(35, dtype=dtype), queue)
    dropout.dropout(queue, source, target, 7, 5, upload(numbers if numbered else numbers[:0], queue), *mask)
    np.testing.assert_array_equal(download(target, queue).reshape(7, 5), wanted[numbers])
    assert 5 < (wanted == 0).sum() < 30


def make_rows(rng, loss, n_outputs, dtype):
    per_target = {"gaussian": 2, "student_t": 3, "negative_binomial": 2, "quantile": 3}.get(loss, 1)
    outputs = rng.normal(scale=3.0, size=(N_ROWS, n_outputs)).astype(dtype)
    if loss == "cross_entropy":
        return outputs, rng.integers(0, n_outputs, N_ROWS)
    n_targets = n_outputs // per_target
    if loss == "negative_binomial":
        return outputs, (1 + rng.integers(0, 9, (N_ROWS, 2 * n_targets))).astype(dtype)
    targets = rng.normal(size=(N_ROWS, n_targets)).astype(dtype)
    targets[2, 0] = np.nan  # missing
    return outputs, targets


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", [*LOSSES, *LIKELIHOODS])
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_are_those_of_the_cpu(rng, queue, dtype, loss, weighted):
    tolerance = 3e-6 if dtype == "float32" else 1e-12
    kernel = LOSSES[loss] if loss in LOSSES else LIKELIHOODS[loss].kernel
    # A thread works on a row of few classes, a block on one of many.
    for n_outputs in (6, 70) if loss == "cross_entropy" else (6,):
        outputs, targets = make_rows(rng, loss, n_outputs, dtype)
        weights = rng.uniform(0.5, 2.0, N_ROWS) if weighted else np.ones(N_ROWS)
        if weighted:
            weights[4], outputs[4] = 0.0, np.inf  # counts for nothing, whatever it is
        option = {"cross_entropy": (0.1, np.zeros(workspace_size(n_outputs))), "quantile": (LEVELS,)}.get(loss, ())
        d_wanted = np.empty_like(outputs)
        total = kernel(outputs, targets, weights, *option, 0.3, d_wanted)
        # Targets and weights lie somewhere else than the rows.
        answers = rng.permutation(N_ROWS)
        of_targets, of_weights = np.empty_like(targets), np.empty_like(weights)
        of_targets[answers], of_weights[answers] = targets, weights
        d_outputs, rows = upload(np.empty_like(outputs), queue), upload(np.zeros(N_ROWS + 2), queue)
        losses.LOSSES[loss](
            queue,
            upload(outputs, queue),
            N_ROWS,
            upload(answers, queue),
            upload(of_targets, queue),
            upload(of_weights if weighted else of_weights[:0], queue),
            upload(LEVELS, queue) if loss == "quantile" else 0.1,
            0.3,
            d_outputs,
            rows,
            1,
        )
        values = download(rows, queue)
        assert values[0] == values[-1] == 0
        np.testing.assert_allclose(values.sum(), total, rtol=tolerance)
        np.testing.assert_allclose(download(d_outputs, queue), d_wanted, rtol=10 * tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_embedding_looks_up_and_adds_in_any_order(rng, queue, dtype):
    """Rows of one number, in another order: the same bits, since whole numbers are added."""
    n_entries, dimension = 5, 3
    data = np.column_stack([rng.integers(0, n_entries, 9), rng.normal(size=(9, 2))]).astype(dtype)
    flat = rng.normal(size=2 + n_entries * dimension).astype(dtype)
    summands = rng.normal(size=(9, 6), scale=1e-3).astype(dtype)
    results = []
    for rows in (np.arange(9), rng.permutation(9)):
        target, numbers = upload(np.zeros(9 * 6, dtype=dtype), queue), upload(np.zeros(9, dtype=np.int64), queue)
        values, of_rows = upload(data.reshape(-1), queue), upload(rows, queue)
        embedding.look_up(queue, values, of_rows, 9, 3, 0, upload(flat, queue), 2, dimension, target, 6, 1, numbers)
        embedding.copy_columns(queue, values, of_rows, 9, 3, upload(np.array([2, 1]), queue), 2, target, 6, 4)
        got, chosen = download(target, queue).reshape(9, 6), data[rows, 0].astype(int)
        np.testing.assert_array_equal(got[:, 1:4], flat[2:].reshape(n_entries, dimension)[chosen])
        np.testing.assert_array_equal(got[:, 4:], data[rows][:, [2, 1]])
        assert (got[:, 0] == 0).all()
        gradient, sums = upload(np.zeros_like(flat), queue), upload(np.zeros(n_entries * dimension, np.int64), queue)
        largest = upload(np.zeros(embedding.MAGNITUDE_BLOCKS, dtype=dtype), queue)
        moved = upload(summands[rows].reshape(-1), queue)
        embedding.add_table_gradient(queue, numbers, 9, moved, 6, 1, n_entries, dimension, largest, sums, gradient, 2)
        results.append(download(gradient, queue))
        wanted = np.zeros(len(flat))
        np.add.at(wanted[2:].reshape(n_entries, dimension), chosen, summands[rows, 1:4].astype(np.float64))
        np.testing.assert_allclose(results[-1], wanted, rtol=1e-6 if dtype == "float32" else 1e-14, atol=1e-17)
        assert (download(sums, queue) == 0).all()
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_gradients_of_tables_that_are_no_numbers_are_seen(queue, value):
    summands = np.zeros((3, 2), dtype=np.float32)
    summands[1, 1] = value
    gradient = upload(np.zeros(8, dtype=np.float32), queue)
    embedding.add_table_gradient(
        queue, upload(np.array([3, 0, 3]), queue), 3, upload(summands.reshape(-1), queue), 2, 0, 4, 2,
        upload(np.zeros(embedding.MAGNITUDE_BLOCKS, np.float32), queue), upload(np.zeros(8, np.int64), queue),
        gradient, 0,
    )  # fmt: skip
    assert np.isfinite(np.linalg.norm(download(gradient, queue))) == (value == 0)


@pytest.mark.parametrize("shape", [(7, 3), (5, 70), (1, 1), (0, 3)])
def test_sums_of_columns(rng, queue, shape):
    matrix, vector = rng.normal(size=shape), rng.normal(size=shape[1] + 1)
    target = upload(vector, queue)
    add_columns(queue, upload(matrix.reshape(-1), queue), *shape, target, 1)
    wanted = vector.copy()
    wanted[1:] += matrix.sum(axis=0)
    np.testing.assert_allclose(download(target, queue), wanted, rtol=1e-13)


def test_scratch_arrays_grow_and_are_used_again(queue):
    arrays = DeviceArrays()
    first = arrays.at_least("one", 4, np.float32)
    assert arrays.at_least("one", 3, np.float32) is first
    assert arrays.at_least("one", 9, np.float32).size == 9
    assert arrays.n_bytes == 36
    held = arrays.put("two", np.arange(3), queue)
    assert arrays.put("two", np.array([7, 8]), queue) is held
    np.testing.assert_array_equal(download(held, queue), [7, 8, 2])
    matrix = arrays.matrix("three", 2, 3, np.float64)
    spread(queue, upload(np.arange(4.0), queue), 1, 3, matrix.reshape(-1), 2)
    np.testing.assert_array_equal(download(matrix, queue), [[1, 2, 3]] * 2)
