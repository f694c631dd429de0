"""No argument of the public API, however wrong, gets further than the checks.

A call with it either returns what it returns for a clean copy of the same numbers, or says what is wrong in a
ValueError or TypeError that was raised on purpose. What was given is never changed. With NUMRNN_GUARDED_MEMORY, and in
`test_bounds`, nothing beside an array may be touched besides. ``--hypothesis-profile=deep`` looks further.
"""

from __future__ import annotations

import copy
import json
import warnings

import numpy as np
import pytest
from hostile import anything, check, check_anything, containers
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save as to_bytes
from sklearn.preprocessing import StandardScaler

import numrnn
from numrnn import inspection, metrics, persistence

SAMPLES, STEPS, FEATURES = 4, 3, 2
TINY = {"hidden_layer_sizes": (5,), "max_iter": 1, "random_state": 0, "n_jobs": 1}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(SAMPLES, STEPS, FEATURES)).astype(np.float32)
IDS = RNG.integers(0, 5, size=(SAMPLES, STEPS))
SERIES = np.sin(np.arange(40.0)).reshape(20, 2)
Y = {
    numrnn.RNNClassifier: np.array([0, 1, 1, 2]),
    numrnn.RNNRegressor: RNG.normal(size=SAMPLES),
    numrnn.RNNTagger: RNG.integers(0, 3, size=(SAMPLES, STEPS)),
}
KINDS = list(Y)
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
# Where a value may be missing, what is None is.
MISSING = ("None inside", "nullable frame with a missing value")


