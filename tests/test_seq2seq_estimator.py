"""`RNNSeq2Seq`: what it learns of every kind of pair, what it returns and refuses, and life within scikit-learn."""

from __future__ import annotations

import pickle
import warnings
from itertools import permutations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV

from numrnn import RNNSeq2Seq
from numrnn.estimators import seq2seq
from numrnn.plots import AttentionMapDisplay

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

WORDS = ["".join(letters) for length in (1, 2, 3) for letters in permutations("abcd", length)]
BACKWARDS = [word[::-1] for word in WORDS]
SMALL = {"embedding_dim": 8, "learning_rate_init": 0.02, "batch_size": 8, "max_iter": 2, "tol": 0.0, "random_state": 0}


def model(*sizes: int, **settings) -> RNNSeq2Seq:
    return RNNSeq2Seq(sizes or (8,), **{**SMALL, "analyzer": "char", **settings})


@pytest.fixture(scope="module")
def backwards() -> RNNSeq2Seq:
    """Knows how to write words backwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model(24, embedding_dim=16, max_iter=40).fit(WORDS, BACKWARDS)


# ------------------------------------------------------------------------------------------------------ what it learns
def test_words_backwards(backwards):
    assert backwards.score(WORDS, BACKWARDS) == 1.0
    assert backwards.predict(["dab", "c"]) == ["bad", "c"]
    assert backwards.loss_curve_[-1] < 0.1 * backwards.loss_curve_[0]
    assert (backwards.n_iter_, backwards.max_length_) == (40, 3)
    assert set(backwards.source_vocabulary_) == set("abcd")


def test_predictions_do_not_depend_on_the_other_sources(backwards):
    together = backwards.predict_n_best(WORDS, 2)
    for number in (0, 5, -1):
        (alone,) = backwards.predict_n_best([WORDS[number]], 2)
        assert [found.prediction for found in alone] == [found.prediction for found in together[number]]


def test_several_hypotheses_and_their_likelihood(backwards):
    backwards = clone(backwards).set_params(length_normalization=0.0, max_iter=3).fit(WORDS, BACKWARDS)
    found = backwards.predict_n_best(["abc", "d"], 3, beam_width=6)
    for source, hypotheses in zip(["abc", "d"], found, strict=True):
        assert len(hypotheses) == 3
        assert len({each.prediction for each in hypotheses}) == 3
        scores = [each.score for each in hypotheses]
        assert scores == sorted(scores, reverse=True)
        ended = [each for each in hypotheses if len(each.prediction) < backwards.max_length_]
        for each in ended:
            (log_likelihood,) = backwards.log_likelihood([source], [each.prediction])
            np.testing.assert_allclose(each.score, log_likelihood, rtol=1e-4)
    wide = backwards.set_params(beam_width=6).predict(["abc", "d"])
    assert wide == [hypotheses[0].prediction for hypotheses in found]


@pytest.mark.parametrize(
    ("X", "y", "settings"),
    [
        (["a b", "b", ""], ["x", "", "x y"], {"analyzer": "split"}),
        ([["a", "b"], ["b"]], [["x"], ["y", "x"]], {"attention": "multiplicative"}),
        (
            [np.array([3, 5]), np.array([5])],
            [np.array([-1]), np.array([7, 7])],
            {"attention": "multihead", "n_heads": 2},
        ),
        (np.ones((2, 3, 2)), ["a", "bb"], {"attention": None, "cell": "lstm"}),
        (np.eye(2), ["a", "bb"], {}),
        (["ab", "c"], [np.array([3]), np.array([4, 3])], {"bidirectional": False, "decoder_layer_sizes": (5, 6)}),
    ],
    ids=["texts", "tokens", "integers", "measurements", "vectors", "mixed"],
)
def test_kinds_of_pairs(X, y, settings):
    fitted = model(**settings).fit(X, y)
    predicted = fitted.predict(X)
    assert len(predicted) == len(y)
    for one, other in zip(predicted, y, strict=True):
        assert type(one) is type(other)
    if isinstance(y[0], np.ndarray):
        assert all(
            part.dtype == np.int64 and set(part.tolist()) <= set(np.concatenate(y).tolist()) for part in predicted
        )
    assert 0 <= fitted.score(X, y) <= 1
    assert 0 <= fitted.score(X, y, metric="token_accuracy") <= 1
    again = pickle.loads(pickle.dumps(fitted))
    for one, other in zip(again.predict(X), predicted, strict=True):
        np.testing.assert_array_equal(one, other)
    drawn = fitted.sample(X, 2, random_state=0)
    assert [len(each) for each in drawn] == [2] * len(X)
    assert fitted.log_likelihood(X, y).shape == (len(y),)


def test_states_of_the_encoder():
    fitted = model(5, 3).fit(["ab", "c", ""], ["x", "y", "z"])
    states = fitted.transform(["ab", "c", ""])
    assert [part.shape for part in states] == [(2, 6), (1, 6), (1, 6)]
    assert model(5).fit(np.eye(2), ["a", "b"]).transform(np.eye(2)).shape == (2, 5)


def test_measurements_are_predicted_by_squared_error():
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, size=(60, 1))
    waves = 100 + 10 * np.sin(phases + 0.5 * np.arange(20))
    X, y = (waves[:, :12, None] - 100) / 10, waves[:, 12:]
    fitted = model(16, max_iter=60, attention=None).fit(X[:50], y[:50])
    predicted = fitted.predict(X[50:])
    assert predicted.shape == (10, 8)
    assert fitted.score(X[50:], y[50:]) > 0.9
    assert fitted.predict(X[50:], lengths=3).shape == (10, 3)
    ragged = fitted.predict(X[50:52], lengths=[2, 4])
    assert [len(part) for part in ragged] == [2, 4]
    np.testing.assert_allclose(ragged[1], predicted[1, :4], rtol=1e-5)
    rows = model(max_iter=1).fit(X, [wave[:, None] for wave in y]).predict(X[:2])
    assert [part.shape for part in rows] == [(8, 1), (8, 1)]
    with pytest.raises(ValueError, match="lengths must be one positive integer, or one for each of 10 sources"):
        fitted.predict(X[50:], lengths=[1, 2])
    for method in (fitted.sample, fitted.predict_n_best):
        with pytest.raises(ValueError, match="is for targets of tokens"):
            method(X)
    with pytest.raises(ValueError, match="log_likelihood is for targets of tokens"):
        fitted.log_likelihood(X, y)


def test_a_vector_says_what_to_write():
    X, y = np.repeat(np.eye(3), 4, axis=0), ["cab", "bad", "c"] * 1
    fitted = model(16, max_iter=60).fit(X, [word for word in y for _ in range(4)])
    assert fitted.predict(np.eye(3)) == y
    with pytest.raises(ValueError, match="attention_maps needs a model with attention"):
        fitted.attention_maps(np.eye(3))


def test_what_is_drawn_follows_the_probabilities():
    X, y = ["a"] * 8, ["x", "y", "x", "y", "x", "y", "x", "zz"]
    fitted = model(max_iter=60).fit(X, y)
    (drawn,) = fitted.sample(["a"], 400, random_state=0)
    likelihoods = np.exp(fitted.log_likelihood(["a"] * 3, ["x", "y", "zz"]))
    shares = [drawn.count(text) / 400 for text in ("x", "y", "zz")]
    np.testing.assert_allclose(shares, likelihoods, atol=0.08)
    assert fitted.sample(["a"], 2, temperature=0) == [fitted.predict(["a"]) * 2]
    assert set(fitted.sample(["a"], 50, top_k=1, random_state=0)[0]) == {drawn_most(drawn)}
    assert fitted.sample(["a"], 3, random_state=1) == fitted.sample(["a"], 3, random_state=1)


def drawn_most(drawn: list[str]) -> str:
    return max(set(drawn), key=drawn.count)


# ------------------------------------------------------------------------------------------------------------ attention
def test_maps_of_attention(backwards):
    maps = backwards.attention_maps(["abc", "d"])
    assert [each.weights.shape for each in maps] == [(4, 3), (2, 1)]
    np.testing.assert_allclose(maps[0].weights.sum(axis=1), 1, rtol=1e-5)
    assert (maps[0].source, maps[0].target) == (["a", "b", "c"], ["c", "b", "a", "<end>"])
    forced = backwards.attention_maps(["abc"], ["cb"])[0]
    assert forced.target == ["c", "b", "<end>"]
    np.testing.assert_allclose(forced.weights[:2], maps[0].weights[:2], rtol=1e-5)
    display = AttentionMapDisplay.from_estimator(backwards, ["d", "abc"], sample=-1)
    np.testing.assert_allclose(display.image_.get_array(), maps[0].weights, rtol=1e-5)
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["c", "b", "a", "<end>"]
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="sample must be the number of one of the 1 sources"):
        AttentionMapDisplay.from_estimator(backwards, ["d"], sample=1)
    with pytest.raises(ValueError, match="source must have one entry for each of the 2 tokens, got 1"):
        AttentionMapDisplay([[0.5, 0.5]], source=["a"])


def test_maps_of_measurements_have_numbers_of_steps():
    X = np.random.default_rng(0).normal(size=(6, 4, 2))
    fitted = model(max_iter=1, attention="multihead", n_heads=2).fit(X, X[:, :3])
    (found,) = fitted.attention_maps(X[:1])
    assert (found.weights.shape, found.source, found.target) == ((3, 4), [0, 1, 2, 3], [0, 1, 2])
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-5)


def test_unknown_words_are_kept_forbidden_or_taken_from_the_source():
    names = [f"name{number}" for number in range(40)]
    X = [f"i am {name} ." for name in names] + ["you are here ."] * 4
    y = [f"he is {name} ." for name in names] + ["she is there ."] * 4
    fitted = model(16, analyzer="split", min_df=2, max_iter=25, unknown="keep").fit(X, y)
    assert fitted.predict(["i am otto ."]) == ["he is <unknown> ."]
    (the_map,) = fitted.attention_maps(["i am otto ."])
    place = int(the_map.weights[2].argmax())
    replaced = fitted.set_params(unknown="attend").predict(["i am otto ."])
    assert replaced == [f"he is {['i', 'am', 'otto', '.'][place]} ."]
    assert "<unknown>" not in fitted.set_params(unknown="forbid").predict(["i am otto ."])[0]
    assert fitted.set_params(unknown="attend").predict(["quite other words"])  # only unknown ones
    assert "<unknown>" not in fitted.sample(["i am otto ."], 20, random_state=0)[0]
    vectors = model(analyzer="split", min_df=2, unknown="attend").fit(np.eye(4), ["a a", "a b", "c c", "c"])
    with pytest.raises(ValueError, match="can be 'attend' only with attention to a source of tokens"):
        vectors.predict(np.eye(4))


# ------------------------------------------------------------------------------------------------------------- training
def test_the_same_seed_gives_the_same_model_whatever_the_threads():
    settings = {"dropout": 0.2, "input_dropout": 0.2, "output_dropout": 0.2, "label_smoothing": 0.1}
    one = model(6, 5, n_jobs=1, **settings).fit(WORDS, BACKWARDS)
    two = model(6, 5, n_jobs=2, **settings).fit(WORDS, BACKWARDS)
    assert one.loss_curve_ == two.loss_curve_
    assert one.predict_n_best(WORDS, 2) == two.predict_n_best(WORDS, 2)


def test_early_stopping_keeps_the_best_epoch():
    fitted = model(max_iter=6, early_stopping=True, validation_fraction=0.2, learning_rate_init=0.2).fit(
        WORDS, BACKWARDS
    )
    assert len(fitted.validation_scores_) == fitted.n_iter_
    assert fitted.best_validation_score_ == max(fitted.validation_scores_)
    given = model(max_iter=3, early_stopping=True).fit(WORDS, BACKWARDS, X_val=WORDS[:9], y_val=BACKWARDS[:9])
    n_tokens = sum(map(len, WORDS[:9])) + 9
    mean = given.log_likelihood(WORDS[:9], BACKWARDS[:9]).sum() / n_tokens
    np.testing.assert_allclose(mean, given.best_validation_score_, rtol=1e-5)


def test_partial_fit_and_warm_start_go_on():
    whole = model(max_iter=3).fit(WORDS, BACKWARDS)
    parts = model()
    for _ in range(3):
        parts.partial_fit(WORDS, BACKWARDS)
    assert parts.loss_curve_ == whole.loss_curve_
    warm = model(max_iter=2, warm_start=True).fit(WORDS, BACKWARDS)
    warm.set_params(max_iter=1).fit(WORDS, BACKWARDS)
    assert warm.loss_curve_ == whole.loss_curve_
    with pytest.raises(ValueError, match="X holds sequences of strings, but the model was fitted on texts"):
        parts.partial_fit([["a"]], ["a"])


def test_scheduled_sampling_grows_from_epoch_to_epoch(monkeypatch):
    shares = []
    train = seq2seq.EncoderDecoder.loss_and_gradient

    def watched(self, *args, **kwargs):
        shares.append(self.sampling_share)
        return train(self, *args, **kwargs)

    monkeypatch.setattr(seq2seq.EncoderDecoder, "loss_and_gradient", watched)
    fitted = model(max_iter=3, batch_size=100, scheduled_sampling=0.5).fit(WORDS, BACKWARDS)
    assert shares == [0.0, 0.25, 0.5]
    assert np.isfinite(fitted.loss_curve_).all()


@pytest.mark.parametrize("at", [0, 12])
def test_training_that_is_interrupted_leaves_a_usable_model(at, monkeypatch):
    calls = iter(range(100))
    train = seq2seq.EncoderDecoder.loss_and_gradient

    def interrupted(self, *args, **kwargs):
        if next(calls) == at:
            raise KeyboardInterrupt
        return train(self, *args, **kwargs)

    monkeypatch.setattr(seq2seq.EncoderDecoder, "loss_and_gradient", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        fitted = model(max_iter=50).fit(WORDS, BACKWARDS)
    assert fitted.n_iter_ < 50
    assert len(fitted.predict(WORDS)) == len(WORDS)
    assert np.isfinite(fitted.log_likelihood(WORDS, BACKWARDS)).all()
    n_epochs = len(fitted.loss_curve_)
    assert len(fitted.partial_fit(WORDS, BACKWARDS).loss_curve_) == n_epochs + 1


def test_what_fails_before_the_first_epoch_leaves_the_model_as_it_was():
    def broken(epoch):
        raise ZeroDivisionError("no rate")

    fitted = model(learning_rate=broken)
    with pytest.raises(ZeroDivisionError, match="no rate"):
        fitted.fit(WORDS, BACKWARDS)
    assert not hasattr(fitted, "_network")
    before = fitted.set_params(learning_rate="constant").fit(WORDS, BACKWARDS).predict(WORDS)
    with pytest.raises(ZeroDivisionError, match="no rate"):
        fitted.set_params(learning_rate=broken).fit(WORDS[::-1], WORDS)
    assert fitted.predict(WORDS) == before


def test_within_scikit_learn(backwards):
    assert clone(backwards).get_params() == backwards.get_params()
    search = GridSearchCV(model(max_iter=1), {"attention": ["additive", None], "embedding_dim": [(4, 5)]}, cv=2)
    search.fit(WORDS, BACKWARDS)
    assert search.best_params_["embedding_dim"] == (4, 5)
    assert len(search.predict(WORDS[:2])) == 2
    with pytest.raises(NotFittedError):
        model().predict(["a"])


# ------------------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("X", "y", "settings", "message"),
    [
        (["a"], None, {}, "requires y to be passed"),
        (["a", "b"], ["c"], {}, "X has 2 samples, but y has 1; every source needs one target"),
        ([], [], {}, "X has no sequence"),
        (["", ""], ["a", "b"], {}, "X has no token"),
        (["a", "b"], ["", ""], {}, "y has no token"),
        ("text", ["a"], {}, "X is one text"),
        (["a", 1], ["a", "b"], {}, "sample 1 of X is 1"),
        ([["a"], [1]], ["a", "b"], {}, "sample 1 of X has 1 .* but X holds sequences of strings"),
        ([np.ones((2, 1)), np.ones((0, 1))], ["a", "b"], {}, "sequence 1 of X has no time step"),
        (["a"], [np.array([1.0, np.nan])], {}, "Input y contains NaN"),
        (["a", "b"], ["abc", "abcde"], {"max_length": 3}, "target 1 of y has 5 tokens .* but max_length=3: 1 of 2"),
        (["a"], ["a"], {"beam_width": 0}, "The 'beam_width' parameter"),
        (["a"], ["a"], {"attention": "multihead", "n_heads": 3}, "'n_heads' parameter .* must divide the 8 units"),
        (["a"], ["a"], {"embedding_dim": (1, 2, 3)}, "'embedding_dim' parameter .* must be one value, or a pair"),
        (["a"], ["a"], {"embedding_dim": (1, 0)}, "The 'embedding_dim' parameter of RNNSeq2Seq"),
        (["a"], ["a"], {"decoder_layer_sizes": ()}, "'decoder_layer_sizes' parameter"),
        (["a"], ["a"], {"early_stopping": True}, "must leave pairs to train on"),
        (["a"], ["a"], {"n_jobs": 0}, "'n_jobs' parameter"),
    ],
)
def test_bad_input_is_refused_before_any_work(X, y, settings, message):
    fitted = model(**settings)
    with pytest.raises(ValueError, match=message):
        fitted.fit(X, y)
    assert not hasattr(fitted, "_network")


def test_bad_calls_of_a_fitted_model(backwards):
    for call, message in (
        (lambda m: m.fit(WORDS, BACKWARDS, X_val=["a"]), "X_val and y_val go together"),
        (lambda m: m.fit(WORDS, BACKWARDS, X_val=["a"], y_val=["a"]), "are for early_stopping=True"),
        (lambda m: m.predict([["a"]]), "X holds sequences of strings, but the model was fitted on texts"),
        (lambda m: m.predict(np.ones((2, 3))), "fitted on texts"),
        (lambda m: m.predict("abc"), "X is one text"),
        (lambda m: m.predict(["a"], lengths=2), "lengths are for targets of measurements"),
        (lambda m: m.score(["a"], ["a", "b"]), "X has 1 samples, but y has 2"),
        (lambda m: m.score(["a"], ["a"], metric="bleu"), "metric must be 'exact_match' or 'token_accuracy'"),
        (lambda m: m.predict_n_best(["a"], 0), "n must be a positive integer"),
        (lambda m: m.predict_n_best(["a"], 1, beam_width=0), "beam_width must be an integer that is at least n = 1"),
        (lambda m: m.set_params(beam_width=0).predict(["a"]), "width must be at least 1"),
        (lambda m: m.partial_fit(["a", 1.5], ["a", "b"]), "sample 1 of X is 1.5"),
        (lambda m: m.predict(["a", np.ones(2)]), "sample 1 of X"),
        (lambda m: m.predict_n_best(["a"], 3, beam_width=2), "beam_width must be an integer that is at least n = 3"),
        (lambda m: m.sample(["a"], temperature=-1), "temperature must be"),
        (lambda m: m.sample(["a"], top_k=0), "top_k must be"),
        (lambda m: m.sample(["a"], top_p=0.0), "top_p must be"),
        (lambda m: m.set_params(early_stopping=True).partial_fit(WORDS, BACKWARDS), "does not support early_stopping"),
    ):
        with pytest.raises(ValueError, match=message):
            call(pickle.loads(pickle.dumps(backwards)))
    before = backwards.predict(WORDS)
    with pytest.raises(ValueError, match="X has 1 samples"):
        backwards.fit(["a"], ["a", "b"])
    assert backwards.predict(WORDS) == before


def test_sources_that_say_nothing_are_read_as_unknown_ones(backwards):
    """An empty source is one unknown token, and one of unknown tokens alone is as good as any other of that length."""
    empty, one, three = backwards.predict(["", "?", "x?y"])
    assert empty == one
    assert [three] == backwards.predict(["???"])
    np.testing.assert_array_equal(backwards.log_likelihood([""], ["a"]), backwards.log_likelihood(["?"], ["a"]))
    assert np.isfinite(backwards.log_likelihood(["a", ""], ["", ""])).all()


def test_targets_longer_than_those_of_the_first_fit():
    fitted = model().fit(["a", "b"], ["ab", "b"])
    assert fitted.partial_fit(["a"], ["abbab"]).max_length_ == 2
    assert all(len(text) <= 2 for text in fitted.predict(["a", "b", "ab"]))
    with pytest.raises(ValueError, match=r"target 0 of y has 5 tokens .* but max_length=2"):
        fitted.set_params(max_length=2).partial_fit(["a"], ["abbab"])


def test_a_vocabulary_is_there_only_where_there_are_tokens():
    fitted = model().fit(np.eye(2), ["a", "b"])
    assert list(fitted.target_vocabulary_) == ["a", "b"]
    with pytest.raises(AttributeError, match="source_vocabulary_ only when it was fitted on tokens"):
        fitted.source_vocabulary_  # noqa: B018
