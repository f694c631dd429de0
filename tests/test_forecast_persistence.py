"""Forecasters in files: everything that a forecast, its intervals and its continuation depend on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save as serialize
from sklearn.exceptions import NotFittedError

import numrnn
from numrnn import RNNForecaster
from numrnn.persistence import _checksum

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def quick(**changes):
    default = {"hidden_layer_sizes": (4,), "window_length": 5, "horizon": 2, "max_iter": 1, "batch_size": 32}
    return RNNForecaster(**{**default, "random_state": 0, "n_jobs": 1, "calibration_fraction": 0.3, **changes})


def assert_same(one, other, y_new, X=None, X_new=None):
    """Bit for bit, and after an update still."""
    for update in (False, True):
        if update:
            one.update(y_new, X_new)
            other.update(y_new, X_new)
        for ask in (
            lambda model: model.predict(X=X),
            lambda model: model.predict_interval(coverage=0.5, X=X),
            lambda model: model.sample(n_samples=3, X=X, random_state=0),
        ):
            theirs, ours = ask(one), ask(other)
            if hasattr(theirs, "index") and not isinstance(theirs, list):
                assert theirs.equals(ours)
                assert theirs.index.equals(ours.index)
                continue
            pairs = zip(theirs, ours, strict=True) if isinstance(theirs, list) else [(theirs, ours)]
            for a, b in pairs:
                np.testing.assert_array_equal(a, b)
    assert one.get_params() == other.get_params()
    assert (one.n_iter_, one.n_windows_, one.n_parameters_) == (other.n_iter_, other.n_windows_, other.n_parameters_)
    np.testing.assert_array_equal(one.scale_, other.scale_)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": "quantile", "quantile_levels": [0.2, 0.5, 0.8], "difference": (1, 3), "transformation": "log1p"},
        {"loss": "gaussian", "strategy": "recursive", "calibration_fraction": 0.0, "missing": "mask"},
        {"loss": "negative_binomial", "dtype": "float64", "early_stopping": True},
    ],
)
def test_arrays(changes, rng, tmp_path):
    y = np.rint(rng.gamma(5, size=80))
    if "missing" in changes:
        y[5:9] = np.nan
    model = quick(**changes).fit(y)
    model.save(tmp_path / "model.safetensors")
    assert_same(model, numrnn.load(tmp_path / "model.safetensors"), y[:3])


def test_several_series_with_covariates_of_all_kinds(rng, tmp_path):
    y, X = [rng.normal(size=(n, 2)) for n in (60, 70)], [rng.normal(size=(n, 3)) for n in (60, 70)]
    model = quick(future_covariates=[2, 0]).fit(y, X, rng.normal(size=(2, 2)))
    model.save(tmp_path / "model.safetensors")
    future = [np.ones((2, 3)), np.zeros((2, 3))]
    new, covariates_of_new = [np.ones((1, 2)), np.zeros((2, 2))], [np.ones((1, 3)), np.zeros((2, 3))]
    assert_same(model, numrnn.load(tmp_path / "model.safetensors"), new, future, covariates_of_new)


@pytest.mark.parametrize("kind", ["times", "zone", "periods", "integers", "wide", "long"])
def test_pandas(kind, rng, tmp_path):
    pd = pytest.importorskip("pandas")
    index = {
        "zone": pd.date_range("2024-03-30", periods=62, freq="h", tz="Europe/Berlin"),
        "periods": pd.period_range("2020-01", periods=62, freq="M"),
        "integers": pd.RangeIndex(5, 129, 2),
    }.get(kind, pd.date_range("2020-01-31", periods=62, freq="ME", name="when"))
    y = pd.Series(rng.normal(size=62), index, name="load")
    if kind == "wide":
        y = pd.DataFrame({"a": y, "b": y**2})
    past, new = y[:60], y[60:]
    if kind == "long":
        past, new = (pd.DataFrame({"unique_id": "x", "ds": part.index, "y": part.to_numpy()}) for part in (past, new))
    calendar = ["time_of_year"] if kind != "integers" else []
    model = quick(calendar=calendar).fit(past)
    model.save(tmp_path / "model.safetensors")
    other = numrnn.load(tmp_path / "model.safetensors")
    assert type(other.predict()) is type(model.predict())
    assert_same(model, other, new)


def test_covariates_keep_their_names(rng, tmp_path):
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame({"sun": rng.normal(size=60), "wind": rng.normal(size=60)})
    model = quick().fit(rng.normal(size=58), X[:58].to_numpy())
    named = quick().fit(pd.Series(rng.normal(size=58)), X[:58])
    for one in (model, named):
        one.save(tmp_path / "model.safetensors")
        other = numrnn.load(tmp_path / "model.safetensors")
        future = X[58:].to_numpy() if one is model else X[58:]
        np.testing.assert_array_equal(one.predict(X=future), other.predict(X=future))
    with pytest.raises(ValueError, match="no column 'sun'"):
        other.predict(X=X[["wind"]][58:])


def test_what_cannot_be_written(rng, tmp_path):
    with pytest.raises(NotFittedError):
        quick().save(tmp_path / "model")
    with pytest.raises(ValueError, match="the parameter learning_rate cannot be written"):
        quick(learning_rate=lambda epoch: 0.01).fit(rng.normal(size=60)).save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", ["history", "scale", "network", "series", "state"])
def test_parts_that_do_not_fit_together(what, rng, tmp_path):
    path = tmp_path / "model.safetensors"
    quick().fit([rng.normal(size=60), rng.normal(size=60)]).save(path)
    with safe_open(path, framework="numpy") as file:
        metadata, tensors = dict(file.metadata()), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    model = json.loads(metadata["model"])
    state = {key: value for key, value in model["state"]["dict"]}
    if what == "history":
        name = next(value["tensor"] for key, value in state["history"]["dict"] if key == "values")
        tensors[name] = tensors[name][:-1]
    elif what == "scale":
        name = next(value["tensor"] for key, value in state["preparation"]["dict"] if key == "scale")
        tensors[name] = tensors[name][:1]
    elif what == "network":
        tensors["weight_out"] = tensors["weight_out"][:1]
    elif what == "series":
        next(pair for pair in state["attributes"]["dict"] if pair[0] == "n_series_")[1] = 3
    else:
        model["state"]["dict"] = [pair for pair in model["state"]["dict"] if pair[0] != "forms"]
    metadata["model"] = json.dumps(model)
    metadata["checksum"] = _checksum(metadata, tensors)
    path.write_bytes(serialize(tensors, metadata))
    with pytest.raises(numrnn.ModelFileError, match=r"do not fit|do not make a model"):
        numrnn.load(path)
