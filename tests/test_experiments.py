"""The experiments can be run: their readers read, quick runs go through, and the peer computes what we compute."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import numrnn
from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.training.loop import train as train_ours

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.experiments import SCRIPTS, __main__, data, experiment, report  # noqa: E402

sys.path.remove(str(ROOT))

EXPERIMENTS = {each.name: each for group in __main__.scripts().values() for each in group}


def folder() -> Path:
    try:
        return data.data_folder()
    except data.DataNotFound as error:
        pytest.skip(str(error))


# ---------------------------------------------------------------------------------------------------------- readers
def test_an_absent_data_folder_is_reported_with_the_ways_to_name_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NUMRNN_DATA", str(tmp_path / "absent"))
    with pytest.raises(data.DataNotFound, match=r"absent; expected .* --data DIR or by .* NUMRNN_DATA"):
        data.data_folder()
    assert __main__.main(["mnist", "--quick"]) == 1
    assert "--data DIR" in capsys.readouterr().err


def test_the_folder_that_is_given_goes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMRNN_DATA", "/nowhere")
    assert data.data_folder(tmp_path) == tmp_path
    monkeypatch.setenv("NUMRNN_DATA", str(tmp_path))
    assert data.data_folder() == tmp_path


def test_an_absent_data_set_is_reported_with_what_is_there(tmp_path):
    (tmp_path / "ucr_uea").mkdir()
    with pytest.raises(data.DataNotFound, match=r"no data set 'mnist' in .*, which holds ucr_uea"):
        data.read_mnist(tmp_path)


def test_idx_files_are_read_and_broken_ones_refused(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    header = b"\0\0\x08\x03" + np.array(values.shape, dtype=">u4").tobytes()
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(header + values.tobytes()))
    np.testing.assert_array_equal(data.read_idx(path), values)
    path.write_bytes(gzip.compress(header + values.tobytes()[:-1]))
    with pytest.raises(ValueError, match=r"has 23 values, expected 24 of an array \(2, 3, 4\)"):
        data.read_idx(path)
    path.write_bytes(gzip.compress(b"P5 28 28"))
    with pytest.raises(ValueError, match="no idx file"):
        data.read_idx(path)


def test_ts_files_are_read_and_broken_ones_refused(tmp_path):
    path = tmp_path / "some_TRAIN.ts"
    path.write_text("#A comment: with colon\n@classLabel true a b\n@data\n1,2,3:4,5,6:a\n\n7:8:b\n", encoding="utf-8")
    X, y = data.read_ts(path)
    np.testing.assert_array_equal(X[0], [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(X[1], [[7, 8]])
    assert y.tolist() == ["a", "b"]
    path.write_text("@data\n1,2:4,5,6:a\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 2: dimensions that are not like"):
        data.read_ts(path)
    path.write_text("@data\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 2: expected dimensions and a label"):
        data.read_ts(path)


def test_conllu_files_are_read_and_broken_ones_refused(tmp_path):
    rest = "\t_" * 6
    lines = [
        "# text = Don't go",
        f"1-2\tDon't\t_\t_{rest}",
        f"1\tDo\tdo\tAUX{rest}",
        f"2\tn't\tnot\tPART{rest}",
        f"3\tgo\tgo\tVERB{rest}",
        f"3.1\tgo\tgo\tVERB{rest}",
        "",
        "# text = #",
        f"1\t#\t#\tSYM{rest}",
    ]
    path = tmp_path / "some.conllu.gz"
    for end in ("", "\n", "\n\n"):
        path.write_bytes(gzip.compress(("\n".join(lines) + end).encode()))
        words, tags = data.read_conllu(path)
        assert words == [["Do", "n't", "go"], ["#"]]
        assert tags == [["AUX", "PART", "VERB"], ["SYM"]]
    path.write_bytes(gzip.compress(b"1\tword\tNOUN\n"))
    with pytest.raises(ValueError, match="line 1: expected 10 columns, found 3"):
        data.read_conllu(path)


# ------------------------------------------------------------------------------------------------------ experiments
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_goes_through_with_a_few_samples(name):
    one = EXPERIMENTS[name]
    if one.metric == "BLEU":
        pytest.importorskip("sacrebleu")
    record = experiment.run(one, folder() if one.needs_data else None, seeds=[0], quick=True, validation=True)
    assert record["numrnn"]["epochs"] == [record["n_splits"]]
    assert np.isfinite(record["numrnn"]["mean_score"])
    assert record["n_train"] > 0
    assert record["n_test"] > 0
    assert json.loads(json.dumps(record)) == record
    assert f"`{name}`" in report.table([record])


def test_scripts_have_experiments_of_different_names():
    names = [each.name for script in SCRIPTS for each in __main__.scripts()[script]]
    assert len(names) == len(set(names)) == len(EXPERIMENTS)


def toy(**settings) -> experiment.Experiment:
    """Which of two noises is louder; one class after the other."""

    def splits(data: object, seed: int) -> list[experiment.Split]:
        rng = np.random.default_rng(seed)
        y = np.repeat(["loud", "soft"], 60)
        X = rng.normal(size=(120, 5, 2)) * np.where(y == "loud", 2.0, 0.2)[:, None, None]
        return [experiment.Split(X[::2], y[::2], X[1::2], y[1::2])]

    def estimator() -> numrnn.RNNClassifier:
        return numrnn.RNNClassifier((8,), pooling="mean", learning_rate_init=0.03, batch_size=10, max_iter=15, tol=0.0)

    form = {"name": "toy", "task": "noise", "network": "LSTM", "literature": "none", "goal": 0.9}
    return experiment.Experiment(
        **form, splits=splits, estimator=estimator, needs_data=False, **{"peer_epochs": None, **settings}
    )


def test_a_record_says_what_was_measured():
    record = experiment.run(toy(), None, seeds=[0, 1], n_jobs=1)
    assert (record["n_train"], record["n_test"], record["seeds"], record["threads"]) == (60, 60, [0, 1], 1)
    assert record["numrnn"]["epochs"] == [15, 15]
    assert record["numrnn"]["mean_score"] == np.mean(record["numrnn"]["scores"])
    assert record["numrnn"]["mean_score"] > 0.9
    assert record["numrnn"]["seconds_per_epoch"][0] == record["numrnn"]["fit_seconds"][0] / 15
    assert record["machine"]["versions"]["python"]
    assert record["pytorch"] is None
    again = experiment.run(toy(), None, seeds=[0, 1], n_jobs=2)
    assert again["numrnn"]["scores"] == record["numrnn"]["scores"]


def test_validation_never_looks_at_the_test_data():
    split = experiment.Split(np.arange(20.0), np.repeat([0, 1], 10), None, None)
    held_out = experiment.without_test(split, 0)
    assert sorted([*held_out.X_train, *held_out.X_test]) == list(range(20))
    assert len(held_out.X_test) == 4
    assert sorted(held_out.y_test) == [0, 0, 1, 1]


def test_standardised_uses_the_training_part_alone(rng):
    train = [rng.normal(5, 3, size=(n, 2)) for n in (4, 9, 30)]
    split = experiment.standardised(experiment.Split(train, [0, 1, 2], [train[0] + 100], [0]))
    steps = np.concatenate(split.X_train)
    np.testing.assert_allclose(steps.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(steps.std(axis=0), 1, atol=1e-6)
    scale = np.concatenate(train).std(axis=0)
    np.testing.assert_allclose(split.X_test[0], split.X_train[0] + 100 / scale, rtol=1e-5)


def test_an_unknown_name_is_reported_with_the_known_ones(capsys):
    assert __main__.main(["mnits"]) == 1
    assert "there is no experiment 'mnits'; there are the scripts mnist," in capsys.readouterr().err


def test_other_settings_are_not_written_to_the_results(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["mnist", "--set", "max_iter=1"])
    assert "--set goes with --validation or --quick" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------------- report
def test_the_page_shows_the_records(tmp_path):
    record = experiment.run(toy(), None, seeds=[0, 1], n_jobs=1)
    report.write_record(record, tmp_path / "results")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- results: begin -->\nold\n<!-- results: end -->\nafter\n", encoding="utf-8")
    report.update_page(["absent", "toy"], page, tmp_path / "results")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- results: begin -->\n| task |")
    assert text.endswith("<!-- results: end -->\nafter\n")
    assert "old" not in text
    assert f"**{record['numrnn']['mean_score']:.4f} (" in text
    with pytest.raises(ValueError, match="results: begin"):
        report.render("no marks", [])


def test_docs_page_agrees_with_the_results():
    page = report.PAGE.read_text(encoding="utf-8")
    assert report.render(page, report.read_records(list(EXPERIMENTS))) == page


# ------------------------------------------------------------------------------------------------------------- peer
FORMS = [
    {},
    {"cell": "gru", "hidden_sizes": (5, 5), "bidirectional": True, "pooling": "mean"},
    {"cell": "rnn_relu", "hidden_sizes": (3, 7), "pooling": "max"},
    {"cell": "rnn_tanh", "hidden_sizes": (3, 7), "bidirectional": True},
    {"pooling": None, "loss": "squared_error"},
    {"hidden_sizes": (5, 5, 3), "residual": True},
    {"hidden_sizes": (4, 4), "residual": True, "bidirectional": True, "pooling": "mean"},
    {"hidden_sizes": (4, 4), "residual": True, "bidirectional": True},
    {"input_size": 3, "embeddings": ((0, 9, 4), (2, 9, 2)), "pooling": "mean"},
    {"pooling": "attention"},
    {"convolutions": ({"kind": "1d", "filters": 4, "kernel_size": 3, "pool_size": 2},), "pooling": "max"},
    {
        "input_size": 6,
        "convolutions": tuple(
            {"kind": "2d", "filters": f, "kernel_size": k, "pool_size": 2} for f, k in ((3, 3), (2, 2))
        ),
        "bidirectional": True,
    },
]


@pytest.mark.parametrize("lengths", [[4, 4, 4], [3, 1, 6]], ids=["equal", "ragged"])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_network_of_the_peer_computes_what_ours_does(form, lengths, rng):
    pytest.importorskip("torch")
    from benchmarks.peers.pytorch_training import TorchNetwork, outputs_of

    network = Network(**{"cell": "lstm", "input_size": 2, "hidden_sizes": (5,), "n_outputs": 3, **form})
    network.initialize(np.random.RandomState(0))
    arrays = [rng.normal(size=(n, network.input_size)).astype(np.float32) for n in lengths]
    for column, n_rows, _ in network.embeddings:
        for array in arrays:
            array[:, column] = rng.integers(n_rows, size=len(array))
    sequences = Sequences.from_list(arrays)
    np.testing.assert_allclose(outputs_of(TorchNetwork(network), sequences), network.outputs(sequences), atol=2e-6)


@pytest.mark.parametrize(
    ("solver", "alpha", "max_grad_norm"),
    # PyTorch adds the penalty after the gradient has been clipped, ours before.
    [("adam", 0.0, 0.1), ("adam", 0.1, None), ("adamw", 0.1, 0.1), ("sgd", 0.0, 0.1), ("rmsprop", 0.0, 0.1)],
)
def test_the_loop_of_the_peer_trains_as_ours_does(solver, alpha, max_grad_norm, rng):
    pytest.importorskip("torch")
    from benchmarks.peers.pytorch_training import TorchNetwork, TrainingSettings, train

    network = Network(cell="lstm", input_size=2, hidden_sizes=(5,), n_outputs=3, dtype="float64")
    network.initialize(np.random.RandomState(0))
    twin = TorchNetwork(network)
    sequences = Sequences.from_list([rng.normal(size=(n, 2)) for n in rng.integers(1, 9, size=24)])
    targets = rng.integers(3, size=24)
    settings = TrainingSettings(
        "cross_entropy", solver, lambda epoch: 0.01 / (1 + epoch), 6, 4, alpha=alpha, max_grad_norm=max_grad_norm
    )
    train(twin, sequences, targets, settings, np.random.RandomState(1))

    train_ours(
        network,
        sequences,
        targets,
        solver=solver,
        learning_rate=settings.learning_rate,
        batch_size=6,
        max_iter=4,
        alpha=alpha,
        max_grad_norm=max_grad_norm,
        rng=np.random.RandomState(1),
    )
    assert set(twin.by_name) == set(network.parameters)
    for name, values in twin.by_name.items():
        np.testing.assert_allclose(values.detach().numpy(), network.parameters[name], atol=1e-6, err_msg=name)


def test_the_peer_is_timed_and_judged_beside_ours():
    pytest.importorskip("torch")
    record = experiment.run(toy(), None, seeds=[0, 1], n_jobs=1, peer_seeds=[0])
    assert record["pytorch"]["seeds"] == [0]
    assert record["pytorch"]["epochs"] == [15]
    assert abs(record["pytorch"]["mean_score"] - record["numrnn"]["scores"][0]) < 0.05
    shorter = experiment.run(toy(peer_epochs=2), None, seeds=[0], n_jobs=1, peer_seeds=[0])
    assert shorter["pytorch"]["epochs"] == [2]
    assert shorter["pytorch"]["mean_score"] is None
    assert "2 epochs only" in report.table([shorter])