def fitted(model, *data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(*data)


def weights(model):
    return model._network.parameters.flat.copy()


FITTED = {kind: fitted(kind(**TINY), X, Y[kind]) for kind in KINDS}
OF_IDS = fitted(numrnn.RNNClassifier(embedding_dim=3, vocabulary_size=6, **TINY), IDS, Y[numrnn.RNNClassifier])
METHODS = {
    numrnn.RNNClassifier: ["predict", "predict_proba", "predict_log_proba", "transform"],
    numrnn.RNNRegressor: ["predict", "transform"],
    numrnn.RNNTagger: ["predict", "predict_proba", "transform"],
}


# --------------------------------------------------------------------------------------- classifier, regressor, tagger
@kinds
@given(data=st.data())
def test_predict(kind, data):
    method = getattr(FITTED[kind], data.draw(st.sampled_from(METHODS[kind])))
    check(method, data.draw(containers(SAMPLES, STEPS, FEATURES)))


@kinds
@given(data=st.data())
def test_fit_X(kind, data):
    method = data.draw(st.sampled_from(["fit", "partial_fit"]))
    given_X = data.draw(containers(SAMPLES, STEPS, FEATURES))
    more = {"classes": [0, 1, 2]} if method == "partial_fit" and kind is not numrnn.RNNRegressor else {}
    if kind is numrnn.RNNTagger and getattr(given_X.value, "dtype", np.dtype(float)).kind in "UO":
        return  # the strings of an array are words

    check(lambda x: weights(getattr(kind(**TINY), method)(x, Y[kind], **more)), given_X)


@kinds
@given(data=st.data())
def test_fit_y(kind, data):
    labels = kind is not numrnn.RNNRegressor
    given_y = data.draw(containers(*Y[kind].shape, low=0, high=2, labels=labels, without=("text inside",) * labels))
    check(lambda y: weights(kind(**TINY).fit(X, y)), given_y)


@given(data=st.data())
def test_sample_weight(data):
    given_weight = data.draw(containers(SAMPLES, low=1, without=("None", "number")))
    kind = numrnn.RNNRegressor
    if np.shape(given_weight.value if isinstance(given_weight.value, np.ndarray) else [0]) != ():
        check(lambda weight: weights(kind(**TINY).fit(X, Y[kind], sample_weight=weight)), given_weight)


@given(data=st.data())
def test_ids(data):
    check(OF_IDS.predict_proba, data.draw(containers(SAMPLES, STEPS, low=0, high=6)))


@given(data=st.data())
def test_embedding_weights(data):
    settings = {**TINY, "embedding_dim": 3, "vocabulary_size": 6}

    def call(table):
        return weights(numrnn.RNNClassifier(embedding_weights=table, **settings).fit(IDS, Y[numrnn.RNNClassifier]))

    # No table is one without special vectors, and a list may be that of one matrix.
    without = ("None", "list of None", "list with None", "nested lists", "ragged lists", "own list")
    check(call, data.draw(containers(6, 3, without=without)))


@given(data=st.data())
def test_streams(data):
    model, n, n_features = data.draw(
        st.sampled_from(
            [(FITTED[numrnn.RNNClassifier], None, 2), (FITTED[numrnn.RNNRegressor], 3, 2), (OF_IDS, None, 1)]
        )
    )
    given_x = data.draw(containers(n_features) if n is None else containers(n, n_features))
    check(lambda x: model.stream(n).update(x), given_x)


@given(data=st.data())
def test_state_of_stream(data):
    compiled = numrnn.GRU(2, 5, random_state=0)
    stream = compiled.stream(2)

    def call(state):
        stream.state = state
        return stream.state

    check(call, data.draw(containers(*stream.state.shape)))


@given(data=st.data())
def test_steps(data):
    scaler = numrnn.PerStep(StandardScaler()).fit(X)
    method = getattr(scaler, data.draw(st.sampled_from(["transform", "inverse_transform"])))
    # A scaler keeps the type, and lets missing values pass.
    check(method, data.draw(containers(SAMPLES, STEPS, FEATURES, without=MISSING)), finite=False, tolerance=1e-3)


# ---------------------------------------------------------------------------------------------------------- layers
@given(data=st.data())
def test_layer(data):
    layer = numrnn.GRU(FEATURES, 5, random_state=0)
    argument = data.draw(st.sampled_from(["x", "state", "step", "gradient"]))
    if argument == "x":
        check(lambda x: layer.forward(x)[0], data.draw(containers(SAMPLES, STEPS, FEATURES)))
    elif argument == "state":
        check(lambda h: layer.forward(X, h)[0], data.draw(containers(1, SAMPLES, 5, without=("None",))))
    elif argument == "step":
        check(lambda x: layer.step(x)[0], data.draw(containers(SAMPLES, FEATURES)))
    else:

        def call(d_y):
            layer.forward(X, training=True)
            return layer.backward(d_y)[0]

        check(call, data.draw(containers(SAMPLES, STEPS, 5)), finite=False)


# ----------------------------------------------------------------------------------------- forecasts and anomalies
FORECASTER = {
    "hidden_layer_sizes": (4,),
    "max_iter": 1,
    "window_length": 4,
    "horizon": 2,
    "random_state": 0,
    "n_jobs": 1,
}
FORECASTS = fitted(numrnn.RNNForecaster(**FORECASTER), SERIES)
WITH_COVARIATES = fitted(numrnn.RNNForecaster(**FORECASTER), SERIES, SERIES)
DETECTOR = {"hidden_layer_sizes": (4,), "max_iter": 1, "window_length": 4, "random_state": 0, "n_jobs": 1}
DETECTS = fitted(numrnn.RNNAnomalyDetector(**DETECTOR), SERIES)


@given(data=st.data())
def test_forecaster(data):
    argument = data.draw(st.sampled_from(["y", "X", "update", "future", "levels"]))
    if argument == "y":
        check(lambda y: numrnn.RNNForecaster(**FORECASTER).fit(y).predict(), data.draw(containers(20, 2, lists=True)))
    elif argument == "X":
        given_X = data.draw(containers(20, 2, without=MISSING))
        check(lambda x: weights(numrnn.RNNForecaster(**FORECASTER).fit(SERIES, x)), given_X)
    elif argument == "update":
        given_y = data.draw(containers(3, 2, lists=True, without=MISSING))
        check(lambda y: copy.deepcopy(FORECASTS).update(y).predict(), given_y)
    elif argument == "future":
        given_X = data.draw(containers(2, 2, without=MISSING))
        check(lambda x: WITH_COVARIATES.predict(X=x), given_X, finite=False)
    else:
        check_anything(lambda levels: FORECASTS.predict_quantiles(levels=levels), data.draw(anything()))


@given(data=st.data())
def test_anomaly_detector(data):
    argument = data.draw(st.sampled_from(["fit", "score_samples", "update"]))
    if argument == "fit":
        call, given_X = lambda x: weights(numrnn.RNNAnomalyDetector(**DETECTOR).fit(x)), data.draw(containers(20, 2))
    elif argument == "score_samples":
        call, given_X = DETECTS.score_samples, data.draw(containers(12, 2))
    else:
        call, given_X = lambda x: copy.deepcopy(DETECTS).update(x), data.draw(containers(3, 2))
    check(call, given_X, finite=False)


# ------------------------------------------------------------------------------------------------- texts and labels
LANGUAGE = {"hidden_layer_sizes": (4,), "max_iter": 1, "batch_size": 2, "bptt_steps": 4, "random_state": 0, "n_jobs": 1}
ONE_TEXT = fitted(numrnn.RNNLanguageModel(**LANGUAGE), "ab ba" * 20)
TEXTS = fitted(numrnn.RNNLanguageModel(**LANGUAGE), ["ab ba"] * 20)
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 1, "random_state": 0, "n_jobs": 1, "max_length": 4, "embedding_dim": 3}
PAIRS = {
    "text": (["ab", "ba", "ab"], ["ba", "ab", "ba"]),
    "ids": (IDS[:3, :2], IDS[:3, 1:]),
    "numbers": (X[:3], X[1:]),
}
TRANSLATES = {form: fitted(numrnn.RNNSeq2Seq(**SMALL), *pair) for form, pair in PAIRS.items()}
OF_WORDS = fitted(numrnn.RNNTagger(**TINY), [["a", "b"], ["b"]], [["X", "Y"], ["Y"]])
ENCODER = numrnn.SequenceEncoder(analyzer="char").fit(["ab ba"])


