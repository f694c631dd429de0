"""Recurrent layers on the device equal those of the CPU, whatever the geometry, and are the same from run to run."""

from __future__ import annotations

import contextlib
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from numrnn.cuda.batches import Plans
from numrnn.cuda.stack import DeviceStack
from numrnn.kernels.cuda.arrays import DeviceArrays, download, new_queue, upload
from numrnn.kernels.cuda.blas import column_major
from numrnn.kernels.cuda.grids import SIMULATED
from numrnn.kernels.cuda.matrices import multiply
from numrnn.packing import Sequences
from numrnn.parameters import Parameters
from numrnn.stack import RecurrentStack

CELLS = ("rnn_tanh", "rnn_relu", "lstm", "gru")


class Pair:
    """The same layers on both, with the same parameters, and a batch of sequences."""

    def __init__(self, cell, hidden_sizes, lengths, *, input_size=3, dtype="float64", step_by_step=False, **options):
        rng = np.random.default_rng(5)
        self.stack = RecurrentStack(cell, input_size, hidden_sizes, dtype=dtype, **options)
        self.parameters = Parameters(self.stack.parameter_shapes(), self.stack.dtype)
        self.parameters.flat[:] = rng.normal(0, 0.5, self.parameters.size)
        lengths = np.array(lengths, dtype=np.int64)
        values = rng.normal(size=(int(lengths.sum()), input_size)).astype(dtype)
        self.sequences = Sequences(values, np.cumsum(lengths) - lengths, lengths)
        self.queue = new_queue()
        self.device = DeviceStack(self.stack, self.parameters, DeviceArrays(), self.queue)
        self.device.step_by_step = step_by_step
        self.d_output = rng.normal(size=(len(values), self.stack.output_size)).astype(dtype)
        sizes = [size for size in hidden_sizes for _ in range(self.stack.n_directions)]
        shapes = [(self.stack.n_states, len(lengths), size) for size in sizes]
        self.state = [rng.normal(size=shape).astype(dtype) for shape in shapes]
        self.d_state = [rng.normal(size=shape).astype(dtype) for shape in shapes]

    def on_device(self, states):
        swapped = [np.ascontiguousarray(state.swapaxes(0, 1)) for state in states]
        return [(upload(state.reshape(-1), self.queue), 0) for state in swapped]

    def on_host(self, states):
        results = []
        for (array, first), like in zip(states, self.state, strict=True):
            n_states, n_sequences, size = like.shape
            flat = download(array, self.queue)[first : first + like.size]
            results.append(flat.reshape(n_sequences, n_states, size).swapaxes(0, 1))
        return results

    def host(self, training=True, seed=7):
        run = self.stack.forward(
            self.parameters, self.sequences, state=self.state, training=training, dropout_seed=seed
        )
        results = {"output": run.output, **self._named("state", run.state)}
        if training:
            gradient = self.parameters.zeros_like()
            d_input, d_initial = self.stack.backward(
                run, self.parameters, self.d_output, gradient, d_state=self.d_state, need_input=True
            )
            results |= {"d_input": d_input, "gradient": gradient.flat, **self._named("d_initial", d_initial)}
        return results

    def cuda(self, training=True, seed=7):
        queue = self.queue
        plan = Plans().of(self.sequences.lengths, queue)
        place = download(plan.place, queue)[: plan.n_rows]
        inputs = upload(self.sequences.values[place].reshape(-1), queue)
        parameters = upload(self.parameters.flat, queue)
        run = self.device.forward(
            inputs,
            plan,
            parameters=parameters,
            state=self.on_device(self.state),
            training=training,
            dropout_seed=seed,
        )
        results = {
            "output": self._rows(run.output, place, self.stack.output_size),
            **self._named("state", self.on_host(run.state)),
        }
        if training:
            gradient = upload(np.zeros_like(self.parameters.flat), queue)
            d_output = upload(self.d_output[place].reshape(-1), queue)
            d_state = self.on_device(self.d_state)
            d_input = self.device.backward(run, parameters, d_output, gradient, d_state=d_state, need_input=True)
            results |= {
                "d_input": self._rows(d_input, place, self.stack.input_size),
                "gradient": download(gradient, queue),
            }
            results |= self._named("d_initial", self.on_host(run.d_initial))
        return results

    def _rows(self, packed, place, width):
        flat = download(packed, self.queue)
        result = np.empty((len(place), width), self.stack.dtype)
        result[place] = flat[: len(place) * width].reshape(len(place), width)
        return result

    @staticmethod
    def _named(name, arrays):
        return {f"{name} {i}": array for i, array in enumerate(arrays)}


def check(pair, tolerance=1e-12, training=True):
    expected, found = pair.host(training), pair.cuda(training)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("cell", CELLS)
def test_ragged_batches_in_both_directions(cell):
    check(Pair(cell, (5,), [2, 1, 3, 0, 2], bidirectional=True))


def test_step_by_step():
    check(Pair("gru", (5,), [1, 3], bidirectional=True, step_by_step=True, recurrent_dropout=0.3))


@pytest.mark.parametrize("cell", ("rnn_tanh", "gru", "lstm"))
def test_one_of_everything(cell):
    check(Pair(cell, (1,), [1], input_size=1))


@pytest.mark.parametrize("cell", ("gru", "lstm"))
def test_units_divided_among_blocks(cell):
    pair = Pair(cell, (9,), [2, 1, 2])
    check(pair)
    (launches,) = pair.device._chosen.values()
    assert [launch.geometry.n_unit_blocks > 1 for launch in launches] == [SIMULATED, SIMULATED]


