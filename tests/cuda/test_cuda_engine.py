"""Training on the device: a fit is that of the CPU, and leaves the same behind."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from numrnn.cuda import engine as engine_module
from numrnn.cuda.engine import DeviceEngine
from numrnn.cuda.memory import check_memory, memory_need
from numrnn.cuda.network import DeviceNetwork
from numrnn.kernels.cuda.arrays import DeviceArrays, Stager, download, new_queue
from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.training.data import TrainingData
from numrnn.training.engine import HostEngine
from numrnn.training.loop import train
from numrnn.training.solvers import SGD, Adam
from numrnn.training.streams import StreamWindows


def make_network(seed=1, dtype="float64", **form):
    form = {"cell": "rnn_tanh", "input_size": 2, "hidden_sizes": (3,), "n_outputs": 2, **form}
    network = Network(dtype=dtype, **form)
    network.initialize(np.random.RandomState(seed))
    return network


def make_data(n=4, seed=0, ids=False, weighted=True):
    rng = np.random.RandomState(seed)
    arrays = [rng.standard_normal((length, 2)) for length in 1 + np.arange(n) % 3]
    for array in arrays if ids else ():
        array[:, 0] = rng.randint(0, 4, len(array))
    return Sequences.from_list(arrays), rng.randint(0, 2, n), rng.uniform(0.5, 2.0, n) if weighted else None


def run(network, data, **options):
    options = {"batch_size": 2, "max_iter": 2, "tol": 0.0, "learning_rate_init": 0.05, "max_grad_norm": 0.5, **options}
    return train(network, *data, rng=np.random.RandomState(3), **options)


def check_same(one, other, state, of_other):
    np.testing.assert_allclose(of_other.loss_curve, state.loss_curve, rtol=1e-7)
    np.testing.assert_allclose(other.parameters.flat, one.parameters.flat, rtol=1e-6, atol=1e-9)
    assert state.solver.n_updates == of_other.solver.n_updates
    for name, moment in state.solver.moments.items():
        np.testing.assert_allclose(of_other.solver.moments[name], moment, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("tables", [(), ((0, 4, 2),)])
@pytest.mark.parametrize("solver", ["adam", "adamw", "sgd", "rmsprop", SGD(momentum=0), SGD(nesterov=False)])
def test_a_fit_is_that_of_the_cpu_and_goes_on_on_the_other_device(solver, tables):
    if tables and not isinstance(solver, str):
        return
    data = make_data(ids=bool(tables))
    networks = [make_network(embeddings=tables) for _ in range(2)]
    solvers = copy.deepcopy(solver), copy.deepcopy(solver)
    states = [
        run(network, data, solver=own, alpha=0.1, engine=engine)
        for network, own, engine in zip(networks, solvers, (HostEngine, DeviceEngine), strict=True)
    ]
    check_same(*networks, *states)
    for network, own, engine, state in zip(networks, solvers, (DeviceEngine, HostEngine), states, strict=True):
        run(network, data, solver=own, alpha=0.1, engine=engine, state=state, max_iter=1)
    check_same(*networks, *states)


def test_dropout_and_truncation():
    networks = [make_network(dropout=0.3, hidden_sizes=(3, 2), output_dropout=0.2) for _ in range(2)]
    states = [
        run(network, make_data(weighted=False), bptt_steps=2, engine=engine)
        for network, engine in zip(networks, (HostEngine, DeviceEngine), strict=True)
    ]
    check_same(*networks, *states)


def test_windows_of_streams_carry_their_state():
    ids = np.random.RandomState(0).randint(0, 4, 2 * 7 + 1)
    networks, states = [], []
    for engine in (HostEngine, DeviceEngine):
        streams = Sequences.from_padded(ids[:14].astype(np.float64).reshape(2, 7, 1))
        network = make_network(cell="lstm", input_size=1, embeddings=((0, 4, 2),), pooling=None, n_outputs=4)
        source = StreamWindows(streams, ids[1:15], 3)
        states.append(run(network, (source,), batch_size=1, shuffle=False, engine=engine))
        networks.append(network)
    check_same(*networks, *states)


def test_early_stopping_judges_on_the_device():
    validation = make_data(3, seed=8)
    networks = [make_network() for _ in range(2)]
    states = [
        run(network, make_data(), early_stopping=True, validation=validation, engine=engine)
        for network, engine in zip(networks, (HostEngine, DeviceEngine), strict=True)
    ]
    np.testing.assert_allclose(*(state.validation_scores for state in states), rtol=1e-8)
    check_same(*networks, *states)


def test_the_last_good_parameters_come_back():
    sequences, _, weights = make_data()
    networks, errors = [make_network(loss="squared_error", n_outputs=1) for _ in range(2)], []
    data = sequences, np.array([0.0, 1.0, 2.0, 1e200]), weights
    for network, engine in zip(networks, (HostEngine, DeviceEngine), strict=True):
        before = network.parameters.flat.copy()
        with pytest.raises(FloatingPointError, match=r"in epoch 1 \(minibatch 2 of 2") as error:
            run(network, data, shuffle=False, engine=engine)
        errors.append(str(error.value))
        np.testing.assert_array_equal(network.parameters.flat, before)
    assert errors[0] == errors[1]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("an address is illegal")])
def test_what_was_learned_survives(monkeypatch, error):
    """An interrupt keeps what the device has; after an error of the device the host has the last whole epoch."""
    from numrnn.cuda import faults

    network, calls = make_network(), []
    plain = DeviceNetwork.accumulate

    def accumulate(self, *arguments, **options):
        calls.append(network.parameters.flat.copy())
        if len(calls) == 4:
            raise error
        plain(self, *arguments, **options)

    monkeypatch.setattr(DeviceNetwork, "accumulate", accumulate)
    monkeypatch.setattr(faults, "is_device_error", lambda error: isinstance(error, RuntimeError))
    if isinstance(error, KeyboardInterrupt):
        with pytest.warns(UserWarning, match="interrupted"):
            state = run(network, make_data(), max_iter=5, engine=DeviceEngine)
        assert state.interrupted
        assert state.solver.n_updates == 3
        assert (network.parameters.flat != calls[-1]).any()
    else:
        message = "failed in epoch 2 of training: RuntimeError: an address is illegal. The network has the parameters"
        with pytest.raises(RuntimeError, match=message):
            run(network, make_data(), max_iter=5, engine=DeviceEngine)
        np.testing.assert_array_equal(network.parameters.flat, calls[-1])
        assert (calls[-1] != calls[0]).any()


def test_errors_of_the_device_are_known():
    from numba.cuda.cudadrv.error import CudaSupportError

    from numrnn.kernels.cuda.availability import is_device_error, is_out_of_memory

    class CudaAPIError(CudaSupportError):
        code = 2

    assert is_device_error(CudaAPIError())
    assert is_out_of_memory(CudaAPIError())
    assert is_out_of_memory(RuntimeError("CUDA_ERROR_OUT_OF_MEMORY"))
    assert not is_device_error(ValueError("something else"))


def test_what_cannot_be_trained_on_the_device():
    class Own(Adam):
        pass

    with pytest.raises(TypeError, match="SGD, Adam, AdamW and RMSprop, got Own"):
        run(make_network(), make_data(), solver=Own(), engine=DeviceEngine)


# ------------------------------------------------------------------------------------------------------------- memory
def test_what_would_fit_does_fit():
    """The batch size that the error names fits, and the next one does not; likewise the steps."""
    network = make_network(pooling="last")
    rng = np.random.RandomState(0)
    data = TrainingData.of(
        network, Sequences.from_padded(rng.standard_normal((20, 30, 2))), rng.randint(0, 2, 20), None
    )

    def need_of(size, steps):
        return memory_need(network, data, data.lengths, Adam(), size, steps, 1000)

    def check(free, size, steps, truncates=True):
        return check_memory(need_of, free, 30, size, steps, truncates)

    # 20 sequences of 25 steps and somewhat more than 1000 bytes each are about 0.55 MB: let there be half of it.
    free = need_of(20, 25).total / 2
    with pytest.raises(MemoryError, match=r"needs about .* on the CUDA device, but .* are available") as error:
        check(free, 20, 25)
    text = str(error.value)
    batch_size = int(text.split("batch_size=")[1].split()[0])
    steps = int(text.split("bptt_steps=")[1].split()[0])
    assert 1 <= batch_size < 20
    assert 1 <= steps < 25
    for size, length in ((batch_size, 25), (20, steps)):
        assert check(free, size, length) == need_of(size, length)
    for size, length in ((batch_size + 1, 25), (20, steps + 1)):
        with pytest.raises(MemoryError):
            check(free, size, length)
    # Without truncation there may be some that would do.
    with pytest.raises(MemoryError, match=r"batch_size=\d+ or bptt_steps=\d+ would fit"):
        check(free, 20, None)
    with pytest.raises(MemoryError, match=r"batch_size=\d+ would fit"):
        check(free, 20, None, False)
    with pytest.raises(MemoryError, match="no batch_size would fit"):
        check(10.0, 20, None, False)


def test_the_memory_is_looked_at_before_training(monkeypatch):
    monkeypatch.setattr(engine_module, "free_bytes", lambda: 1000.0)
    network = make_network()
    before = network.parameters.flat.copy()
    with pytest.raises(MemoryError, match="needs about"):
        run(network, make_data(), engine=DeviceEngine)
    streams = StreamWindows(Sequences.from_padded(np.zeros((5, 9, 2))), np.zeros(45, dtype=np.int64), 4)
    with pytest.raises(MemoryError, match="for each of the 20 time steps"):
        run(make_network(pooling=None), (streams,), batch_size=1, shuffle=False, engine=DeviceEngine)
    np.testing.assert_array_equal(network.parameters.flat, before)


def test_the_memory_of_convolutions_is_counted():
    """More pixels and more filters need more; what the error says would fit, fits."""
    data = Sequences.from_padded(np.zeros((20, 30, 8))), np.zeros(20, dtype=np.int64), None
    totals = []
    for filters in (2, 16):
        convolutions = ({"kind": "2d", "filters": filters, "kernel_size": 3, "pool_size": 2},)
        network = make_network(input_size=8, convolutions=convolutions)
        source, trunk = TrainingData.of(network, *data), DeviceNetwork(network).trunk

        def need_of(size, steps=None, network=network, source=source, trunk=trunk):
            return memory_need(network, source, source.lengths, Adam(), size, steps, 100, trunk)

        needs = [need_of(size) for size in (20, 10, 1)]
        totals.append(needs[0].total)
        # Ten would fit, and eleven would not.
        with pytest.raises(MemoryError, match=r"batch_size=10 would fit"):
            check_memory(need_of, needs[1].total / 0.9 + 1, 30, 20, None, False)
        assert needs[2].total < needs[1].total < needs[0].total
    # Pixels before and after the convolution, and their gradients, of 16 and of 2 filters.
    assert totals[1] - totals[0] > 20 * 30 * 8 * 14 * 2 * 8


def test_data_larger_than_the_device_is_streamed(monkeypatch):
    """A minibatch fits, the training set does not: minibatches go through pinned memory, and nothing else changes."""
    network, other = make_network(), make_network()
    data = make_data(9)
    source = TrainingData.of(network, *data)
    need = memory_need(network, source, source.lengths, Adam(), 2, None, DeviceNetwork(network).stack.step_bytes)
    assert need.data > 64
    monkeypatch.setattr(engine_module, "free_bytes", lambda: (need.total + 64) / 0.9)
    made = []

    class Remembered(DeviceEngine):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    states = [run(network, data, engine=HostEngine), run(other, data, engine=Remembered)]
    check_same(network, other, *states)
    assert not made[0]._source.values.is_resident
    assert made[0]._source.values.stager is not None


def test_two_pinned_buffers_take_turns():
    queue, arrays = new_queue(), DeviceArrays()
    stager = Stager(arrays)
    matrix = np.random.default_rng(0).normal(size=(20, 3))
    before = None
    for count in (4, 2, 7, 1, 9, 0, 3):
        rows = np.arange(count) * 2
        now = stager.put("values", matrix, rows, queue)
        for flat, expected in [(now, matrix[rows]), *([before] if before is not None else [])]:
            # The one before is still there.
            np.testing.assert_array_equal(download(flat, queue)[: expected.size], expected.reshape(-1))
        before = now, matrix[rows]
