"""What bfloat16 gains and loses, as weights of steps and in products: ``python -m benchmarks.bfloat16``.

Times are those of one step of a stream of one sequence, called from compiled code. The loss is that of trained
networks on data they have not seen, each judged twice, with the weights that training has found and with these rounded
to bfloat16: digits and Beijing PM2.5, which come with the packages, and the characters of tiny Shakespeare. Trainings
are those of the same networks, each once with products in float32 and once with ``matmul_precision="bfloat16"``: how
well they do then, and how long it took.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import numrnn
from benchmarks.experiments.data import DataNotFound, data_folder
from benchmarks.experiments.language.characters import NETWORKS, read_text
from benchmarks.pages import with_table
from benchmarks.peers.timing import Contestant, compare
from benchmarks.suite.machine import describe
from benchmarks.suite.workloads import CELLS, Size, data_set, make_layer

__all__ = [
    "RESULT",
    "SIZES",
    "characters",
    "digits",
    "losses",
    "main",
    "outputs_of",
    "pollution",
    "row_of",
    "step_times",
    "table_of_losses",
    "table_of_times",
    "table_of_trainings",
    "trainings",
]

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "bfloat16.json"
PAGE = ROOT / "docs" / "guide.md"

SIZES = tuple(Size(1, 1, *numbers) for numbers in ((16, 32), (64, 64), (128, 128), (256, 256), (512, 512)))
WEIGHTS = ("float32", "bfloat16")
# A network, by what it is judged, how well it does with weights of each type, and how far its predictions moved.
Found = tuple[str, str, list[float], float]
# So many steps take about a millisecond, whatever the size.
_MULTIPLY_ADDS = 3e7


# --------------------------------------------------------------------------------------------------------------- times
@cache
def _walk(step: Any) -> Any:
    @njit
    def walk(parameters, state, x, out, n_steps):  # type: ignore[no-untyped-def]
        for t in range(n_steps):
            step(parameters, state, x[t % len(x)], out)

    return walk


def _contestant(name: str, compiled: Any, n_steps: int) -> Contestant:
    x = np.random.default_rng(0).normal(size=(64, compiled.n_features)).astype(np.float32)
    walk, arguments = _walk(compiled.step), (compiled.parameters, compiled.initial_state(), x)
    out = np.empty(compiled.n_outputs, dtype=np.float32)
    return Contestant(name, lambda: walk(*arguments, out, n_steps))


def step_times(
    cells: Sequence[str] = ("lstm",), sizes: Sequence[Size] = SIZES, *, rounds: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """Microseconds of a step with weights of each type, which take turns."""
    for cell in cells:
        for size in sizes:
            layer = make_layer(cell, size, n_jobs=1)
            depth = size.input_size + size.hidden_size
            n_steps = max(1, int(_MULTIPLY_ADDS / (4 * size.hidden_size * depth)))
            field = [_contestant(w, layer.compile(None if w == "float32" else w), n_steps) for w in WEIGHTS]
            times = {name: 1e3 * t / n_steps for name, t in compare(field, rounds=rounds, seconds=seconds).items()}
            yield {
                "cell": cell,
                "inputs": size.input_size,
                "units": size.hidden_size,
                **{f"{name}_us": time for name, time in times.items()},
                "ratio": times["float32"] / times["bfloat16"],
            }


def table_of_times(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of `step_times` in Markdown."""
    lines = ["| cell, inputs, units | float32 | bfloat16 | float32 / bfloat16 |", "|---|---:|---:|---:|"]
    for row in rows:
        name = f"{row['cell'].upper()} {row['inputs']}, {row['units']}"
        lines.append(f"| {name} | {row['float32_us']:.2f} µs | {row['bfloat16_us']:.2f} µs | {row['ratio']:.2f} |")
    return "\n".join(lines)


# -------------------------------------------------------------------------------------------------------------- losses
@cache
def _predict_all(predict: Any) -> Any:
    @njit
    def predict_all(parameters, X, out):  # type: ignore[no-untyped-def]
        for n in range(len(X)):
            predict(parameters, X[n], out[n])

    return predict_all


def outputs_of(compiled: Any, X: NDArray) -> NDArray[np.float64]:
    """The last outputs (n_samples, n_outputs) of sequences of one length (n_samples, n_timesteps, n_features)."""
    out = np.empty((len(X), compiled.n_outputs))
    _predict_all(compiled.predict)(compiled.parameters, X, out)
    return out


@cache
def _surprises(step: Any) -> Any:
    @njit
    def surprises(parameters, state, ids, out, nats):  # type: ignore[no-untyped-def]
        x = np.empty(1)
        for t in range(len(nats)):
            x[0] = ids[t]
            step(parameters, state, x, out)
            nats[t] = -math.log(out[ids[t + 1]])

    return surprises


def _split_digits() -> list[NDArray]:
    X, y = data_set("digits")
    return train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)


