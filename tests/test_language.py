"""Language models: what they learn, how they judge texts, how they write them."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from numba import njit
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import numrnn
from numrnn import RNNLanguageModel
from numrnn.language.symbols import Splitter, Vocabulary
from numrnn.network import Network
from numrnn.packing import Sequences

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RHYME = "peter piper picked a peck of pickled peppers. "
NAMES = ["anna", "hanna", "johanna", "susanna", "joanna"] * 20


@pytest.fixture(scope="module")
def rhyme():
    model = RNNLanguageModel((24,), batch_size=4, bptt_steps=20, max_iter=30, tol=0.0, learning_rate_init=0.02)
    return model.set_params(random_state=0).fit(RHYME * 30)


@pytest.fixture(scope="module")
def names():
    model = RNNLanguageModel((24,), cell="gru", batch_size=4, bptt_steps=25, max_iter=30, tol=0.0)
    return model.set_params(learning_rate_init=0.02, random_state=0).fit(NAMES)


def by_hand(model, ids):
    """Logits of every step, from the equations in NumPy."""
    p = {name: np.asarray(array, dtype=np.float64) for name, array in model._network.parameters.items()}
    h = c = np.zeros(p["weight_hh_l0"].shape[1])
    logits = []
    for number in ids:
        z = p["weight_ih_l0"] @ p["embedding_0"][number] + p["bias_ih_l0"] + p["weight_hh_l0"] @ h + p["bias_hh_l0"]
        i, f, g, o = np.split(z, 4)
        i, f, o = (1 / (1 + np.exp(-v)) for v in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        logits.append(p["weight_out"] @ h + p["bias_out"])
    return np.array(logits)


def test_it_learns_a_text_by_heart(rhyme):
    assert rhyme.symbols_[0] == ""
    assert set(rhyme.symbols_[1:]) == set(RHYME)
    assert rhyme.generate("peter p", 39, temperature=0) == RHYME[7:46]
    assert rhyme.perplexity(RHYME * 2) < 1.2
    assert rhyme.loss_curve_[-1] < 0.5 < rhyme.loss_curve_[0]


def test_judgement_is_that_of_the_equations(rhyme):
    text = "a pickled peter"
    ids = [rhyme._vocabulary._numbers[symbol] for symbol in text]
    logits = by_hand(rhyme, ids)
    logits[:, 0] = -np.inf  # never seen
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = log_p[np.arange(len(ids) - 1), ids[1:]]
    assert rhyme.log_likelihood(text)[0] == pytest.approx(expected.sum(), rel=1e-4)
    assert rhyme.score(text) == pytest.approx(expected.mean(), rel=1e-4)
    assert rhyme.bits_per_character(text) == pytest.approx(-expected.sum() / math.log(2) / len(text), rel=1e-4)
    np.testing.assert_allclose(rhyme.predict_proba([text])[0], np.exp(log_p[-1]), atol=1e-5)


def test_several_texts_are_each_judged_alone(names):
    together = names.log_likelihood(["anna", "susanna", "hanna"])
    for name, value in zip(["anna", "susanna", "hanna"], together, strict=True):
        assert names.log_likelihood([name])[0] == value
    assert names.log_likelihood(["xanna"[1:]])[0] > names.log_likelihood(["annna"])[0]
    assert names.set_params(n_jobs=1).log_likelihood(["anna", "susanna", "hanna"]).tolist() == together.tolist()


def test_probabilities_of_what_may_follow_are_those_of_the_log_likelihood(names):
    texts, total = ["", "a", "an", "ann", "anna"], 0.0
    following = [*"anna", ""]
    for probabilities, symbol in zip(names.predict_proba(texts), following, strict=True):
        place = names._vocabulary._numbers[symbol] if symbol else len(names.symbols_) - 1
        assert probabilities.sum() == pytest.approx(1)
        total += math.log(probabilities[place])
    assert names.log_likelihood(["anna"])[0] == pytest.approx(total, rel=1e-6)


def test_a_model_of_several_texts_begins_and_ends_by_itself(names):
    made = [names.generate(random_state=seed, length=50, temperature=0.5) for seed in range(20)]
    assert len(set(made) & set(NAMES)) >= 2
    assert all(len(name) < 50 for name in made)


# --------------------------------------------------------------------------------------------------------- generation
def test_the_same_seed_writes_the_same_whatever_the_pieces(rhyme):
    text = rhyme.generate("pick", 150, random_state=3, temperature=4.0)
    assert len(text) == 150
    assert text == rhyme.generate("pick", 150, random_state=3, temperature=4.0)
    assert text != rhyme.generate("pick", 150, random_state=4, temperature=4.0)
    for at_a_time in (1, 7, 64):
        pieces = rhyme.iterate("pick", 150, random_state=3, temperature=4.0, at_a_time=at_a_time)
        assert "".join(pieces) == text
    endless = rhyme.iterate("pick", random_state=3, temperature=4.0)
    assert "".join(next(endless) for _ in range(150)) == text


@pytest.mark.parametrize("stop", [".", "pepp", "piper picked a peck of pickled peppers", "never"])
def test_a_stop_is_found_across_pieces_and_not_written(rhyme, stop):
    whole = rhyme.generate("peter ", 120, temperature=0)
    expected = whole[: whole.find(stop)] if stop in whole else whole
    assert rhyme.generate("peter ", 120, temperature=0, stop=stop) == expected
    for at_a_time in (1, 3):
        pieces = list(rhyme.iterate("peter ", 120, temperature=0, stop=stop, at_a_time=at_a_time))
        assert "".join(pieces) == expected


def test_few_candidates(rhyme):
    greedy = rhyme.generate("peter", 60, temperature=0)
    assert rhyme.generate("peter", 60, top_k=1, random_state=0) == greedy
    assert rhyme.generate("peter", 60, top_p=1e-9, random_state=0, temperature=3.0) == greedy
    wild = rhyme.generate("peter", 60, random_state=0, temperature=3.0)
    assert wild != greedy
    assert set(wild) <= set(RHYME)


def test_an_empty_prompt_of_a_single_text_begins_by_frequency(rhyme):
    first = [rhyme.generate("", 1, random_state=seed) for seed in range(60)]
    assert set(first) <= set(RHYME)
    assert len(set(first)) > 5
    assert rhyme.generate("", 0) == ""
    text = rhyme.generate("", 10, random_state=1)
    assert len(text) == 10
    assert text == "".join(rhyme.iterate("", 10, random_state=1))


# ------------------------------------------------------------------------------------------------------------ symbols
def test_words_are_the_text_again():
    text = "To be, or not to be:\nthat  is the question -- 'tis!"
    assert "".join(Splitter("word")(text)) == text
    assert Splitter("word")("Don't stop.") == ["Don", "'", "t", " stop", "."]
    model = RNNLanguageModel((16,), analyzer="word", batch_size=2, bptt_steps=10, max_iter=25, tol=0.0, random_state=0)
    model.set_params(learning_rate_init=0.02).fit(RHYME * 20)
    assert " peck" in model.symbols_
    assert model.generate("peter piper picked", 3, temperature=0) == " a peck of"


def test_sequences_of_any_symbols():
    model = RNNLanguageModel((8,), batch_size=2, bptt_steps=10, max_iter=3, tol=0.0, random_state=0)
    model.fit([["GT", "AG", "CC"], ["GT", "CC"]] * 10)
    assert set(model.symbols_) == {"", "GT", "AG", "CC"}
    assert model.log_likelihood([["GT", "CC"]]).shape == (1,)
    model.fit([[3, 1, 2], [3, 2]] * 10)
    assert set(model.generate([3], 20, random_state=0)) <= {1, 2, 3}


@pytest.mark.parametrize("known", [["a", "é", "\U0001f600", "\ud800", "ab"], ["\0", "\U0010ffff"], []])
def test_characters_of_a_text_have_the_numbers_of_its_symbols(known):
    vocabulary = Vocabulary([None, *known], several=False, knows_unknown=True, split=Splitter("char"))
    text = "aé\U0001f600\ud800zb\0\U0010ffffa"
    expected = [known.index(symbol) + 1 if symbol in known else 0 for symbol in text]
    ids = vocabulary.ids_of(text)
    assert ids.tolist() == expected == vocabulary.ids_of(list(text)).tolist()
    assert ids.dtype == np.int64
    assert vocabulary.ids_of("").tolist() == []


def test_unknown_symbols():
    model = RNNLanguageModel((8,), batch_size=2, max_iter=2, tol=0.0, random_state=0).fit(RHYME * 5)
    for method in (model.log_likelihood, model.score, model.generate, model.predict_proba):
        with pytest.raises(ValueError, match="symbol 2 of the text, 'Z', is not one of the"):
            method("peZer")
    model = RNNLanguageModel((8,), batch_size=2, max_iter=2, tol=0.0, max_features=5, random_state=0).fit(RHYME * 5)
    assert len(model.symbols_) == 6
    assert np.isfinite(model.log_likelihood("peZer")).all()


# ----------------------------------------------------------------------------------------------------------- training
def test_state_flows_from_window_to_window():
    """With a learning rate of nothing, the windows' losses are those of the whole streams."""
    options = {"batch_size": 4, "bptt_steps": 7, "max_iter": 1, "solver": "sgd", "learning_rate_init": 1e-30}
    model = RNNLanguageModel((6, 5), tol=0.0, random_state=0, **options).fit(RHYME * 5)
    ids = np.array([model._vocabulary._numbers[symbol] for symbol in RHYME * 5])
    n_steps = (len(ids) - 1) // 4
    x = ids[: 4 * n_steps].reshape(4, n_steps, 1).astype(np.float32)
    targets = ids[1 : 4 * n_steps + 1]
    whole = model._network.loss(Sequences.from_padded(x), targets)
    assert model.loss_curve_ == pytest.approx([whole], rel=1e-5)
    cut = [
        model._network.loss(Sequences.from_padded(x[:, t : t + 7]), targets.reshape(4, -1)[:, t : t + 7].ravel())
        for t in range(0, n_steps, 7)
    ]
    assert abs(np.mean(cut) - whole) > 1e-4