@given(data=st.data(), argument=anything())
def test_texts(data, argument):
    calls = [
        lambda x: numrnn.SequenceEncoder().fit_transform(x),
        lambda x: numrnn.SequenceEncoder(analyzer="char").fit_transform(x),
        lambda x: numrnn.SequenceEncoder(analyzer="char", vocabulary=x).fit(["ab"]).vocabulary_size_,
        ENCODER.transform,
        ENCODER.inverse_transform,
        lambda x: weights(OF_WORDS.partial_fit(x, [["X", "Y"], ["Y"]])),
    ]
    check_anything(data.draw(st.sampled_from(calls)), argument)


@given(data=st.data(), argument=anything())
def test_language_model(data, argument):
    model = data.draw(st.sampled_from([ONE_TEXT, TEXTS]))
    calls = [
        lambda x: weights(numrnn.RNNLanguageModel(**LANGUAGE).fit(x)),
        model.log_likelihood,
        model.predict_proba,
        model.bits_per_character,
        lambda x: model.generate(x, 3, random_state=0),
        lambda x: model.stream().update(x),
        lambda x: model.stream(2).update(x),
        lambda x: model.generate("ab", 2, temperature=x, random_state=0),
        lambda x: model.generate("ab", 2, top_k=x, random_state=0),
    ]
    check_anything(data.draw(st.sampled_from(calls)), argument)


@given(data=st.data(), argument=anything())
def test_sequence_to_sequence(data, argument):
    form = data.draw(st.sampled_from(sorted(PAIRS)))
    model, (sources, targets) = TRANSLATES[form], PAIRS[form]
    calls = [
        lambda x: weights(numrnn.RNNSeq2Seq(**SMALL).fit(x, targets)),
        lambda y: weights(numrnn.RNNSeq2Seq(**SMALL).fit(sources, y)),
        model.predict,
        model.transform,
        lambda x: model.score(x, targets),
        lambda y: weights(copy.deepcopy(model).partial_fit(sources, y)),
        lambda lengths: TRANSLATES["numbers"].predict(X[:3], lengths=lengths),
    ]
    check_anything(data.draw(st.sampled_from(calls)), argument)


@given(data=st.data(), argument=anything())
def test_metrics(data, argument):
    score = getattr(metrics, data.draw(st.sampled_from(["entity_f1_score", "entity_report", "token_accuracy_score"])))
    tags = [["B-A", "I-A"], ["O"]]
    calls = [lambda y: score(tags, y), lambda y: score(y, tags), lambda y: score(y, y), metrics.iob_entities]
    check_anything(data.draw(st.sampled_from(calls)), argument)


# ----------------------------------------------------------------------------------------------- inspection and plots
@given(data=st.data())
def test_inspection(data):
    classifier = FITTED[numrnn.RNNClassifier]
    layer = numrnn.LSTM(FEATURES, 5, random_state=0)
    calls = [
        lambda x: inspection.hidden_states(layer, x),
        lambda x: inspection.gate_activations(FITTED[numrnn.RNNTagger], x),
        lambda x: inspection.attributions(classifier, x, steps=4, tol=1e9),
        lambda x: inspection.gradient_norms(classifier, x, Y[numrnn.RNNClassifier]),
        lambda x: inspection.unit_importance(classifier, x, Y[numrnn.RNNClassifier]),
    ]
    call = data.draw(st.sampled_from(calls))
    given_X = data.draw(containers(SAMPLES, STEPS, FEATURES))
    if call is not calls[1] or getattr(given_X.value, "dtype", np.dtype(float)).kind not in "UO":
        check(call, given_X, finite=False)