def _digits_network(cell: str, quick: bool, **options: Any) -> Any:
    return numrnn.RNNClassifier((128,), cell=cell, max_iter=1 if quick else 60, **{"random_state": 0, **options})


def digits(quick: bool) -> Iterator[Found]:
    """Classes of 8 by 8 pixels, read row by row; a third of them held out."""
    X, X_test, y, y_test = _split_digits()
    for cell in CELLS:
        model = _digits_network(cell, quick).fit(X, y)
        both = [outputs_of(model.compile(weights), X_test) for weights in (None, "bfloat16")]
        changed = float((both[0].argmax(axis=1) != both[1].argmax(axis=1)).mean())
        name = f"digits, {cell.upper()} 128"
        yield name, "accuracy", [accuracy_score(y_test, model.classes_[p.argmax(axis=1)]) for p in both], changed
        yield name, "log loss", [log_loss(y_test, p, labels=model.classes_) for p in both], changed


def _pollution_network(cell: str, quick: bool, **options: Any) -> Any:
    network = numrnn.RNNRegressor(
        (128,), cell=cell, loss="absolute_error", batch_size=256, learning_rate="cosine", learning_rate_init=2e-3,
        max_iter=1 if quick else 8, tol=0.0, **{"random_state": 0, **options},
    )  # fmt: skip
    return make_pipeline(numrnn.PerStep(StandardScaler()), network)


def pollution(quick: bool) -> Iterator[Found]:
    """The next hour of Beijing PM2.5 after 24 hours, trained on 2010 to 2013, tested on 2014."""
    train, test = (numrnn.datasets.load_beijing_pm25(subset=subset) for subset in ("train", "test"))
    few = slice(500) if quick else slice(None)
    for cell in CELLS:
        model = _pollution_network(cell, quick).fit(train.data[few], train.target[few])
        both = [
            outputs_of(numrnn.compile_pipeline(model, weights), test.data.astype(np.float32))[:, 0]
            for weights in (None, "bfloat16")
        ]
        errors = [mean_absolute_error(test.target, predicted) for predicted in both]
        yield f"PM2.5, next hour, {cell.upper()} 128", "MAE, µg/m³", errors, float(np.abs(both[0] - both[1]).mean())


def _character_network(units: tuple[int, ...], dropout: float, epochs: int, **options: Any) -> Any:
    return numrnn.RNNLanguageModel(
        units, embedding_dim=64, dropout=dropout, batch_size=64, bptt_steps=100, learning_rate_init=2e-3,
        max_grad_norm=5.0, max_iter=epochs, tol=0.0, **{"random_state": 0, **options},
    )  # fmt: skip


def characters(data: Path, quick: bool) -> Iterator[Found]:
    """The last tenth of tiny Shakespeare, read as one text."""
    training, held_out = read_text(data, quick)
    for units, dropout, epochs in NETWORKS.values():
        model = _character_network(units, dropout, 1 if quick else epochs).fit(training)
        numbers = {symbol: number for number, symbol in enumerate(model.symbols_)}
        ids = np.array([numbers[symbol] for symbol in held_out if symbol in numbers])
        nats = []
        for weights in (None, "bfloat16"):
            compiled = model.compile(weights)
            found = np.empty(len(ids) - 1)
            out = np.empty(compiled.n_outputs)
            _surprises(compiled.step)(compiled.parameters, compiled.initial_state(), ids, out, found)
            nats.append(found)
        name = f"tiny Shakespeare, LSTM {' + '.join(map(str, units))}"
        yield name, "nats a character", [float(n.mean()) for n in nats], float(np.abs(nats[0] - nats[1]).mean())


def row_of(network: str, measure: str, both: list[float], moved: float) -> dict[str, Any]:
    """How well one network does with weights of each type.

    `moved` is the mean absolute difference of predictions (nats of one character, µg/m³), of digits the share of
    predicted classes that are other ones.
    """
    return {"network": network, "measure": measure, **dict(zip(WEIGHTS, both, strict=True)), "moved": moved}


def losses(data: Path, *, quick: bool = False) -> Iterator[dict[str, Any]]:
    """A `row_of` every network and measure."""
    for found in (digits(quick), pollution(quick), characters(data, quick)):
        for each in found:
            yield row_of(*each)


