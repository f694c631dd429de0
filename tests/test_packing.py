"""Sequences and their packed order, against the definition spelled out with Python lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numrnn.packing import Packing, Sequences

some_lengths = st.lists(st.integers(0, 9), min_size=1, max_size=12)


def sequences_of(lengths, n_features=2):
    """Sequence i has the rows (i, 0), (i, 1), ..."""
    arrays = [np.array([[i, t] for t in range(n)], dtype=float).reshape(n, n_features) for i, n in enumerate(lengths)]
    return arrays, Sequences.from_list(arrays)


@given(some_lengths)
def test_packing_is_time_major_and_longest_first(lengths):
    packing = Packing(np.array(lengths))
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])  # stable, as the packing must be
    assert packing.order.tolist() == order
    assert packing.lengths.tolist() == [lengths[i] for i in order]
    assert packing.n_sequences == len(lengths)
    assert packing.n_timesteps == max(lengths)
    assert packing.n_rows == sum(lengths)
    assert packing.offsets[0] == 0
    for t in range(packing.n_timesteps):
        assert packing.offsets[t + 1] - packing.offsets[t] == sum(n > t for n in lengths)
    for array in (packing.order, packing.lengths, packing.offsets):
        assert array.dtype == np.int64 and array.flags.c_contiguous


@given(some_lengths)
def test_packed_rows_find_their_time_steps(lengths):
    _, sequences = sequences_of(lengths)
    packing = Packing(sequences.lengths)
    packed = sequences.values[packing.rows(sequences.starts)]
    expected = [
        [i, t]
        for t in range(max(lengths))
        for i in sorted(range(len(lengths)), key=lambda i: -lengths[i])
        if lengths[i] > t
    ]
    np.testing.assert_array_equal(packed, np.array(expected, dtype=float).reshape(-1, 2))


def test_packing_of_nothing():
    packing = Packing(np.zeros(0, dtype=np.int64))
    assert (packing.n_sequences, packing.n_timesteps, packing.n_rows) == (0, 0, 0)
    assert packing.rows(np.zeros(0, dtype=np.int64)).shape == (0,)


def test_equal_lengths_keep_the_callers_order():
    packing = Packing(np.array([3, 3, 3]))
    assert packing.order.tolist() == [0, 1, 2]
    assert packing.offsets.tolist() == [0, 3, 6, 9]
    assert Packing(np.array([2, 5, 2, 5])).order.tolist() == [1, 3, 0, 2]


@given(some_lengths)
def test_sequences_of_a_list_are_its_arrays(lengths):
    arrays, sequences = sequences_of(lengths)
    assert len(sequences) == len(arrays)
    assert sequences.n_steps == sum(lengths)
    assert sequences.max_length == max(lengths)
    assert sequences.n_features == 2
    for mine, array in zip(sequences, arrays, strict=True):
        np.testing.assert_array_equal(mine, array)
    np.testing.assert_array_equal(sequences.values[sequences.rows()], np.concatenate(arrays))


@given(some_lengths, st.integers(0, 3))
def test_sequences_of_a_padded_array(lengths, padding):
    x = np.arange(len(lengths) * (max(lengths) + padding) * 3, dtype=float).reshape(len(lengths), -1, 3)
    sequences = Sequences.from_padded(x, np.array(lengths))
    for i, sequence in enumerate(sequences):
        np.testing.assert_array_equal(sequence, x[i, : lengths[i]])
    assert x.size == 0 or np.shares_memory(sequences.values, x)


def test_a_padded_array_is_copied_only_if_it_must_be():
    x = np.arange(24.0).reshape(2, 4, 3)
    assert Sequences.from_padded(x).lengths.tolist() == [4, 4]
    for strided in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]):
        sequences = Sequences.from_padded(strided)
        assert sequences.values.flags.c_contiguous
        np.testing.assert_array_equal(np.stack(list(sequences)), x)


@given(some_lengths, st.data())
def test_take_chooses_in_order_and_shares_rows(lengths, data):
    arrays, sequences = sequences_of(lengths)
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=15))
    taken = sequences.take(np.array(chosen, dtype=np.int64))
    assert taken.values is sequences.values
    assert len(taken) == len(chosen)
    for mine, i in zip(taken, chosen, strict=True):
        np.testing.assert_array_equal(mine, arrays[i])


@given(some_lengths, st.integers(0, 10), st.integers(0, 10))
def test_a_window_is_a_slice_of_every_sequence(lengths, begin, length):
    arrays, sequences = sequences_of(lengths)
    window = sequences.window(begin, begin + length)
    assert window.values is sequences.values
    for mine, array in zip(window, arrays, strict=True):
        np.testing.assert_array_equal(mine, array[begin : begin + length])
    assert (window.starts + window.lengths <= len(sequences.values)).all()


def test_windows_of_each_sequence_its_own():
    arrays, sequences = sequences_of([5, 2, 0])
    window = sequences.window(np.array([1, 1, 0]), np.array([4, 9, 3]))
    for mine, expected in zip(window, (arrays[0][1:4], arrays[1][1:], arrays[2]), strict=True):
        np.testing.assert_array_equal(mine, expected)


@given(some_lengths, st.integers(1, 4))
def test_windows_cover_every_step_once(lengths, size):
    _, sequences = sequences_of(lengths)
    rows = [sequences.window(begin, begin + size).rows() for begin in range(0, max(lengths) + 1, size)]
    assert sorted(np.concatenate(rows).tolist()) == list(range(sequences.n_steps))


@pytest.mark.parametrize("lengths", [[4], [1, 1], [0]])
def test_int64_tables_whatever_comes_in(lengths):
    assert Packing(np.array(lengths, dtype=np.int32)).lengths.dtype == np.int64