def test_windows_with_their_states_have_the_gradient_of_truncated_backpropagation():
    network = Network(cell="gru", input_size=2, hidden_sizes=(5, 3), n_outputs=4, pooling=None, dtype="float64")
    network.initialize(np.random.RandomState(0))
    rng = np.random.default_rng(0)
    x, targets = rng.normal(size=(3, 11, 2)), rng.integers(0, 4, (3, 11))
    at_once = network.loss_and_gradient(Sequences.from_padded(x), targets.ravel(), bptt_steps=4)
    expected, gradient, total, state = network.gradient.flat.copy(), 0.0, 0.0, None
    for begin in range(0, 11, 4):
        window, own = x[:, begin : begin + 4], targets[:, begin : begin + 4]
        share = own.size / targets.size
        total += share * network.loss_and_gradient(Sequences.from_padded(window), own.ravel(), state=state)
        gradient = gradient + share * network.gradient.flat
        state = network.final_state
    assert total == pytest.approx(at_once, rel=1e-12)
    np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-14)
    with pytest.raises(ValueError, match="a state is for a batch that is one window"):
        network.loss_and_gradient(Sequences.from_padded(x), targets.ravel(), bptt_steps=4, state=state)


def test_early_stopping_keeps_the_best_epoch():
    model = RNNLanguageModel((64,), batch_size=2, bptt_steps=20, max_iter=40, learning_rate_init=0.05, tol=0.0)
    model.set_params(early_stopping=True, validation_fraction=0.3, n_iter_no_change=3, random_state=0)
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("abcdef"), 600))
    model.fit(text)
    assert len(model.validation_scores_) == model.n_iter_ < 40
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert model.score(text[420:]) == pytest.approx(model.best_validation_score_, abs=0.02)


