"""RNNAnomalyDetector: what is found, and that streams, batches and files agree."""

from __future__ import annotations

import numpy as np
import pytest

import numrnn
from numrnn import RNNAnomalyDetector

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("method", ["forecast", "reconstruction"])
def test_a_jump_is_found_and_streams_and_files_give_the_scores_of_the_batch(method, rng, tmp_path):
    x = np.sin(2 * np.pi * np.arange(400) / 20) + 0.05 * rng.normal(size=400)
    x[370] += 2
    detector = RNNAnomalyDetector((16,), method=method, window_length=20, max_iter=15, random_state=0, n_jobs=1)
    scores = detector.fit(x[:350]).score_samples(x)
    assert 370 <= np.argmin(scores) < 390
    assert detector.predict(x)[np.argmin(scores)] == -1
    assert np.mean(detector.predict(x[:350]) == -1) == pytest.approx(0.01, abs=0.003)
    detector.save(tmp_path / "detector.safetensors")
    read = numrnn.load(tmp_path / "detector.safetensors")
    np.testing.assert_array_equal(read.score_samples(x), scores)
    np.testing.assert_array_equal([read.update([value])[0] for value in x[350:]], scores[350:])


def test_a_symbol_out_of_order_and_one_never_seen_are_improbable_and_streams_and_files_agree(tmp_path):
    detector = RNNAnomalyDetector((16,), method="likelihood", max_iter=20, batch_size=4, random_state=0, n_jobs=1)
    text = "abcdabXdabcd"
    scores = detector.fit("abcd" * 100).score_samples(text)
    assert np.argmin(scores) == 6
    assert np.argmin(detector.score_samples("abcdabdcabcd")) in (6, 7)
    detector.save(tmp_path / "detector.safetensors")
    read = numrnn.load(tmp_path / "detector.safetensors").reset()
    np.testing.assert_array_equal(np.concatenate([read.update(symbol) for symbol in text]), scores)
