"""The network on the device: loss, gradients and outputs are those of the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from numrnn.cuda.batches import Source
from numrnn.cuda.inference import DeviceInference
from numrnn.cuda.network import DeviceNetwork
from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.training.data import TrainingData


def make_network(seed=1, dtype="float64", **form):
    form = {"cell": "gru", "input_size": 3, "hidden_sizes": (3,), "n_outputs": 3, **form}
    network = Network(dtype=dtype, **form)
    network.initialize(np.random.RandomState(seed))
    return network


def make_data(network, lengths=(4, 2, 3, 1), seed=0):
    rng = np.random.RandomState(seed)
    arrays = [rng.standard_normal((length, 3)).astype(network.dtype) for length in lengths]
    for column, n_rows, _ in network.embeddings:
        for array in arrays:
            array[:, column] = rng.randint(0, n_rows, len(array))
    sequences = Sequences.from_list(arrays)
    n_rows = sequences.n_steps if network.pooling is None else len(lengths)
    if network.takes_classes:
        targets = rng.randint(0, network.n_outputs, n_rows)
    else:
        targets = rng.standard_normal((n_rows, network.n_target_columns))
        if network.loss_name == "negative_binomial":
            targets = 1 + np.abs(np.round(3 * targets))
    weights = rng.uniform(0.5, 2.0, n_rows)
    weights[1] = 0
    if network.loss_name == "crf":
        # A sequence's steps have one weight.
        weights = np.repeat(np.resize([1.5, 0.5, 0.0, 2.0], len(lengths)), lengths)
    return TrainingData.of(network, sequences, targets, weights)


def check_equal(network, data, *, bptt_steps=None, seed=0, tolerance=1e-10, memory=np.inf):
    """A shuffled minibatch of some of the sequences, there and back, and inference."""
    device = DeviceNetwork(network)
    per_step = network.pooling is None
    source = Source(data, per_step, network.trunk.embedding, memory, device.arrays, device.queue)
    order = np.random.RandomState(5).permutation(len(data))
    batch = source.reorder(order).batch(1, len(data))
    part = data.reorder(order).part(1, len(data))
    loss = network.loss_and_gradient(*part, bptt_steps=bptt_steps, dropout_seed=seed)
    device.accumulate(batch, 1 / batch.answers.total, bptt_steps=bptt_steps, dropout_seed=seed)
    total = device.losses.copy_to_host()[: batch.answers.n_rows].sum()
    np.testing.assert_allclose(total / batch.answers.total, loss, rtol=tolerance)
    gradient = device.gradient.copy_to_host()
    np.testing.assert_allclose(gradient, network.gradient.flat, rtol=tolerance, atol=tolerance)
    return device, part


def check_inference(network, device, part, tolerance=1e-10):
    reader = DeviceInference(device)
    sequences = part[0]
    np.testing.assert_allclose(reader.outputs(sequences), network.outputs(sequences), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(reader.features(sequences), network.features(sequences), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(reader.loss(*part), network.loss(*part), rtol=tolerance)
    if network.pooling == "attention":
        np.testing.assert_allclose(
            reader.attention_weights(sequences), network.attention_weights(sequences), rtol=tolerance
        )


@pytest.mark.parametrize(
    ("pooling", "bptt_steps"),
    [
        ("last", None),
        ("max", None),
        ("attention", None),
        (None, None),
        ("last", 2),
        ("mean", 2),
        ("attention", 2),
        (None, 2),
    ],
)
def test_all_parts_together(pooling, bptt_steps):
    """Every kind of dropout, residual layers, tables: the same masks, the same gradients."""
    network = make_network(
        pooling=pooling,
        hidden_sizes=(3, 3),
        residual=True,
        dropout=0.3,
        input_dropout=0.2,
        recurrent_dropout=0.25,
        output_dropout=0.3,
        embeddings=((1, 4, 2),),
    )
    device, part = check_equal(network, make_data(network), bptt_steps=bptt_steps, seed=12345)
    if bptt_steps is None:
        check_inference(network, device, part)


@pytest.mark.parametrize("pooling", ["last", "mean", None])
def test_both_directions_and_empty_sequences(pooling):
    network = make_network(pooling=pooling, cell="lstm", bidirectional=True)
    check_inference(network, *check_equal(network, make_data(network, (3, 0, 2, 0, 1))))


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "lstm", "gru"])
def test_float32(cell):
    network = make_network(cell=cell, dtype="float32", pooling="last", dropout=0.2, hidden_sizes=(3, 2))
    device, part = check_equal(network, make_data(network, (3, 3, 3)), seed=3, tolerance=1e-5)
    check_inference(network, device, part, tolerance=1e-5)


@pytest.mark.parametrize(
    ("loss", "n_outputs"),
    [
        ("squared_error", 2),
        ("absolute_error", 2),
        ("huber", 2),
        ("quantile", 6),
        ("gaussian", 4),
        ("student_t", 3),
        ("negative_binomial", 2),
    ],
)
def test_every_loss_of_values(loss, n_outputs):
    levels = (0.1, 0.5, 0.9) if loss == "quantile" else ()
    network = make_network(cell="rnn_tanh", loss=loss, n_outputs=n_outputs, quantile_levels=levels)
    check_equal(network, make_data(network, (2, 1, 2)))


def test_many_classes_in_parts(monkeypatch):
    """Rows of raw outputs are kept a few at a time."""
    from numrnn.cuda import head

    monkeypatch.setattr(head, "OUTPUT_BYTES", 3 * 70 * 8)
    network = make_network(cell="rnn_tanh", n_outputs=70, pooling=None, label_smoothing=0.1)
    check_inference(network, *check_equal(network, make_data(network, (2, 2, 1))))


@pytest.mark.parametrize("pooling", ["last", "mean", None])
def test_long_sequences_are_read_in_windows(monkeypatch, pooling):
    from numrnn.cuda import network as module

    network = make_network(cell="lstm", pooling=pooling)
    data = make_data(network)
    device = DeviceNetwork(network)
    monkeypatch.setattr(module, "_INFERENCE_STEPS", 2)
    check_inference(network, device, data.part(0, len(data)))


def test_the_same_bits_every_time():
    network = make_network(cell="lstm", pooling=None, embeddings=((1, 4, 2),), dtype="float32", loss="huber")
    data, gradients = make_data(network, (3, 2)), []
    device = DeviceNetwork(network)
    source = Source(data, True, network.trunk.embedding, np.inf, device.arrays, device.queue)
    for _ in range(2):
        device.accumulate(source.reorder(None).batch(0, 2), 0.1)
        gradients.append(device.gradient.copy_to_host())
    np.testing.assert_array_equal(*gradients)
    assert np.abs(gradients[0]).min() >= 0 < np.abs(gradients[0]).max()


def test_data_that_does_not_fit_is_uploaded_in_parts():
    network = make_network(cell="rnn_tanh", embeddings=((1, 4, 2),))
    check_equal(network, make_data(network, (2, 3, 1)), memory=10.0)


def test_ids_are_checked():
    network = make_network(cell="rnn_tanh", embeddings=((1, 4, 2),))
    data = make_data(network)
    data.sequences.values[3, 1] = 4
    device = DeviceNetwork(network)
    with pytest.raises(ValueError, match="column 1 must hold whole numbers from 0 to 3"):
        Source(data, False, network.trunk.embedding, np.inf, device.arrays, device.queue)
    with pytest.raises(ValueError, match="column 1 must hold whole numbers from 0 to 3"):
        DeviceInference(device).outputs(data.sequences)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lengths", [(3, 3, 3), (4, 0, 2, 1, 0)])
def test_random_fields(dtype, lengths):
    network = make_network(loss="crf", pooling=None, n_outputs=4, dtype=dtype, dropout=0.2, output_dropout=0.2)
    set_scores(network)
    data = make_data(network, lengths)
    tolerance = 1e-9 if dtype == "float64" else 2e-5
    device, part = check_equal(network, data, seed=7, tolerance=tolerance)
    check_inference(network, device, part, tolerance)
    reader = DeviceInference(device)
    np.testing.assert_array_equal(reader.decode(part[0]), network.decode(part[0]))
    np.testing.assert_allclose(reader.marginals(part[0]), network.marginals(part[0]), rtol=tolerance, atol=tolerance)


def set_scores(network):
    rng = np.random.RandomState(3)
    for name in ("crf_transitions", "crf_start", "crf_end"):
        network.parameters[name][...] = 2 * rng.standard_normal(network.parameters[name].shape)


@pytest.mark.parametrize("bptt_steps", [2, 3])
def test_random_fields_with_truncation(bptt_steps):
    network = make_network(loss="crf", pooling=None, n_outputs=3, output_dropout=0.3, hidden_sizes=(3, 2), dropout=0.1)
    set_scores(network)
    check_equal(network, make_data(network), bptt_steps=bptt_steps, seed=9)


def test_forbidden_transitions_and_logits_of_any_size():
    network = make_network(loss="crf", pooling=None, n_outputs=3, cell="rnn_relu")
    set_scores(network)
    network.parameters["crf_transitions"][0, 1] = -np.inf
    network.parameters["weight_out"][...] *= 400
    data = make_data(network, (4, 3, 2))
    # The targets go only where they may.
    data.targets[...] = [0, 0, 2, 1, 1, 2, 0, 1, 1][: len(data.targets)]
    device, part = check_equal(network, data)
    np.testing.assert_array_equal(DeviceInference(device).decode(part[0]), network.decode(part[0]))
    # One tag alone.
    network = make_network(loss="crf", pooling=None, n_outputs=1)
    check_equal(network, make_data(network, (2, 1)))


def test_more_sequences_than_blocks_count_the_same_bits_every_time():
    network = make_network(loss="crf", pooling=None, n_outputs=5, dtype="float32")
    set_scores(network)
    data = make_data(network, (2, 3, 1, 2, 2, 3, 1))
    check_equal(network, data, tolerance=1e-5)
    device = DeviceNetwork(network)
    source = Source(data, True, None, np.inf, device.arrays, device.queue)
    gradients = []
    for _ in range(2):
        device.accumulate(source.reorder(None).batch(0, 7), 0.1)
        gradients.append(device.gradient.copy_to_host())
    np.testing.assert_array_equal(*gradients)


def conv(kind="1d", filters=2, kernel_size=3, **more):
    return {"kind": kind, "filters": filters, "kernel_size": kernel_size, **more}


@pytest.mark.parametrize(
    ("convolutions", "form", "bptt_steps"),
    [
        ((conv(),), {"pooling": None}, None),
        ((conv(kernel_size=4, pool_size=2), conv(filters=3, kernel_size=2)), {"pooling": "last"}, None),
        ((conv(pool_size=3, kernel_size=5),), {"pooling": "attention", "bidirectional": True}, None),
        ((conv(kernel_size=2),), {"pooling": None, "embeddings": ((1, 4, 2),), "input_dropout": 0.3}, 2),
        ((conv(pool_size=2),), {"pooling": "mean", "embeddings": ((0, 4, 1), (2, 4, 2)), "dropout": 0.2}, 2),
        ((conv(pool_size=2),), {"pooling": "last", "hidden_sizes": (3, 2)}, 1),
        ((conv("2d", kernel_size=2, pool_size=2), conv("2d", filters=1)), {"pooling": "max"}, None),
        ((conv("2d", channels=3, filters=2, kernel_size=4), conv()), {"pooling": None}, 3),
    ],
)
def test_convolutions(convolutions, form, bptt_steps):
    network = make_network(convolutions=convolutions, n_outputs=2, **form)
    data = make_data(network, (5, 0, 3, 6, 1, 0))
    device, part = check_equal(network, data, bptt_steps=bptt_steps, seed=99)
    if bptt_steps is None:
        check_inference(network, device, part)


def test_convolutions_in_parts_and_float32(monkeypatch):
    from numrnn.cuda import convolution

    monkeypatch.setattr(convolution, "PATCH_BYTES", 200)
    network = make_network(convolutions=(conv("2d", pool_size=2), conv("2d", kernel_size=2)), dtype="float32")
    check_inference(network, *check_equal(network, make_data(network, (4, 4, 4)), tolerance=1e-5), tolerance=1e-5)