@given(data=st.data(), argument=anything())
def test_arguments_of_inspection(data, argument):
    classifier = FITTED[numrnn.RNNClassifier]
    calls = [
        lambda units: inspection.ablate_units(classifier, units).predict(X),
        lambda value: inspection.ablate_units(classifier, [0], value=value).predict(X),
        lambda target: inspection.attributions(classifier, X, target, method="gradient_x_input"),
        lambda baseline: inspection.attributions(classifier, X, baseline=baseline, steps=4, tol=1e9),
        lambda layer: inspection.hidden_states(classifier, X, layer=layer),
        lambda d_y: inspection.gradient_norms(numrnn.LSTM(FEATURES, 5, random_state=0), X, d_y),
    ]
    check_anything(data.draw(st.sampled_from(calls)), argument)


@given(data=st.data(), argument=anything())
def test_plots(data, argument):
    pytest.importorskip("matplotlib")
    from numrnn import plots

    calls = [
        plots.TrainingCurveDisplay,
        plots.AttentionDisplay,
        plots.AttentionMapDisplay,
        plots.AttributionDisplay,
        plots.HiddenStateDisplay,
        plots.ResidualsDisplay,
        plots.GradientFlowDisplay,
        lambda x: plots.AnomalyScoresDisplay(x, [0.0, 1.0]),
        lambda x: plots.AnomalyScoresDisplay([0.0, 1.0], [0.0, 1.0], truth=x),
        lambda x: plots.ForecastDisplay(x, [0.0, 1.0]),
        lambda x: plots.ForecastDisplay(None, [0.0, 1.0], intervals={0.9: (x, x)}),
        lambda x: plots.ForecastDisplay(None, [0.0, 1.0], history=x),
        lambda x: plots.ErrorPerHorizonDisplay({"a": x}),
    ]
    check_anything(data.draw(st.sampled_from(calls)), argument)


# --------------------------------------------------------------------------------------------------------- model files
MODELS = {
    "classifier": (FITTED[numrnn.RNNClassifier], lambda model: model.predict(X)),
    "regressor": (FITTED[numrnn.RNNRegressor], lambda model: model.stream().update(X[0, 0])),
    "tagger": (FITTED[numrnn.RNNTagger], lambda model: model.predict(X)),
    "ids": (OF_IDS, lambda model: model.predict(IDS)),
    "language model": (ONE_TEXT, lambda model: model.generate("a", 3, random_state=0)),
    "sequences to sequences": (TRANSLATES["text"], lambda model: model.predict(["ab"])),
    "numbers to numbers": (TRANSLATES["numbers"], lambda model: model.predict(X)),
    "forecaster": (FORECASTS, lambda model: model.predict()),
    "detector": (DETECTS, lambda model: model.score_samples(SERIES)),
}
VALUES = [None, 0, 1, -1, 2, 7, 1000, 2**70, 1.5, float("nan"), "", "lstm", True, [], [1, 2, 3], {}, {"tuple": [1]}]
VALUES += [{"array": [1], "dtype": "<i8"}, {"array": 1, "dtype": "V99"}, {"tensor": "weight_out"}, [[0, 6, 3]]]


def places_in(tree, place=()):
    if place:
        yield place
    for key, branch in (
        tree.items() if isinstance(tree, dict) else enumerate(tree[:6]) if isinstance(tree, list) else ()
    ):
        yield from places_in(branch, (*place, key))


@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
def test_forged_files(name, data, tmp_path_factory):
    """Whoever forges a file, checksum included, gets an error or a model that stays within its arrays."""
    model, use = MODELS[name]
    path = tmp_path_factory.mktemp("forged") / "model"
    model.save(path)
    with safe_open(path, framework="numpy") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    description = json.loads(metadata["model"])
    if data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(tensors)))
        tensor = tensors[key]
        other = [tensor[:0], tensor.reshape(-1), tensor.astype("f8"), np.concatenate([tensor, tensor]), tensor.T]
        tensors[key] = np.ascontiguousarray(data.draw(st.sampled_from(range(len(other))).map(other.__getitem__)))
    else:
        *parents, last = data.draw(st.sampled_from(list(places_in(description))))
        branch = description
        for key in parents:
            branch = branch[key]
        branch[last] = data.draw(st.sampled_from(VALUES))
    metadata["model"] = json.dumps(description)
    metadata["checksum"] = persistence._checksum(metadata, tensors)
    path.write_bytes(to_bytes(tensors, metadata))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            forged = numrnn.load(path)
        except numrnn.ModelFileError:
            return
        with pytest.MonkeyPatch.context() as patch:  # so many processors are not there
            patch.setattr(forged, "n_jobs", 1)
            try:
                use(forged)
            except Exception as error:
                assert not isinstance(error, (MemoryError, SystemError)), error


@pytest.mark.parametrize("name", MODELS)
def test_files_that_are_not_forged(name, tmp_path):
    model, use = MODELS[name]
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(np.asarray(use(numrnn.load(tmp_path / "model"))), np.asarray(use(model)))
