"""Encoder and decoder on the device: loss, gradients, outputs and whole fits are those of the CPU."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from seq2seq_problems import make_batch, make_network
from test_seq2seq_network import FORMS

import numrnn
from numrnn import RNNForecaster, RNNSeq2Seq, devices
from numrnn.cuda import pair_engine
from numrnn.cuda.encoder_decoder import DeviceEncoderDecoder, PairInference
from numrnn.cuda.memory import check_memory
from numrnn.cuda.pair_engine import PairEngine, pair_memory_need
from numrnn.cuda.pairs import PairSource
from numrnn.seq2seq import Pairs
from numrnn.seq2seq import network as network_module
from numrnn.training.engine import HostEngine
from numrnn.training.loop import train
from numrnn.training.solvers import Adam

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# Sizes below those of the CPU's tests: every thread of the simulator is one of Python.
SMALL = {
    "encoder_sizes": (3,), "decoder_sizes": (3,), "source_embedding": 2, "target_embedding": 3, "source_size": 4,
    "target_size": 3,
}  # fmt: skip
OF_THE_DEVICE = {
    "feeding, two layers": {"cell": "lstm", "encoder_sizes": (2, 3), "decoder_sizes": (3, 2), "attention_size": 5},
    "feeding, heads": {"attention": "multihead", "n_heads": 2, "decoder_sizes": (4,), "cell": "rnn_tanh"},
    "two layers without feeding": {"decoder_sizes": (2, 3), "input_feeding": False, "attention": "multiplicative"},
    "given inputs": {
        "source": "values", "target": "values", "target_size": 2, "decoder_inputs": 3, "loss": "gaussian",
        "bidirectional": False,
    },
    "given inputs, no attention": {
        "source": "values", "target": "values", "target_size": 1, "decoder_inputs": 2, "attention": None,
        "loss": "quantile", "quantile_levels": (0.1, 0.5, 0.9), "decoder_sizes": (2, 2),
    },
}  # fmt: skip
KEPT = ("additive", "multiplicative", "without attention", "tied", "numbers", "vector", "size one")
ALL = {name: FORMS[name] for name in KEPT} | OF_THE_DEVICE
every_form = pytest.mark.parametrize("form", ALL.values(), ids=ALL)
SOURCE_LENGTHS, TARGET_LENGTHS = (3, 1, 5, 2, 1), (2, 4, 1, 0, 1)


def small_network(form, **options):
    own = {**SMALL, **form}
    if form.get("attention") == "multihead":
        own["attention_size"] = 4
    return make_network(**own, **options)


def expected_of(network, batch):
    if network.decoder_inputs is None:
        return network.expected(batch.targets)
    rng = np.random.default_rng(5)
    expected = rng.normal(size=(network._n_expected(batch.targets), network.head.n_target_columns))
    expected[0, 0] = np.nan  # missing
    return expected.astype(network.dtype)


def device_gradient(network, batch, expected, weights, seed=0):
    device = DeviceEncoderDecoder(network)
    pairs = PairSource(network, None, 1e9, device.arrays, device.queue).made(batch, expected, weights)
    total = pairs.answers.total
    device.accumulate(pairs, 1 / total, dropout_seed=seed)
    loss = device.losses.copy_to_host()[: pairs.answers.n_rows].sum() / total
    return device, loss, device.gradient.copy_to_host()


@every_form
def test_loss_and_gradients(form):
    """With every kind of dropout, smoothed labels and weights; and without them the outputs and the loss."""
    options = {"dropout": 0.3, "input_dropout": 0.2, "output_dropout": 0.25}
    if form.get("target") != "values":
        options["label_smoothing"] = 0.1
    network = small_network(form, **options)
    batch = make_batch(network, SOURCE_LENGTHS, TARGET_LENGTHS)
    expected = expected_of(network, batch)
    weights = np.random.default_rng(4).uniform(0.5, 2, len(expected))
    wanted = network.loss_and_gradient(batch, expected, weights, dropout_seed=5)
    device, loss, gradient = device_gradient(network, batch, expected, weights, 5)
    np.testing.assert_allclose(loss, wanted, rtol=1e-10)
    for name in network.parameters:
        own = network.parameters.span(name)
        np.testing.assert_allclose(gradient[own], network.gradient.flat[own], rtol=1e-10, atol=1e-10, err_msg=name)
    reader = PairInference(device)
    np.testing.assert_allclose(reader.outputs_of(batch), network.outputs_of(batch), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(reader.loss(batch, expected, None), network.loss(batch, expected, None), rtol=1e-10)


def test_parts_of_a_minibatch_have_the_masks_of_the_cpu(monkeypatch):
    monkeypatch.setattr(network_module, "_TRAINING_BYTES", 2000)
    network = small_network({}, dropout=0.0, output_dropout=0.4, bidirectional=False)
    batch = make_batch(network, SOURCE_LENGTHS, TARGET_LENGTHS)
    assert len(list(network._training_chunks(batch.sources.lengths, batch.targets.lengths))) > 1
    expected = network.expected(batch.targets)
    wanted = network.loss_and_gradient(batch, expected, dropout_seed=7)
    _, loss, gradient = device_gradient(network, batch, expected, None, 7)
    np.testing.assert_allclose(loss, wanted, rtol=1e-10)
    np.testing.assert_allclose(gradient, network.gradient.flat, rtol=1e-10, atol=1e-10)


def test_float32_and_the_same_bits_again():
    network = small_network({"cell": "lstm"}, dtype="float32")
    batch = make_batch(network, (2, 3), (2, 1))
    expected = network.expected(batch.targets)
    wanted = network.loss_and_gradient(batch, expected)
    _, loss, gradient = device_gradient(network, batch, expected, None)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    np.testing.assert_allclose(gradient, network.gradient.flat, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(device_gradient(network, batch, expected, None)[2], gradient)


def test_derivatives_by_finite_differences():
    """Losses of the device alone, in one random direction in all parameters together."""
    network = small_network({}, bidirectional=False)
    batch = make_batch(network, (2, 3), (2, 1))
    expected = network.expected(batch.targets)
    device, _, gradient = device_gradient(network, batch, expected, None)
    reader, parameters = PairInference(device), network.parameters.flat.copy()
    direction, losses = np.random.default_rng(6).normal(size=parameters.size), []
    for step in (1e-5, -1e-5):
        reader.take(parameters + step * direction)
        losses.append(reader.loss(batch, expected, None))
    np.testing.assert_allclose(gradient @ direction, (losses[0] - losses[1]) / 2e-5, rtol=1e-6)


def test_ids_that_no_table_has_are_refused():
    network = small_network({})
    batch = make_batch(network, (2,), (2,))
    batch.targets.values[:] = 99
    device = DeviceEncoderDecoder(network)
    source = PairSource(network, None, 1e9, device.arrays, device.queue)
    with pytest.raises(ValueError, match="99"):
        source.made(batch, network.expected(batch.targets))


# ----------------------------------------------------------------------------------------------------------- training
def run(network, data, **options):
    options = {"batch_size": 2, "max_iter": 2, "tol": 0.0, "learning_rate_init": 0.05, "max_grad_norm": 0.5, **options}
    return train(network, data, rng=np.random.RandomState(3), **options)


@pytest.mark.parametrize("memory", [1e9, 0.0], ids=["resident", "streamed"])
def test_a_fit_is_that_of_the_cpu_and_goes_on_on_the_other_device(memory, monkeypatch):
    plain = PairSource.__init__
    monkeypatch.setattr(
        PairSource, "__init__", lambda self, network, data, room, *rest: plain(self, network, data, memory, *rest)
    )
    networks = [small_network({"attention": "multiplicative"}, output_dropout=0.2) for _ in range(2)]
    batch = make_batch(networks[0], (2, 3, 1), (1, 2, 0))
    states = [
        run(network, Pairs(network, *batch), solver="adamw", alpha=0.1, engine=engine)
        for network, engine in zip(networks, (HostEngine, PairEngine), strict=True)
    ]
    for network, engine, state in zip(networks, (PairEngine, HostEngine), states, strict=True):
        run(network, Pairs(network, *batch), solver="adamw", alpha=0.1, engine=engine, state=state, max_iter=1)
    np.testing.assert_allclose(states[1].loss_curve, states[0].loss_curve, rtol=1e-7)
    np.testing.assert_allclose(networks[1].parameters.flat, networks[0].parameters.flat, rtol=1e-6, atol=1e-9)
    assert states[0].solver.n_updates == states[1].solver.n_updates
    for name, moment in states[0].solver.moments.items():
        np.testing.assert_allclose(states[1].solver.moments[name], moment, rtol=1e-6, atol=1e-9)


def test_what_was_learned_survives_a_fault(monkeypatch):
    """After an error of the device the host has the last whole epoch."""
    from numrnn.cuda import faults

    network, calls = small_network({"attention": None}), []
    plain = DeviceEncoderDecoder.accumulate

    def accumulate(self, *arguments, **options):
        calls.append(network.parameters.flat.copy())
        if len(calls) == 4:
            raise RuntimeError("an address is illegal")
        plain(self, *arguments, **options)

    monkeypatch.setattr(DeviceEncoderDecoder, "accumulate", accumulate)
    monkeypatch.setattr(faults, "is_device_error", lambda error: isinstance(error, RuntimeError))
    batch = make_batch(network, (2, 3, 1), (1, 2, 0))
    with pytest.raises(RuntimeError, match="failed in epoch 2 of training: RuntimeError: an address is illegal"):
        run(network, Pairs(network, *batch), max_iter=5, engine=PairEngine)
    np.testing.assert_array_equal(network.parameters.flat, calls[-1])
    assert (calls[-1] != calls[0]).any()


def test_what_would_fit_does_fit(monkeypatch):
    network = small_network({})
    device = DeviceEncoderDecoder(network)
    rng = np.random.RandomState(0)
    sources, inputs = rng.randint(1, 9, 20), rng.randint(1, 9, 20)

    def need_of(size, _):
        return pair_memory_need(device, sources, inputs, Adam(), size)

    free = need_of(10, None).total / 0.9 + 1
    with pytest.raises(MemoryError, match=r"for each of the \d+ time steps .* batch_size=10 would fit"):
        check_memory(need_of, free, 16, 20, None, False)
    assert need_of(1, None).total < need_of(10, None).total < need_of(20, None).total
    # What is worked on at a time is bounded, however large a minibatch is.
    monkeypatch.setattr(network_module, "_TRAINING_BYTES", 1)
    assert need_of(20, None).total == need_of(1, None).total
    monkeypatch.setattr(pair_engine, "free_bytes", lambda: 1000.0)
    batch = make_batch(network, (2, 3), (1, 2))
    with pytest.raises(MemoryError, match="needs about"):
        run(network, Pairs(network, *batch), engine=PairEngine)


@pytest.mark.parametrize("attention", ["additive", "multihead", None])
def test_the_estimate_covers_what_is_allocated(attention):
    """All arrays of a pass there and back, and not much more."""
    form = {**SMALL, "encoder_sizes": (8,), "decoder_sizes": (8,), "n_heads": 2 if attention == "multihead" else 1}
    network = make_network(**form, attention=attention, bidirectional=False)
    batch = make_batch(network, (9, 9), (9, 9))
    device, _, _ = device_gradient(network, batch, network.expected(batch.targets), None)
    used = sum(arrays.n_bytes for arrays in (device.arrays, device._of_encoder, device.decoder._arrays))
    lengths = np.array([9, 9])
    need = pair_memory_need(device, lengths, lengths + 1, None, 2)
    assert used < need.step * need.n_steps + need.outputs < 3 * used


# --------------------------------------------------------------------------------------------------------- estimators
OPTIONS = {
    "hidden_layer_sizes": (3,), "embedding_dim": 2, "analyzer": "char", "max_iter": 2, "batch_size": 2,
    "random_state": 0, "dtype": "float64", "bidirectional": False,
}  # fmt: skip
X, Y = ["ab", "b", "aab"], ["b", "ba", "a"]


def test_estimator(tmp_path):
    cpu, cuda = (RNNSeq2Seq(**OPTIONS, device=device).fit(X, Y) for device in ("cpu", "cuda"))
    assert (cpu.device_, cuda.device_) == ("cpu", "cuda")
    np.testing.assert_allclose(cuda.loss_curve_, cpu.loss_curve_, rtol=1e-7)
    np.testing.assert_allclose(cuda._network.parameters.flat, cpu._network.parameters.flat, rtol=1e-6, atol=1e-9)
    assert cuda.predict(X) == cpu.predict(X)
    # Pickled, saved and loaded it writes, and goes on on the other device.
    cuda.save(tmp_path / "model.safetensors")
    for model in (pickle.loads(pickle.dumps(cuda)), numrnn.load(tmp_path / "model.safetensors")):
        assert model.device_ == "cuda"
        assert model.predict(X) == cpu.predict(X)
        assert model.set_params(device="cpu").partial_fit(X, Y).device_ == "cpu"


def test_early_stopping_judges_on_the_device():
    options = {**OPTIONS, "early_stopping": True, "attention": None}
    models = [RNNSeq2Seq(**options, device=device).fit(X, Y, X_val=X, y_val=Y) for device in ("cpu", "cuda")]
    np.testing.assert_allclose(models[1].validation_scores_, models[0].validation_scores_, rtol=1e-7)


def test_what_is_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"'device' parameter .* scheduled_sampling=0\.5"):
        RNNSeq2Seq(**OPTIONS, device="cuda", scheduled_sampling=0.5).fit(X, Y)
    network = small_network({})
    network.sampling_share = 0.5
    with pytest.raises(ValueError, match="scheduled sampling"):
        run(network, Pairs(network, *make_batch(network, (2,), (1,))), engine=PairEngine)
    monkeypatch.setitem(devices.WORTH_A_DEVICE, "training", 0.0)
    assert RNNSeq2Seq(**OPTIONS, device="auto", scheduled_sampling=0.5).fit(X, Y).device_ == "cpu"
    assert RNNSeq2Seq(**{**OPTIONS, "max_iter": 1}, device="auto").fit(X[:1], Y[:1]).device_ == "cuda"
    monkeypatch.setattr(devices, "_why_unavailable", lambda: "there is none")
    with pytest.raises(RuntimeError, match="device='cuda' is not available: there is none"):
        RNNSeq2Seq(**OPTIONS, device="cuda").fit(X, Y)


@pytest.mark.parametrize(
    "options",
    [
        {"attention": "additive", "early_stopping": True, "validation_fraction": 0.2},
        {"loss": "gaussian", "solver": "lbfgs", "cell": "gru"},
    ],
    ids=["attention", "lbfgs"],
)
def test_forecaster(options, tmp_path):
    y = np.sin(np.arange(24) / 3)
    y[5] = np.nan
    options = {
        "hidden_layer_sizes": (2,), "horizon": 2, "window_length": 3, "max_iter": 2, "batch_size": 8, "random_state": 0,
        "dtype": "float64", "strategy": "encoder_decoder", "missing": "mask", **options,
    }  # fmt: skip
    cpu, cuda = (RNNForecaster(**options, device=device).fit(y) for device in ("cpu", "cuda"))
    assert (cpu.device_, cuda.device_) == ("cpu", "cuda")
    np.testing.assert_allclose(cuda.loss_curve_, cpu.loss_curve_, rtol=1e-6)
    np.testing.assert_allclose(cuda.predict(), cpu.predict(), rtol=1e-6)
    cuda.save(tmp_path / "model.safetensors")
    loaded = numrnn.load(tmp_path / "model.safetensors")
    np.testing.assert_allclose(loaded.set_params(device="cpu").predict(), cuda.predict(), rtol=1e-6)