def test_sequences_without_steps():
    check(Pair("gru", (2,), [0, 0], bidirectional=True))


def test_float32():
    check(Pair("lstm", (6,), [2, 3, 1], dtype="float32"), 1e-5)


@pytest.mark.parametrize("cell", ("lstm", "gru"))
def test_dropout_and_residual_connections(cell):
    check(Pair(cell, (3, 3), [2, 2], dropout=0.4, recurrent_dropout=0.4, residual=True))


def test_inference():
    check(Pair("lstm", (3, 2), [3, 1, 2], bidirectional=True), training=False)


def test_the_same_bits_from_run_to_run():
    pair = Pair("gru", (3,), [2, 1], dtype="float32", recurrent_dropout=0.2)
    first, second = pair.cuda(), pair.cuda()
    for name, array in first.items():
        assert np.array_equal(array, second[name]), name


@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("accumulate", [False, True])
def test_products(transposed, accumulate):
    rng = np.random.default_rng(6)
    m, n, k = 3, 9, 21
    a, b, out = rng.normal(size=(m, k)), rng.normal(size=(k, n)), rng.normal(size=(m, n + 2))
    expected = out.copy()
    expected[:, 1 : n + 1] = a @ b + (out[:, 1 : n + 1] if accumulate else 0)
    factors = [np.ascontiguousarray(x.T if t else x) for x, t in zip((a, b), transposed, strict=True)]
    queue = new_queue()
    left, right, target = (upload(x.reshape(-1), queue) for x in (*factors, out))
    multiply(
        queue,
        DeviceArrays(),
        (left, 0, transposed[0]),
        (right, 0, transposed[1]),
        (target, 1, n + 2),
        (m, n, k),
        accumulate,
    )
    np.testing.assert_allclose(download(target, queue).reshape(out.shape), expected, atol=1e-13)
    # cuBLAS reads what lies by rows as columns.
    form = column_major(*transposed, (m, n, k))
    by_columns = [x.reshape(-1).reshape(x.shape[::-1], order="F") for x in factors[::-1]]
    first, second = (
        x.T if t else x for x, t in zip(by_columns, (form.first_transposed, form.second_transposed), strict=True)
    )
    assert first.shape == (form.m, form.k) and second.shape == (form.k, form.n)
    np.testing.assert_allclose((first @ second).reshape(-1, order="F"), (a @ b).reshape(-1), atol=1e-13)


@pytest.mark.parametrize("arithmetic", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_product_says_its_arithmetic(monkeypatch, arithmetic, dtype):
    """Which function of cuBLAS is called, and with what: cuBLAS is the one stand-in here."""
    from numrnn.kernels.cuda import blas

    calls = []
    cublas = SimpleNamespace(
        sgemm=lambda *a: calls.append(("sgemm", a)),
        dgemm=lambda *a: calls.append(("dgemm", a)),
        gemmEx=lambda *a: calls.append(("gemmEx", a)),
    )
    package = ModuleType("cupy.cuda")
    package.cublas, package.device = cublas, SimpleNamespace(get_cublas_handle=lambda: 7)
    monkeypatch.setitem(sys.modules, "cupy", ModuleType("cupy"))
    monkeypatch.setitem(sys.modules, "cupy.cuda", package)
    monkeypatch.setattr(blas, "_external_stream", lambda pointer: contextlib.nullcontext())
    monkeypatch.setattr(blas, "_address", lambda array, first: 1000 * array.size + first)
    monkeypatch.setattr(blas, "products", lambda: arithmetic)
    a, b, out = (np.zeros(size, dtype=dtype) for size in (6, 12, 8))
    queue = SimpleNamespace(handle=3)
    blas.multiply_by_blas(queue, (a, 0, False), 3, (b, 1, False), 4, (out, 2), 4, (2, 4, 3), True)
    ((name, given),) = calls
    addresses = 12001, 6000, 8002
    assert given[:6] == (7, 0, 0, 4, 2, 3)
    if dtype == "float64" or arithmetic == "float32":
        assert name == ("sgemm" if dtype == "float32" else "dgemm")
        assert (given[7], given[9], given[12]) == addresses
        assert (given[8], given[10], given[13]) == (4, 3, 4)
    else:
        assert name == "gemmEx"
        assert (given[7], given[10], given[14]) == addresses
        assert (given[9], given[12], given[16]) == (4, 3, 4)
        assert given[17] == {"tf32": 77, "bfloat16": 75}[arithmetic]
        assert given[8] == given[11] == given[15] == 0


def test_products_are_chosen_by_a_variable(monkeypatch):
    from numrnn.kernels.cuda import availability, blas

    for name in ("float32", "tf32", "bfloat16"):
        monkeypatch.setenv("NUMRNN_CUDA_PRODUCTS", name)
        assert availability.products.__wrapped__() == name
    monkeypatch.setenv("NUMRNN_CUDA_PRODUCTS", "float16")
    with pytest.raises(ValueError, match="NUMRNN_CUDA_PRODUCTS must be one of float32, tf32, bfloat16, got 'float16'"):
        availability.products.__wrapped__()
    # Nobody who asks for tensor cores gets something else.
    monkeypatch.setattr(blas, "products", lambda: "tf32")
    monkeypatch.setattr(blas, "SIMULATED", False)
    monkeypatch.setattr(blas, "_finds_blas", lambda: False)
    with pytest.raises(RuntimeError, match="NUMRNN_CUDA_PRODUCTS=tf32 needs cuBLAS"):
        blas.has_blas.__wrapped__()
