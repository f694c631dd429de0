"""Forecasters and detectors on the device: what they do on the CPU."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import numrnn
from numrnn import RNNAnomalyDetector, RNNForecaster

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = {"hidden_layer_sizes": (3,), "max_iter": 2, "batch_size": 8, "random_state": 0, "dtype": "float64"}
CLOSE = {"rtol": 1e-6, "atol": 1e-8}


def wave(n, rng):
    return np.sin(np.arange(n) / 3) + 0.1 * rng.normal(size=n)


@pytest.mark.parametrize(
    "options",
    [
        {"horizon": 3, "early_stopping": True, "validation_fraction": 0.2},
        {"horizon": 2, "strategy": "recursive", "cell": "gru", "solver": "lbfgs"},
        {"horizon": 2, "strategy": "recursive", "loss": "gaussian", "n_paths": 3, "cell": "rnn"},
    ],
)
def test_forecaster(rng, tmp_path, options):
    y = wave(40, rng)
    cpu, cuda = (
        RNNForecaster(**{**SMALL, **options}, window_length=4, device=device).fit(y) for device in ("cpu", "cuda")
    )
    assert (cpu.device_, cuda.device_) == ("cpu", "cuda")
    np.testing.assert_allclose(cuda.loss_curve_, cpu.loss_curve_, **CLOSE)
    np.testing.assert_allclose(cuda.predict(), cpu.predict(), **CLOSE)
    np.testing.assert_allclose(cuda.predict_interval(), cpu.predict_interval(), **CLOSE)
    # Pickled, saved and loaded it forecasts on either device.
    cuda.save(tmp_path / "model.safetensors")
    for model in (pickle.loads(pickle.dumps(cuda)), numrnn.load(tmp_path / "model.safetensors")):
        assert model.device_ == "cuda"
        np.testing.assert_allclose(model.set_params(device="cpu").predict(), cuda.predict(), **CLOSE)


@pytest.mark.parametrize("method", ["forecast", "reconstruction"])
def test_detector(rng, method):
    x = wave(60, rng)
    cpu, cuda = (
        RNNAnomalyDetector(**SMALL, method=method, window_length=4, device=device).fit(x[:50])
        for device in ("cpu", "cuda")
    )
    assert (cpu.device_, cuda.device_) == ("cpu", "cuda")
    np.testing.assert_allclose(cuda.score_samples(x), cpu.score_samples(x), **CLOSE)
    np.testing.assert_allclose(cuda.update(x[50:]), cpu.update(x[50:]), **CLOSE)


def test_detector_of_symbols():
    cpu, cuda = (
        RNNAnomalyDetector(
            **{**SMALL, "batch_size": 2}, method="likelihood", window_length=3, embedding_dim=2, device=device
        ).fit("abcabcabcabc")
        for device in ("cpu", "cuda")
    )
    assert cuda.device_ == "cuda"
    np.testing.assert_allclose(cuda.score_samples("abcb"), cpu.score_samples("abcb"), **CLOSE)


def test_without_a_device(rng, monkeypatch):
    from numrnn import devices

    monkeypatch.setattr(devices, "_why_unavailable", lambda: "there is none")
    for model in (RNNForecaster(**SMALL, device="cuda"), RNNAnomalyDetector(**SMALL, device="cuda")):
        with pytest.raises(RuntimeError, match="device='cuda' is not available: there is none"):
            model.fit(wave(40, rng))
