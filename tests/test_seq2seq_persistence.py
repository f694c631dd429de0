"""Files of `RNNSeq2Seq`: the vocabularies are in them, and nothing that is a function."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors import safe_open

import numrnn
from numrnn import ModelFileError, RNNSeq2Seq

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SETTINGS = {"embedding_dim": (4, 6), "max_iter": 1, "random_state": 0}


@pytest.mark.parametrize(
    ("X", "y", "settings"),
    [
        (["a b", "b", "über"], ["x", "x y", "ä"], {"min_df": (1, 1), "lowercase": True, "beam_width": 2}),
        ([["a"], ["b", "é"]], [np.array([1.5, 2.0]), np.array([3.0])], {"attention": "multihead", "n_heads": 2}),
        ([np.array([4, -2])], [np.array([2**40])], {"cell": "lstm", "decoder_layer_sizes": (3, 2)}),
        (np.eye(3), ["a", "b", "c"], {"analyzer": "char"}),
    ],
    ids=["texts", "measurements", "integers", "vectors"],
)
def test_what_is_read_predicts_as_what_was_written(X, y, settings, tmp_path):
    model = RNNSeq2Seq((4,), **{**SETTINGS, **settings}).fit(X, y)
    model.save(tmp_path / "m")
    loaded = numrnn.load(tmp_path / "m")
    assert loaded.get_params() == model.get_params()
    for one, other in zip(loaded.predict(X), model.predict(X), strict=True):
        np.testing.assert_array_equal(one, other)
    for name in ("loss_curve_", "max_length_", "n_iter_", "n_parameters_", "validation_scores_"):
        assert getattr(loaded, name) == getattr(model, name)
    if not isinstance(X, np.ndarray):
        assert loaded.source_vocabulary_ == model.source_vocabulary_
        assert list(loaded.source_vocabulary_) == list(model.source_vocabulary_)
    loaded.set_params(warm_start=True).fit(X, y)
    assert len(loaded.loss_curve_) == 2


def test_subwords_are_in_the_file(tmp_path):
    pytest.importorskip("sentencepiece")
    X = ["lower and lowest", "newer and newest"] * 3
    model = RNNSeq2Seq((4,), analyzer=("subword", "char"), max_features=(30, None), **SETTINGS).fit(X, X)
    model.save(tmp_path / "m")
    assert numrnn.load(tmp_path / "m").predict(X) == model.predict(X)


def test_a_function_cannot_be_written(tmp_path):
    model = RNNSeq2Seq((4,), analyzer=("char", str.split), **SETTINGS).fit(["a b"], ["a b"])
    with pytest.raises(ValueError, match=r"the parameter analyzer cannot be written .* is a function"):
        model.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_network_that_does_not_fit_the_vocabularies_is_refused(tmp_path):
    from safetensors.numpy import save_file

    from numrnn import persistence

    model = RNNSeq2Seq((4,), **SETTINGS).fit(["a b"], ["a b"])
    model.save(tmp_path / "m")
    with safe_open(tmp_path / "m", framework="numpy") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    description = json.loads(metadata["model"])

    def rewritten(change) -> None:
        changed = json.loads(json.dumps(description))
        change(changed)
        metadata["model"] = json.dumps(changed)
        metadata["checksum"] = persistence._checksum(metadata, tensors)
        save_file(tensors, tmp_path / "changed", metadata)

    for change in (
        lambda d: d["network"].update(source_size=9),
        lambda d: d["network"].update(target_size=10**9),
        lambda d: d["network"].update(decoder_sizes=[10**6]),
        lambda d: d["network"].update(attention="multiplicative"),
        lambda d: d["attributes"].update(max_length_="long"),
        lambda d: d["attributes"].pop("_source"),
        lambda d: d["attributes"].update(_source={"tokens": ["text"]}),
        lambda d: d["attributes"]["_target"]["tokens"].__setitem__(3, {"dict": []}),
    ):
        rewritten(change)
        with pytest.raises(ModelFileError):
            numrnn.load(tmp_path / "changed")
