"""Make the figures of the pages: ``python docs/figures.py [name ...]`` writes them to docs/images.

Every figure is one function, which uses nothing but the public names of the package, and seeds.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from datetime import date, timedelta
from functools import cache
from itertools import accumulate, permutations
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from numrnn import LSTM, RNN, Convolution, RNNClassifier, RNNRegressor, RNNSeq2Seq, SequenceEncoder, inspection
from numrnn.datasets import make_temporal_order
from numrnn.plots import (
    AttentionDisplay,
    AttentionMapDisplay,
    AttributionDisplay,
    GradientFlowDisplay,
    HiddenStateDisplay,
)

IMAGES = Path(__file__).parent / "images"
SYMBOLS = ["E", "B", "a", "b", "c", "d", "X", "Y"]


@cache
def temporal_order() -> tuple[Any, np.ndarray, np.ndarray]:
    """A classifier that knows in which order X and Y came, and sequences that it has not seen."""
    X, y = make_temporal_order(2000, 30, random_state=0)
    model = RNNClassifier((32,), learning_rate_init=0.01, max_iter=10, tol=0.0, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    return model, *make_temporal_order(500, 30, random_state=1)


def labels(sequence: np.ndarray) -> list[str]:
    """The symbols of a sequence."""
    return [SYMBOLS[code] for code in sequence.argmax(axis=1)]


def gradient_flow() -> Figure:
    """The gradient of the last output, over 200 time steps, in new networks of 32 units."""
    X = np.random.RandomState(0).standard_normal((20, 200, 8))
    d_y = np.zeros((20, 200, 32))
    d_y[:, -1] = np.random.RandomState(1).standard_normal((20, 32)) / np.sqrt(32)
    ax = None
    for name, layer, change in (
        ("RNN", RNN(8, 32, random_state=0), {}),
        ("RNN, weights times 3", RNN(8, 32, random_state=0), {"weight_hh_l0": 3.0}),
        ("LSTM, forget bias 1", LSTM(8, 32, random_state=0), {}),
        ("LSTM, forget bias 5", LSTM(8, 32, random_state=0), {"bias_ih_l0": 5.0}),
    ):
        for parameter, factor in change.items():
            layer.parameters[parameter][...] *= factor
        ax = GradientFlowDisplay.from_estimator(layer, X, d_y, name=name, ax=ax).ax_
    assert ax is not None
    return ax.figure.figure


def hidden_states() -> Figure:
    """What the units remember of one sequence."""
    model, X, _ = temporal_order()
    display = HiddenStateDisplay.from_estimator(
        model, X, sample=1, quantity="cell", labels=labels(X[1]), sort=True, name="cell states of an LSTM"
    )
    return display.figure_


def attention() -> Figure:
    """The words that decide how a sentence is meant."""
    verdicts = {"good": 1, "bad": 0, "not good": 0, "not bad": 1}
    openings = ["the film was", "a film that is", "the ending was", "the cast is"]
    triples = [(start, *pair) for start in openings for pair in permutations(verdicts, 2)]
    classifier = RNNClassifier(
        (16,),
        embedding_dim=8,
        bidirectional=True,
        pooling="attention",
        learning_rate_init=0.02,
        max_iter=40,
        tol=0.0,
        random_state=0,
    )
    model = make_pipeline(SequenceEncoder(), classifier)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(
            [f"{start} {second}, others said {first}" for start, first, second in triples],
            [verdicts[second] for _, _, second in triples],
        )
    words = ["the", "film", "was", "not", "bad", "others", "said", "good"]
    ids = model[:-1].transform([" ".join(words)])
    return AttentionDisplay.from_estimator(classifier, ids, labels=words, name="attention to each word").figure_


def attributions() -> Figure:
    """Which symbols of one sequence speak for its class."""
    model, X, _ = temporal_order()
    shares = inspection.attributions(model, X[1:2], baseline=X.mean(axis=(0, 1)))[0]
    name = "share of every symbol in the score of the class"
    return AttributionDisplay(shares.sum(axis=1), labels=labels(X[1]), name=name).plot().figure_


def tank_level() -> Figure:
    """What a regressor says after every step of a sequence that it has not seen."""
    rng = np.random.default_rng(0)
    inflow = [rng.uniform(size=length) for length in rng.integers(20, 60, size=150)]
    levels = [np.array(list(accumulate(amounts, lambda inside, more: 0.9 * inside + more))) for amounts in inflow]
    model = RNNRegressor((16,), learning_rate_init=0.01, max_iter=60, tol=0.0, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(inflow[:120], levels[:120])
    longest = max(range(120, 150), key=lambda number: len(inflow[number]))
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    ax = figure.subplots()
    steps = np.arange(1, len(inflow[longest]) + 1)
    ax.bar(steps, inflow[longest], color="0.85", label="inflow")
    ax.plot(steps, levels[longest], color="C0", label="level")
    ax.plot(steps, model.predict([inflow[longest]])[0], color="C1", linestyle="--", label="predicted from the inflow")
    ax.set(xlabel="time step", ylabel="amount")
    ax.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def digits() -> Figure:
    """Eight digits, and the pixels that spoke for and against the answers."""
    images, labels = load_digits(return_X_y=True)
    X = images.reshape(-1, 8, 8) / 16
    X_train, X_test, y_train, _ = train_test_split(X, labels, random_state=0)
    model = RNNClassifier(
        (32,),
        bidirectional=True,
        pooling="max",
        convolution=Convolution("2d", filters=16),
        learning_rate_init=0.01,
        max_iter=12,
        tol=0.0,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X_train, y_train)
    shown, answers = X_test[:8], model.predict(X_test[:8])
    shares = inspection.attributions(model, shown)
    figure = Figure(figsize=(9, 2.9), layout="constrained")
    axes = figure.subplots(2, 8)
    limit = float(np.abs(shares).max())
    for column, (image, share, answer) in enumerate(zip(shown, shares, answers, strict=True)):
        axes[0, column].imshow(image, cmap="gray_r", vmin=0, vmax=1)
        axes[0, column].set_title(f"read as {answer}", fontsize=9)
        drawn = axes[1, column].imshow(share, cmap="PuOr", vmin=-limit, vmax=limit)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    axes[0, 0].set_ylabel("image")
    axes[1, 0].set_ylabel("share of the score")
    figure.colorbar(drawn, ax=axes[1].tolist(), label="against      for")
    return figure


def attention_map() -> Figure:
    """Where the decoder looks while it writes a date in the standard form."""
    rng = np.random.RandomState(0)
    first = date(1970, 1, 1)
    days = [first + timedelta(days=int(n)) for n in rng.choice(36_525, 3000, replace=False)]
    forms = ("%d %B %Y", "%B %d, %Y", "%A, %B %d, %Y", "%d.%m.%Y", "%m/%d/%Y", "%a %d %b %Y")
    X = [day.strftime(forms[rng.randint(len(forms))]) for day in days]
    y = [day.isoformat() for day in days]
    model = RNNSeq2Seq(
        (64,),
        analyzer="char",
        embedding_dim=32,
        learning_rate_init=5e-3,
        learning_rate="cosine",
        batch_size=32,
        max_iter=15,
        tol=0.0,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    return AttentionMapDisplay.from_estimator(model, ["Friday, August 13, 2004"]).figure_


FIGURES: dict[str, Callable[[], Figure]] = {
    "attention": attention,
    "attention_map": attention_map,
    "attributions": attributions,
    "digits": digits,
    "gradient_flow": gradient_flow,
    "hidden_states": hidden_states,
    "tank_level": tank_level,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(FIGURES)}; all if none is given")
    names = parser.parse_args().names or list(FIGURES)
    for name in names:
        if name not in FIGURES:
            parser.error(f"there is no figure {name!r}, only {', '.join(FIGURES)}")
    IMAGES.mkdir(exist_ok=True)
    for name in names:
        figure = FIGURES[name]()
        # Without the time and the version of Matplotlib, so that a figure changes only if what it shows does.
        figure.savefig(IMAGES / f"{name}.png", dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    main()
