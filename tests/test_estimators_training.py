"""What both estimators make of the training options: batches, windows, stopping, going on, errors, threads."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from numrnn import RNNClassifier, RNNRegressor
from numrnn.estimators import base
from numrnn.estimators.base import automatic_batch_size

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def data(rng):
    """Forty ragged sequences of two features with a class and a number for each."""
    X = [rng.normal(size=(length, 2)) for length in rng.integers(2, 10, size=40)]
    total = np.array([steps[:, 0].sum() for steps in X])
    return X, np.where(total > 0, "more", "less"), total


def classifier(**parameters):
    return RNNClassifier((5,), **{"max_iter": 4, "random_state": 0, **parameters})


def regressor(**parameters):
    return RNNRegressor((5,), **{"max_iter": 4, "random_state": 0, **parameters})


def parameters_of(model):
    return model._network.parameters.flat.copy()


# --------------------------------------------------------------------------------------------------------- batches
def test_automatic_batch_size():
    sizes = [automatic_batch_size(n) for n in range(1, 5000)]
    assert sizes[:16] == list(range(1, 17))
    assert min(sizes[16:]) == 8
    assert sizes[2499] == 50
    assert sizes[16:] == sorted(sizes[16:])
    assert automatic_batch_size(10**9) == 256


@pytest.mark.parametrize(("batch_size", "expected"), [("auto", 8), (7, 7), (100, 100)])
def test_batch_size_reaches_the_training(data, monkeypatch, batch_size, expected):
    seen = []
    train = base.train
    monkeypatch.setattr(base, "train", lambda *args, **kw: (seen.append(kw["batch_size"]), train(*args, **kw))[1])
    X, y, _ = data
    classifier(batch_size=batch_size).fit(X, y)
    assert seen == [expected]


def test_every_training_parameter_reaches_the_training(data, monkeypatch):
    seen = {}
    train = base.train
    monkeypatch.setattr(base, "train", lambda *args, **kw: (seen.update(kw), train(*args, **kw))[1])
    settings = {
        "solver": "rmsprop",
        "learning_rate": "cosine",
        "learning_rate_init": 0.02,
        "alpha": 0.5,
        "batch_size": 6,
        "max_iter": 2,
        "tol": 0.01,
        "n_iter_no_change": 3,
        "max_grad_norm": 0.7,
        "bptt_steps": 4,
        "shuffle": False,
        "verbose": False,
    }
    regressor(**settings).fit(data[0], data[2])
    assert {key: seen[key] for key in settings} == settings


@pytest.mark.parametrize("solver", ["adam", "adamw", "sgd", "rmsprop", "lbfgs"])
def test_solvers_lower_the_loss(data, solver):
    X, _, total = data
    model = regressor(solver=solver, max_iter=20, learning_rate_init=0.01).fit(X, total)
    assert model.loss_curve_[-1] < 0.8 * model.loss_curve_[0]
    assert model.best_loss_ == min(model.loss_curve_)
    assert 1 <= model.n_iter_ == len(model.loss_curve_)


def test_window_that_covers_the_sequences_changes_nothing(data):
    X, y, _ = data
    whole = parameters_of(classifier(dtype="float64").fit(X, y))
    np.testing.assert_array_equal(parameters_of(classifier(dtype="float64", bptt_steps=9).fit(X, y)), whole)
    assert not np.allclose(parameters_of(classifier(dtype="float64", bptt_steps=2).fit(X, y)), whole)


# --------------------------------------------------------------------------------------------------- repeatability
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_same_seed_same_model_whatever_the_threads(rng, many_threads, n_jobs):
    X = rng.normal(size=(64, 9, 3))
    y = X[:, 0, 0] > 0
    settings = {"max_iter": 3, "bidirectional": True, "dropout": 0.3, "random_state": 5}
    first = RNNClassifier((16, 8), n_jobs=2, **settings).fit(X, y)
    second = RNNClassifier((16, 8), n_jobs=n_jobs, **settings).fit(X, y)
    assert many_threads.most_tasks > 1
    np.testing.assert_array_equal(parameters_of(first), parameters_of(second))
    other = RNNClassifier((16, 8), n_jobs=n_jobs, **{**settings, "random_state": 6}).fit(X, y)
    assert not np.array_equal(parameters_of(first), parameters_of(other))


def test_generator_as_random_state(data):
    X, y, _ = data
    first = classifier(random_state=np.random.RandomState(3)).fit(X, y)
    np.testing.assert_array_equal(parameters_of(first), parameters_of(classifier(random_state=3).fit(X, y)))


# ------------------------------------------------------------------------------------------------------ early stop
@pytest.mark.parametrize("make", [classifier, regressor])
def test_early_stopping_keeps_the_best_epoch(data, make):
    X, y = data[0], data[1] if make is classifier else data[2]
    settings = {"early_stopping": True, "validation_fraction": 0.25, "learning_rate_init": 0.05}
    model = make(max_iter=60, n_iter_no_change=3, **settings).fit(X, y)
    scores = model.validation_scores_
    assert len(scores) == model.n_iter_ < 60
    assert model.best_validation_score_ == max(scores)
    best = int(np.argmax(scores)) + 1
    again = make(max_iter=best, n_iter_no_change=100, **settings).fit(X, y)
    np.testing.assert_array_equal(parameters_of(again), parameters_of(model))


def test_validation_data_is_stratified_and_not_trained_on(rng, monkeypatch):
    seen = {}

    def spy(network, sequences, targets, weights, **kw):
        seen.update(sequences=sequences, targets=targets, validation=kw["validation"])
        return train(network, sequences, targets, weights, **kw)

    train = base.train
    monkeypatch.setattr(base, "train", spy)
    X = np.arange(40.0).reshape(40, 1) / 40
    y = np.arange(40) % 4 == 0
    classifier(early_stopping=True, validation_fraction=0.2).fit(X, y, sample_weight=np.arange(1, 41))
    sequences, targets, weights = seen["validation"]
    assert targets.tolist().count(1) == 2
    assert len(targets) == 8
    trained = {float(steps[0, 0]) for steps in seen["sequences"]}
    validated = [float(steps[0, 0]) for steps in sequences]
    assert trained.isdisjoint(validated)
    assert len(trained) == 32
    np.testing.assert_allclose(weights, np.array(validated) * 40 + 1, rtol=1e-6)


@pytest.mark.parametrize("make", [classifier, regressor])
def test_validation_data_must_be_enough_to_tell(make):
    with pytest.raises(
        ValueError, match=r"(at least 2 samples for early stopping. Got 0.1 of 6|should be greater or eq)"
    ):
        make(early_stopping=True).fit(np.eye(6), np.arange(6) % 2)


def test_without_early_stopping_there_are_no_scores(data):
    model = classifier().fit(data[0], data[1])
    assert model.validation_scores_ is None
    assert model.best_validation_score_ is None


# -------------------------------------------------------------------------------------------------------- going on
def test_warm_start_goes_on(data):
    X, y, _ = data
    twice = classifier(warm_start=True).fit(X, y).fit(X, y)
    assert len(twice.loss_curve_) == 8
    assert twice.n_iter_ == 4
    assert twice.t_ == 8 * 40
    np.testing.assert_array_equal(parameters_of(twice), parameters_of(classifier(max_iter=8).fit(X, y)))
    cold = classifier().fit(X, y).fit(X, y)
    assert len(cold.loss_curve_) == 4


def test_warm_start_after_convergence_trains_again(data):
    X, y, _ = data
    model = classifier(warm_start=True, tol=10.0, n_iter_no_change=2, max_iter=30).fit(X, y)
    epochs = model.n_iter_
    assert 2 < epochs < 30
    assert model.fit(X, y).n_iter_ >= epochs - 1


def test_warm_start_needs_the_same_classes_and_features(data):
    X, y, total = data
    model = classifier(warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="labels that are not among the classes"):
        model.fit(X, np.where(y == "more", "much", "less"))
    with pytest.raises(ValueError, match="X has 1 features, but RNNClassifier is expecting 2"):
        model.fit([steps[:, :1] for steps in X], y)
    numbers = regressor(warm_start=True).fit(X, total)
    with pytest.raises(ValueError, match="y has 2 outputs, but RNNRegressor was first fitted with 1"):
        numbers.fit(X, np.column_stack([total, total]))


def test_partial_fit_is_one_epoch(data):
    X, y, total = data
    model = classifier()
    for _ in range(4):
        model.partial_fit(X, y, classes=["less", "more"])
    np.testing.assert_array_equal(parameters_of(model), parameters_of(classifier().fit(X, y)))
    assert model.n_iter_ == 4
    numbers = regressor()
    for _ in range(4):
        numbers.partial_fit(X, total)
    np.testing.assert_array_equal(numbers.predict(X), regressor().fit(X, total).predict(X))


def test_partial_fit_does_not_warn_of_convergence(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        regressor().partial_fit(data[0], data[2])


def test_partial_fit_of_parts_learns_classes_that_come_later(data):
    X, y, _ = data
    order = np.argsort(y)
    model = classifier(learning_rate_init=0.02)
    for _ in range(10):
        for part in np.array_split(order, 4):
            model.partial_fit([X[i] for i in part], y[part], classes=np.unique(y))
    assert set(model.predict(X)) == {"less", "more"}


def test_partial_fit_errors(data):
    X, y, total = data
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        classifier().partial_fit(X, y)
    with pytest.raises(ValueError, match=r"y contains labels that are not among the classes .*'more'"):
        classifier().partial_fit(X, y, classes=["less", "equal"])
    model = classifier().partial_fit(X, y, classes=["less", "more", "equal"])
    with pytest.raises(ValueError, match="is not the same as in the call before"):
        model.partial_fit(X, y, classes=["less", "more"])
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping"):
        regressor(early_stopping=True).partial_fit(X, total)
    with pytest.raises(ValueError, match="class_weight='balanced' is not supported for partial_fit"):
        classifier(class_weight="balanced").partial_fit(X, y, classes=["less", "more"])
    assert not hasattr(regressor(solver="lbfgs"), "partial_fit")
    assert hasattr(regressor(), "partial_fit")


# -------------------------------------------------------------------------------------------------- things go wrong
def test_interrupted_training_leaves_a_fitted_model(data, monkeypatch):
    X, y, _ = data
    calls = []
    model = classifier()

    def rate(epoch):
        calls.append(epoch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return 0.01

    model.set_params(learning_rate=rate)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    assert [str(w.message) for w in caught] == ["Training interrupted by user."]
    assert model.n_iter_ == 2
    assert model.predict(X).shape == (40,)


def test_loss_that_is_not_finite_keeps_the_last_good_model(data):
    X, _, total = data
    # The rate is harmless for two epochs and then throws the weights out of the range of numbers.
    model = regressor(max_iter=6, learning_rate=lambda epoch: 1e-3 if epoch < 2 else 1e38, solver="sgd")
    with pytest.raises(FloatingPointError, match=r"in epoch [345] .*learning_rate_init"):
        model.fit(X, total)
    assert model.n_iter_ >= 2
    assert np.isfinite(model.predict(X)).all()
    assert np.isfinite(model.loss_curve_).all()


def test_training_that_cannot_begin_leaves_everything_as_it_was(data):
    X, _, total = data

    def rate(epoch):
        raise ArithmeticError("no rate")

    model = regressor().fit(X, total)
    before, predictions = dict(model.__dict__), model.predict(X)
    model.learning_rate = rate
    with pytest.raises(ArithmeticError, match="no rate"):
        model.fit(X, total)
    assert model.__dict__ == {**before, "learning_rate": rate}
    np.testing.assert_array_equal(model.predict(X), predictions)
    unfitted = regressor(learning_rate=rate)
    with pytest.raises(ArithmeticError, match="no rate"):
        unfitted.fit(X, total)
    with pytest.raises(NotFittedError):
        unfitted.predict(X)


def test_progress_bar(data, capsys):
    classifier(verbose=True, early_stopping=True).fit(data[0], data[1])
    shown = capsys.readouterr().err
    for word in ("training", "loss=", "validation=", "samples/s", "4/4"):
        assert word in shown
    classifier().fit(data[0], data[1])
    assert capsys.readouterr().err == ""


def test_a_network_that_diverges_before_its_validation_says_so_and_keeps_the_last_good_weights():
    rng = np.random.RandomState(0)
    X, y = rng.standard_normal((60, 200, 2)), rng.standard_normal(60) * 100
    model = RNNRegressor(
        (8,),
        cell="rnn",
        activation="relu",
        max_iter=5,
        random_state=0,
        learning_rate_init=1.0,
        max_grad_norm=None,
        early_stopping=True,
        batch_size=200,
    )
    with pytest.raises(FloatingPointError, match=r"validation score stopped being finite in epoch \d"):
        model.fit(X, y)
    assert np.isfinite(model.predict(X)).all()


def test_a_warm_start_begins_its_schedule_anew():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((80, 5, 2))
    y = X[:, -1, 0]
    model = RNNRegressor(
        (8,), learning_rate="step", learning_rate_init=0.02, max_iter=30, warm_start=True, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
        model.fit(X, -y)
    # With the last rate of the first fit, 100 times smaller, it could not have turned round.
    assert model.score(X, -y) > 0.8
