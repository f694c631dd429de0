"""`RNNSeq2Seq.compile`: one source after the other in other compiled code, as `predict` does it."""

from __future__ import annotations

import pickle
from itertools import permutations

import numba
import numpy as np
import pytest

from numrnn import RNNSeq2Seq
from numrnn.kernels.jit import COMPILED

pytestmark = [
    pytest.mark.interpreter,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

WORDS = ["", *("".join(letters) for length in (1, 2, 3) for letters in permutations("abc", length))]
SETTINGS = {"embedding_dim": 3, "learning_rate_init": 0.1, "max_iter": 1, "tol": 0.0, "random_state": 0}
# Every attention and cell, depths, one direction and both, a beam with all that ranks it, sizes that are no vectors.
FORMS = {
    "greedy": {},
    "deep": {
        "cell": "lstm", "hidden_layer_sizes": (3, 2), "decoder_layer_sizes": (2, 17), "attention": "multiplicative",
    },
    "beam": {"attention": "multihead", "n_heads": 2, "beam_width": 3, "coverage_penalty": 0.2},
    "without attention": {
        "cell": "rnn", "attention": None, "bidirectional": False, "beam_width": 2, "length_normalization": 0.5,
    },
}  # fmt: skip


def fitted(X, y, **settings) -> RNNSeq2Seq:
    return RNNSeq2Seq(**{"hidden_layer_sizes": (4,), "analyzer": "char", **SETTINGS, **settings}).fit(X, y)


def written(model, compiled, sources):
    """What a compiled model writes, as texts."""
    tokens = [None, *model.target_vocabulary_]
    texts, out = [], np.full(compiled.max_length, -9)
    for source in sources:
        length = compiled.predict(compiled.parameters, source, out)
        texts.append("".join(tokens[i] for i in out[:length]))
    return texts


@pytest.mark.parametrize(("form", "dtype"), [*((form, "float32") for form in FORMS), ("greedy", "float64")])
def test_writes_what_predict_does(form, dtype):
    model = fitted(WORDS, [word[::-1].upper() for word in WORDS], dtype=dtype, **FORMS[form])
    # What has learned so little writes the same for all: other parameters do not.
    for seed in range(20):
        rng = np.random.default_rng(seed)
        model._network.parameters.flat[:] = 3 * rng.normal(size=model.n_parameters_)
        model._network.parameters["bias_out"][-1] -= 3
        expected = model.predict(WORDS)
        if len(set(expected)) > 2:
            break
    compiled = model.compile()
    sources = [np.array([model.source_vocabulary_[letter] for letter in word], dtype=np.int64) for word in WORDS]
    assert len(set(expected)) > 2
    assert written(model, compiled, sources) == expected
    assert written(model, pickle.loads(pickle.dumps(compiled)), sources[:3]) == expected[:3]
    # It is a copy.
    model._network.parameters.flat[:] = 0
    assert written(model, compiled, sources[:3]) == expected[:3]


@pytest.mark.parametrize("attention", ["additive", None])
def test_measurements_are_continued_in_their_units(attention, rng):
    X = rng.normal(size=(6, 5, 2))
    model = fitted(X, 100 * X[:, :3, :1] + 7, attention=attention)
    compiled = model.compile()
    assert compiled.n_columns == 1
    for n_steps in (1, 3, 8):
        out = np.full((n_steps, 1), np.nan)
        assert compiled.predict(compiled.parameters, X[0], out) == n_steps
        np.testing.assert_allclose(out, model.predict(X[:1], lengths=n_steps)[0], rtol=1e-5)


def test_a_vector_starts_the_decoder(rng):
    X = rng.normal(size=(6, 3))
    model = fitted(X, WORDS[1:7])
    assert written(model, model.compile(), X) == model.predict(X)


def test_unknown_ids_and_forbidden_ones(rng):
    model = fitted(["ab", "ba", "a", "c"], ["xz", "yx", "x", "z"], max_features=2, unknown="keep", max_iter=3)
    unknown = np.zeros(2, dtype=np.int64)
    out = np.zeros(model.max_length_, dtype=np.int64)
    for choice in ("keep", "forbid"):
        compiled = model.set_params(unknown=choice).compile()
        length = compiled.predict(compiled.parameters, unknown, out)
        tokens = ["<unknown>", *model.target_vocabulary_]
        assert "".join(tokens[i] for i in out[:length]) == model.predict(["??"])[0]
        assert choice == "keep" or not (out[:length] == 0).any()


def test_within_compiled_code():
    if not COMPILED:
        pytest.skip("needs a compiler")
    model = fitted(WORDS, [word.upper() for word in WORDS])
    compiled = model.compile()
    predict = compiled.predict

    @numba.njit
    def longest(parameters, sources, out):
        found = 0
        for i in range(len(sources)):
            found = max(found, predict(parameters, sources[i], out))
        return found

    sources = np.array([[1, 2], [2, 3], [3, 3]])
    out = np.zeros(compiled.max_length, dtype=np.int64)
    lengths = [compiled.predict(compiled.parameters, source, out) for source in sources]
    assert longest(compiled.parameters, sources, out) == max(lengths)