@pytest.mark.parametrize("options", [{}, {"dropout": 0.3, "hidden_layer_sizes": (8, 8), "input_dropout": 0.1}])
def test_results_repeat_and_do_not_depend_on_threads(options):
    options = {"batch_size": 4, "bptt_steps": 20, "max_iter": 2, "tol": 0.0, "random_state": 5, **options}
    one = RNNLanguageModel(n_jobs=1, **options).fit(RHYME * 10)
    two = RNNLanguageModel(n_jobs=2, **options).fit(RHYME * 10)
    np.testing.assert_array_equal(one._network.parameters.flat, two._network.parameters.flat)
    assert one.generate("peter", 30, random_state=0) == two.generate("peter", 30, random_state=0)


def test_two_partial_fits_are_two_epochs():
    options = {"hidden_layer_sizes": (8,), "batch_size": 4, "bptt_steps": 20, "tol": 0.0, "random_state": 1}
    twice = RNNLanguageModel(**options)
    for _ in range(2):
        twice.partial_fit(RHYME * 10)
    at_once = RNNLanguageModel(max_iter=2, **options).fit(RHYME * 10)
    np.testing.assert_array_equal(twice._network.parameters.flat, at_once._network.parameters.flat)
    copy = pickle.loads(pickle.dumps(twice)).partial_fit(RHYME * 10)
    twice.partial_fit(RHYME * 10)
    np.testing.assert_array_equal(twice._network.parameters.flat, copy._network.parameters.flat)