def table_of_losses(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of `losses` in Markdown."""
    lines = ["| network | measure | float32 | bfloat16 | moved |", "|---|---|---:|---:|---:|"]
    for row in rows:
        numbers = f"{row['float32']:.4f} | {row['bfloat16']:.4f} | {row['moved']:.4f}"
        lines.append(f"| {row['network']} | {row['measure']} | {numbers} |")
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------------------- trainings
Judge = Callable[[Any], float]


def _training_tasks(data: Path, quick: bool) -> Iterator[tuple[str, str, Callable[..., Any], tuple[Any, ...], Judge]]:
    """Network and measure; what makes a network with some options, what it is fitted on, how well it does."""
    X, X_test, y, y_test = _split_digits()
    for cell in CELLS:
        yield (
            f"digits, {cell.upper()} 128", "accuracy", partial(_digits_network, cell, quick), (X, y),
            lambda model: model.score(X_test, y_test),
        )  # fmt: skip
    train, test = (numrnn.datasets.load_beijing_pm25(subset=subset) for subset in ("train", "test"))
    few = slice(500) if quick else slice(None)
    for cell in CELLS:
        yield (
            f"PM2.5, next hour, {cell.upper()} 128", "MAE, µg/m³", partial(_pollution_network, cell, quick),
            (train.data[few], train.target[few]),
            lambda model: mean_absolute_error(test.target, model.predict(test.data)),
        )  # fmt: skip
    training, held_out = read_text(data, quick)
    for units, dropout, epochs in NETWORKS.values():
        yield (
            f"tiny Shakespeare, LSTM {' + '.join(map(str, units))}", "nats a character",
            partial(_character_network, units, dropout, 1 if quick else epochs), (training,),
            lambda model: -model.score(held_out),
        )  # fmt: skip


def trainings(data: Path, *, seeds: Sequence[int] = (0, 1, 2), quick: bool = False) -> Iterator[dict[str, Any]]:
    """How well networks do, and the seconds of their fits, with products of both kinds; both fit in turns."""
    for network, measure, make, given, judge in _training_tasks(data, quick):
        scores: dict[str, list[float]] = {name: [] for name in WEIGHTS}
        seconds: dict[str, list[float]] = {name: [] for name in WEIGHTS}
        for seed in seeds:
            for name in WEIGHTS:
                options = {"random_state": seed, "matmul_precision": None if name == "float32" else name}
                model = make(**options)
                begin = time.perf_counter()
                model.fit(*given)
                seconds[name].append(time.perf_counter() - begin)
                scores[name].append(float(judge(model)))
        yield {
            "network": network,
            "measure": measure,
            **{name: fmean(scores[name]) for name in WEIGHTS},
            # What another seed changes, to compare with.
            "spread": max(scores["float32"]) - min(scores["float32"]),
            **{f"{name}_s": median(seconds[name]) for name in WEIGHTS},
        }


def table_of_trainings(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of `trainings` in Markdown."""
    lines = [
        "| network | measure | float32 | bfloat16 | range of seeds | fit, float32 | fit, bfloat16 | ratio |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        # One seed has no range.
        spread = f"{row['spread']:.4f}" if row["spread"] else ""
        scores = f"{row['float32']:.4f} | {row['bfloat16']:.4f} | {spread}"
        seconds = f"{row['float32_s']:.3g} s | {row['bfloat16_s']:.3g} s | {row['float32_s'] / row['bfloat16_s']:.2f}"
        lines.append(f"| {row['network']} | {row['measure']} | {scores} | {seconds} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; see ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bfloat16", description=__doc__)
    parts = ("times", "losses", "trainings")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="the others stay as they were written")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the data sets; default: $NUMRNN_DATA")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=["lstm"], help="of the times, default lstm")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each type, default 7")
    parser.add_argument("--seconds", type=float, default=0.2, help="length of a turn, default 0.2")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each network, default 3")
    parser.add_argument("--quick", action="store_true", help="little data, one epoch, short turns")
    parser.add_argument(
        "--write", action="store_true", help=f"to {RESULT.relative_to(ROOT)}, and trainings to {PAGE.name}"
    )
    options = parser.parse_args(arguments)
    if options.quick and options.write:
        parser.error("--quick shows that it works; its results are not worth a file")
    warnings.simplefilter("ignore", ConvergenceWarning)
    found: dict[str, Any] = {}
    if "times" in options.only:
        rounds, seconds = (1, 0.001) if options.quick else (options.rounds, options.seconds)
        machine = describe()
        rows = list(step_times(options.cells, SIZES, rounds=rounds, seconds=seconds))
        found["times"] = {"machine": machine, "rows": rows}
        print(f"{machine['processor']}, vectors of {machine['vector_bits']} bits\n\n{table_of_times(rows)}\n")
    try:
        if "losses" in options.only:
            rows = list(losses(data_folder(options.data), quick=options.quick))
            found["losses"] = {"machine": describe(), "rows": rows}
            print(f"{table_of_losses(rows)}\n")
        if "trainings" in options.only:
            seeds = range(1 if options.quick else options.seeds)
            rows = list(trainings(data_folder(options.data), seeds=seeds, quick=options.quick))
            found["trainings"] = {"machine": describe(), "seeds": len(seeds), "rows": rows}
            print(table_of_trainings(rows))
    except DataNotFound as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.write:
        before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
        RESULT.write_text(json.dumps({**before, **found}, indent=1) + "\n", encoding="utf-8")
        print(f"\nWritten: {RESULT.relative_to(ROOT)}")
        if "trainings" in found:
            text = f"{table_of_trainings(found['trainings']['rows'])}\n"
            PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), "trainings", text), encoding="utf-8")
            print(f"Written: {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
