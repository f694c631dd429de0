"""Model files: what is kept, that writing is atomic, and that damaged files are refused with a reason."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import numrnn
from numrnn import ModelFileError, RNNClassifier, RNNRegressor, persistence

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(0).normal(size=(20, 4, 2))
ALTERNATING = np.arange(20) % 2


@pytest.fixture
def model():
    return RNNClassifier((3,), max_iter=2, random_state=0).fit(X, np.array(["no", "yes"])[ALTERNATING])


@pytest.fixture
def file(model, tmp_path):
    path = tmp_path / "model.safetensors"
    model.save(path)
    return path


def fitted_attributes(model):
    return {key: value for key, value in vars(model).items() if key.endswith("_") and not key.startswith("_")}


def assert_same_model(a, b, X):
    assert type(a) is type(b)
    parameters = b.get_params()
    if isinstance(parameters["random_state"], np.random.RandomState):
        parameters["random_state"] = None
    np.testing.assert_equal(a.get_params(), parameters)
    np.testing.assert_equal(fitted_attributes(a), fitted_attributes(b))
    assert a.predict(X).dtype == b.predict(X).dtype
    np.testing.assert_array_equal(a.predict(X), b.predict(X))
    np.testing.assert_array_equal(a.transform(X), b.transform(X))


# ------------------------------------------------------------------------------------------------------ what is kept
@pytest.mark.parametrize(
    "labels",
    [
        np.array(["no", "ja\u00e4"]),
        np.array(["no", "yes"], dtype=object),
        np.array([False, True]),
        np.array([-1, 2**40]),
        np.array([1, 2], dtype=np.int8),
        np.array([0.0, 3.0]),
    ],
)
def test_classifier(tmp_path, labels):
    model = RNNClassifier((3,), max_iter=2, random_state=0, class_weight="balanced").fit(X, labels[ALTERNATING])
    model.save(tmp_path / "m")
    loaded = numrnn.load(tmp_path / "m")
    assert_same_model(loaded, model, X)
    assert loaded.classes_.dtype == model.classes_.dtype


@pytest.mark.parametrize(
    "parameters",
    [
        {"cell": "gru", "bidirectional": True, "hidden_layer_sizes": [4, 3], "dropout": 0.5},
        {"cell": "rnn", "activation": "relu", "pooling": "max", "dtype": "float64"},
        {"loss": "huber", "hidden_layer_sizes": np.int64(3), "learning_rate_init": np.float64(0.01)},
        {"early_stopping": True, "validation_fraction": 0.3, "n_jobs": 1},
        {"random_state": np.random.RandomState(1), "max_grad_norm": None, "n_iter_no_change": np.inf},
    ],
)
@pytest.mark.parametrize("n_outputs", [None, 2])
def test_regressor(tmp_path, parameters, n_outputs):
    y = X.sum(axis=(1, 2)) if n_outputs is None else 100 * X[:, 0, :n_outputs] + 7
    model = RNNRegressor(**{"hidden_layer_sizes": (3,), "max_iter": 2, "random_state": 0, **parameters}).fit(X, y)
    model.save(tmp_path / "m")
    assert_same_model(numrnn.load(tmp_path / "m"), model, X)


def test_class_weights_keep_the_type_of_their_labels(tmp_path):
    for class_weight, labels in (({0: 1.0, 1: 2}, [0, 1]), ({"a": np.float32(0.5), "b": 1}, ["a", "b"])):
        model = RNNClassifier((3,), max_iter=1, class_weight=class_weight).fit(X, np.array(labels)[ALTERNATING])
        model.save(tmp_path / "m")
        loaded = numrnn.load(tmp_path / "m")
        assert loaded.class_weight == class_weight
        assert [type(key) for key in loaded.class_weight] == [type(key) for key in class_weight]
        loaded.fit(X, np.array(labels)[ALTERNATING])


def test_dtype_given_as_a_class(tmp_path):
    RNNRegressor((3,), max_iter=1, dtype=np.float64).fit(X, ALTERNATING).save(tmp_path / "m")
    assert numrnn.load(tmp_path / "m").dtype == "float64"


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_feature_names_and_the_meaning_of_columns(tmp_path):
    frame = pd.DataFrame(X[:, :, 0], columns=list("abcd"))
    model = RNNRegressor((3,), max_iter=1, random_state=0).fit(frame, ALTERNATING)
    model.save(tmp_path / "m")
    loaded = numrnn.load(tmp_path / "m")
    assert_same_model(loaded, model, frame)
    with pytest.raises(ValueError, match="feature names should match"):
        loaded.predict(frame[list("dcba")])
    with pytest.raises(ValueError, match="X has 3 features, but RNNRegressor is expecting 4"):
        loaded.predict(frame[list("abc")].set_axis(range(3), axis=1))


def test_file_of_a_model_whose_parameters_were_changed_after_the_fit(model, tmp_path):
    expected = model.predict_proba(X)
    model.set_params(hidden_layer_sizes=(99,), cell="gru")
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(numrnn.load(tmp_path / "m").predict_proba(X), expected)


def test_training_goes_on_from_a_file(file):
    y = np.array(["no", "yes"])[ALTERNATING]
    loaded = numrnn.load(file).set_params(warm_start=True)
    loaded.fit(X, y)
    assert len(loaded.loss_curve_) == 4
    loaded.partial_fit(X, y)
    assert len(loaded.loss_curve_) == 5


def test_tensors_have_the_names_and_shapes_of_pytorch(file):
    with safe_open(file, framework="numpy") as content:
        shapes = {key: content.get_tensor(key).shape for key in content.keys()}  # noqa: SIM118
        assert content.metadata()["format_version"] == str(persistence.FORMAT_VERSION)
    assert shapes == {
        "weight_ih_l0": (12, 2),
        "weight_hh_l0": (12, 3),
        "bias_ih_l0": (12,),
        "bias_hh_l0": (12,),
        "weight_out": (2, 3),
        "bias_out": (2,),
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RNNRegressor((3,), max_iter=1, learning_rate=lambda epoch: 0.1), "the parameter learning_rate cannot"),
        (lambda: RNNClassifier((3,), max_iter=1), "the attribute classes_ cannot be written to a model file"),
    ],
)
def test_what_cannot_be_written(tmp_path, make, message):
    model = make().fit(X, ALTERNATING)
    if isinstance(model, RNNClassifier):
        model.classes_ = np.array([b"no", b"yes"])
    with pytest.raises(ValueError, match=message):
        model.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_only_estimators_are_saved(tmp_path):
    with pytest.raises(
        TypeError, match=r"expected a model of type RNNAnomalyDetector, RNNClassifier, .*, RNNTagger, got dict"
    ):
        persistence.save({}, tmp_path / "m")


# ------------------------------------------------------------------------------------------------------------ writing
@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_failed_write_leaves_the_old_file(model, file, monkeypatch, failing):
    before = file.read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="disk full"):
        model.set_params(n_jobs=1).save(file)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_file_is_replaced(model, file):
    model.partial_fit(X, np.array(["no", "yes"])[ALTERNATING])
    model.save(file)
    assert len(numrnn.load(file).loss_curve_) == 3
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions and links of POSIX")
def test_permissions_and_links_are_kept(model, file):
    file.chmod(0o640)
    link = file.with_name("link")
    link.symlink_to(file)
    model.set_params(n_jobs=1).save(link)
    assert link.is_symlink()
    assert numrnn.load(file).n_jobs == 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_device_a_pipe_or_a_folder_is_not_replaced(model, tmp_path):
    pipe, link, folder = tmp_path / "pipe", tmp_path / "link", tmp_path / "folder"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    folder.mkdir()
    for path in (pipe, link):
        with pytest.raises(FileExistsError, match="regular file, but this is a device, a pipe"):
            model.save(path)
    with pytest.raises(IsADirectoryError, match="this is a folder"):
        model.save(folder)
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)
    assert sorted(tmp_path.iterdir()) == sorted([pipe, link, folder])


def test_missing_directory(model, tmp_path):
    with pytest.raises(FileNotFoundError):
        model.save(tmp_path / "nowhere" / "m")


# ------------------------------------------------------------------------------------------------------------ reading
def test_missing_file_and_directory(tmp_path):
    with pytest.raises(FileNotFoundError):
        numrnn.load(tmp_path / "nothing")
    with pytest.raises(OSError, match=r"directory|denied"):
        numrnn.load(tmp_path)


def test_every_truncation_is_refused(file, tmp_path):
    content = file.read_bytes()
    for length in [0, 1, 7, 8, 9, *range(10, len(content), 97), len(content) - 1]:
        (tmp_path / "part").write_bytes(content[:length])
        with pytest.raises(ModelFileError, match="part"):
            numrnn.load(tmp_path / "part")


def test_every_altered_byte_is_refused_or_harmless(model, file, tmp_path):
    """Harmless is at most a place that carries no meaning, such as a blank that fills up the header."""
    content = file.read_bytes()
    harmless = 0
    for place in range(0, len(content), 13):
        altered = bytearray(content)
        altered[place] ^= 0x15
        (tmp_path / "altered").write_bytes(altered)
        try:
            loaded = numrnn.load(tmp_path / "altered")
        except ModelFileError:
            continue
        assert_same_model(loaded, model, X)
        harmless += 1
    assert harmless <= 1


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04" + bytes(100), bytes(1000), b"\xff" * 64])
def test_something_else(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(ModelFileError, match="is not a model file, or is truncated or damaged"):
        numrnn.load(tmp_path / "other")


def test_other_safetensors_file(tmp_path):
    save_file({"weight": np.ones(3)}, tmp_path / "other")
    with pytest.raises(ModelFileError, match="a safetensors file, but not one that numrnn has written"):
        numrnn.load(tmp_path / "other")


def test_error_is_a_value_error():
    assert issubclass(ModelFileError, ValueError)


def rewrite(file, change, *, version=str(persistence.FORMAT_VERSION)):
    """The same file with other contents and a checksum that fits them."""
    with safe_open(file, framework="numpy") as content:
        metadata = dict(content.metadata())
        tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118
    description = json.loads(metadata["model"])
    change(description, tensors)
    metadata["model"] = json.dumps(description)
    metadata["format_version"] = version
    metadata["checksum"] = persistence._checksum(metadata, tensors)
    save_file(tensors, file, metadata)


def test_rewriting_alone_is_harmless(model, file):
    rewrite(file, lambda description, tensors: None)
    assert_same_model(numrnn.load(file), model, X)


@pytest.mark.parametrize("version", ["3", "77"])
def test_newer_version(file, version):
    rewrite(file, lambda description, tensors: None, version=version)
    with pytest.raises(ModelFileError, match=rf"has format version {version}, .*reads up to format version 2: upgrade"):
        numrnn.load(file)


@pytest.mark.parametrize("version", ["", "-1", "one"])
def test_version_that_is_none(file, version):
    rewrite(file, lambda description, tensors: None, version=version)
    with pytest.raises(ModelFileError, match="format version should be a whole number"):
        numrnn.load(file)


def swap(key, value):
    def change(description, tensors):
        place = description
        for step in key[:-1]:
            place = place[step]
        place[key[-1]] = value

    return change


def drop(key):
    def change(description, tensors):
        place = description
        for step in key[:-1]:
            place = place[step]
        del place[key[-1]]

    return change


def tensor(name, value):
    def change(description, tensors):
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap(["estimator"], "RNNRegressor"), "cannot be read"),
        (swap(["estimator"], "os.system"), "unknown estimator 'os.system', expected one of"),
        (swap(["parameters", "cell"], "transformer"), "The 'cell' parameter of RNNClassifier must be"),
        (swap(["parameters", "colour"], "red"), r"parameters \['colour'\] are missing or unknown"),
        (drop(["parameters", "alpha"]), r"parameters \['alpha'\] are missing or unknown"),
        (drop(["attributes", "classes_"]), r"fitted attributes \['classes_'\] are missing or unknown"),
        (swap(["attributes", "_network"], 1), r"fitted attributes \['_network'\] are missing or unknown"),
        (swap(["attributes", "n_iter_"], "two"), "the fitted attribute n_iter_ has the wrong type, str"),
        (swap(["attributes", "classes_"], {"array": ["a"], "dtype": "<U1"}), "does not fit its fitted attributes"),
        (swap(["attributes", "classes_"], {"array": ["a", "b"], "dtype": "V8"}), "arrays of type .* are not part"),
        (swap(["attributes", "classes_"], {"strange": 1}), "unknown kind of value"),
        (swap(["network", "hidden_sizes"], [10**9]), "shapes of its tensors do not fit"),
        (swap(["network", "input_size"], 10**9), "shapes of its tensors do not fit"),
        (swap(["network", "cell"], "gru"), "shapes of its tensors do not fit"),
        (swap(["network", "cell"], "transformer"), "do not make a model"),
        (swap(["network", "dtype"], "float64"), "is of type float32, expected float64"),
        (swap(["network", "extra"], 1), "do not make a model"),
        (drop(["network"]), "do not make a model"),
        (tensor("bias_out", None), "shapes of its tensors do not fit"),
        (tensor("bias_out", np.zeros(3, dtype=np.float32)), "shapes of its tensors do not fit"),
        (tensor("weight_hh_l1", np.zeros((12, 3), dtype=np.float32)), "shapes of its tensors do not fit"),
        (tensor("weight_hh_l0", None), "do not make a model"),
    ],
)
def test_contents_that_do_not_make_a_model(file, change, message):
    rewrite(file, change)
    with pytest.raises(ModelFileError, match=message):
        numrnn.load(file)


def test_checksum_covers_tensors_and_description(file):
    def alter(name, value):
        with safe_open(file, framework="numpy") as content:
            metadata = dict(content.metadata())
            tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118
        if name == "tensor":
            tensors["bias_out"] = tensors["bias_out"] + value
        else:
            metadata["model"] = metadata["model"].replace('"max_iter": 2', '"max_iter": 3')
        save_file(tensors, file.with_name(name), metadata)
        with pytest.raises(ModelFileError, match="checksum does not match its contents"):
            numrnn.load(file.with_name(name))

    alter("tensor", np.float32(1e-3))
    alter("description", None)


# -------------------------------------------------------------------------------------- files of earlier versions
DATA = Path(__file__).parent / "data"
WAVES = np.sin(np.arange(6 * 4 * 2)).reshape(6, 4, 2)


def test_classifier_of_version_1_predicts_what_it_did_when_it_was_written():
    model = numrnn.load(DATA / "classifier_version_1.safetensors")
    assert (
        model.get_params()
        == RNNClassifier(
            hidden_layer_sizes=(3, 2),
            bidirectional=True,
            dropout=0.25,
            max_iter=3,
            random_state=0,
            class_weight="balanced",
            n_jobs=1,
        ).get_params()
    )
    assert model.classes_.tolist() == ["no", "yes"]
    expected = [0.459230604, 0.458185786, 0.541159289, 0.513961600, 0.440771060, 0.453074318]
    np.testing.assert_allclose(model.predict_proba(WAVES)[:, 1], expected, rtol=1e-5)
    np.testing.assert_allclose(model.loss_curve_, [0.6874829713506007, 0.7304685678849827, 0.6977021319717908])
    assert len(model.set_params(warm_start=True).fit(WAVES, ["no", "yes"] * 3).loss_curve_) == 6


def test_regressor_of_version_1_predicts_what_it_did_when_it_was_written(tmp_path):
    model = numrnn.load(DATA / "regressor_version_1.safetensors")
    expected = [
        [0.03218492804227284, 100.07127697126121],
        [-0.19851848311279674, 100.2109355859719],
        [-0.17262607070236916, 100.32855116467175],
        [-0.2100966376454072, 100.3321398820322],
        [-0.031248323161523456, 100.0858723070836],
        [-0.13846689868245834, 100.17116899335599],
    ]
    np.testing.assert_allclose(model.predict(WAVES), expected, rtol=1e-12)
    assert model.loss == "huber"
    model.save(tmp_path / "m")
    assert_same_model(numrnn.load(tmp_path / "m"), model, WAVES)