@pytest.mark.parametrize("X", [RHYME * 10, NAMES])
@pytest.mark.parametrize("options", [{}, {"dropout": 0.2, "hidden_layer_sizes": (8, 8), "solver": "adamw"}])
def test_training_goes_on_from_a_file_bit_for_bit(tmp_path, X, options):
    options = {"batch_size": 4, "bptt_steps": 20, "tol": 0.0, "learning_rate": "cosine", "max_iter": 4, **options}
    model = RNNLanguageModel(random_state=3, **options)
    model.partial_fit(X).partial_fit(X).save(tmp_path / "model")
    model.partial_fit(X).partial_fit(X)
    read = numrnn.load(tmp_path / "model")
    assert read.loss_curve_ == model.loss_curve_[:2]
    assert read.get_params() == model.get_params()
    read.partial_fit(X).partial_fit(X)
    np.testing.assert_array_equal(read._network.parameters.flat, model._network.parameters.flat)
    assert read.loss_curve_ == model.loss_curve_
    assert read.generate(length=20, random_state=0) == model.generate(length=20, random_state=0)


def test_a_file_holds_the_whole_model(tmp_path, names):
    names.save(tmp_path / "names")
    read = numrnn.load(tmp_path / "names")
    assert read.symbols_ == names.symbols_
    assert read.log_likelihood(["anna", "johanna"]).tolist() == names.log_likelihood(["anna", "johanna"]).tolist()
    with pytest.raises(ValueError, match="'z', is not one of the"):
        read.generate("z")
    content = bytearray((tmp_path / "names").read_bytes())
    content[-1] ^= 1
    (tmp_path / "names").write_bytes(content)
    with pytest.raises(numrnn.ModelFileError, match="checksum"):
        numrnn.load(tmp_path / "names")
    with pytest.raises(NotFittedError):
        RNNLanguageModel().save(tmp_path / "nothing")


def test_a_warm_start_goes_on():
    model = RNNLanguageModel((8,), batch_size=4, bptt_steps=20, max_iter=2, tol=0.0, warm_start=True, random_state=0)
    first = model.fit(RHYME * 10).loss_curve_[-1]
    assert model.fit(RHYME * 10).loss_curve_[-1] < first
    assert len(model.loss_curve_) == 4
    with pytest.raises(ValueError, match="'X', is not one of the"):
        model.fit("Xaver")
    with pytest.raises(ValueError, match="fitted on a single text"):
        model.fit(["peter", "piper"])


def test_texts_shorter_than_a_window_and_two_symbols():
    model = RNNLanguageModel((4,), max_iter=2, tol=0.0, random_state=0).fit("ab")
    assert model.generate("a", 3, temperature=0)
    RNNLanguageModel((4,), max_iter=2, tol=0.0, random_state=0).fit(["a"])


# ---------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ("", ValueError, "no token|at least 2 symbols"),
        ("a", ValueError, "at least 2 symbols to learn from, got 1"),
        ([], ValueError, "at least one text, got an empty list"),
        (b"ab", TypeError, "X is bytes; decode them"),
        (7, TypeError, r"X is 7 \(int\); expected a text or a list of texts"),
    ],
)
def test_texts_that_teach_nothing(X, error, message):
    with pytest.raises(error, match=message):
        RNNLanguageModel().fit(X)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": -1}, "temperature must be a finite number of at least 0, got -1"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"top_k": 0}, "top_k must be a positive integer or None, got 0"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1"),
        ({"length": -1}, "length must be a whole number"),
        ({"length": 2.5}, "length must be a whole number"),
        ({"stop": ""}, "stop must be a string of at least one character"),
    ],
)
def test_arguments_of_generate(rhyme, arguments, message):
    with pytest.raises(ValueError, match=message):
        rhyme.generate("peter", **arguments)


def test_bad_parameters_and_unfitted_models(rhyme):
    for parameters, message in (
        ({"cell": "elman"}, "'cell' parameter"),
        ({"hidden_layer_sizes": (0,)}, "hidden_layer_sizes"),
        ({"bptt_steps": 0}, "'bptt_steps' parameter"),
        ({"solver": "lbfgs"}, "'solver' parameter"),
        ({"n_jobs": 0}, "'n_jobs' parameter"),
    ):
        with pytest.raises(ValueError, match=message):
            RNNLanguageModel(**parameters).fit(RHYME)
    with pytest.raises(NotFittedError):
        RNNLanguageModel().generate("a")
    with pytest.raises(NotFittedError):
        clone(rhyme).score("peter")
    with pytest.raises(ValueError, match="text 0 has 1 symbols"):
        rhyme.score("p")
    with pytest.raises(TypeError, match="bits_per_character counts characters"):
        rhyme.bits_per_character([["p", "e"]])
    with pytest.raises(ValueError, match="early stopping needs text to train on"):
        RNNLanguageModel(early_stopping=True).fit("ab")


# --------------------------------------------------------------------------------------------------- symbol by symbol
def test_a_stream_of_symbols_predicts_for_the_text_so_far(rhyme, names):
    for model, text in ((rhyme, "a peck of"), (names, "johanna")):
        stream = model.stream()
        for t, symbol in enumerate(text):
            np.testing.assert_allclose(stream.update(symbol), model.predict_proba([text[: t + 1]])[0], rtol=1e-12)
        kept = stream.state
        after = stream.update("p" if model is rhyme else "n")
        stream.reset()
        np.testing.assert_allclose(stream.update(text[0]), model.predict_proba([text[:1]])[0], rtol=1e-12)
        stream.state = kept
        np.testing.assert_array_equal(stream.update("p" if model is rhyme else "n"), after)
    several = names.stream(n_streams=2)
    several.update(["a", "h"])
    np.testing.assert_allclose(several.update("na"), names.predict_proba(["an", "ha"]), rtol=1e-12)


def test_what_a_stream_of_symbols_refuses(rhyme):
    stream = rhyme.stream()
    stream.update("p")
    kept = stream.state
    with pytest.raises(ValueError, match="'Z', is not one of the"):
        stream.update("Z")
    with pytest.raises(ValueError, match="a symbol for each of 2 streams, got 3"):
        rhyme.stream(2).update("pip")
    with pytest.raises(ValueError, match="state must have the shape"):
        stream.state = kept[:-1]
    with pytest.raises(ValueError, match="state must have the shape"):
        stream.state = RNNLanguageModel((5,), max_iter=1, tol=0.0).fit(RHYME).stream().state
    np.testing.assert_array_equal(stream.state, kept)
    with pytest.raises(NotFittedError):
        RNNLanguageModel().stream()


def test_a_compiled_model_writes_in_the_loop_of_its_user(rhyme):
    compiled = rhyme.compile()
    step, parameters = compiled.step, compiled.parameters

    @njit
    def write(parameters, state, first, n):
        x, p, ids = np.full(1, float(first)), np.empty(len(parameters.units[0])), np.empty(n, dtype=np.int64)
        for t in range(n):
            step(parameters, state, x, p)
            x[0] = ids[t] = p.argmax()
        return ids

    ids = write(parameters, compiled.initial_state(), rhyme.symbols_.index("p"), 30)
    assert "".join(rhyme.symbols_[i] for i in ids) == rhyme.generate("p", 30, temperature=0)
