"""What the experiments with forecasts have in common: the same origins for every method, baselines, records, tables."""

from __future__ import annotations

import argparse
import importlib.util
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import RidgeCV

from benchmarks.experiments.data import data_folder
from benchmarks.pages import with_table
from benchmarks.suite.machine import describe
from numrnn import RNNForecaster
from numrnn.forecasting import metrics
from numrnn.forecasting.preparation import Preparation
from numrnn.forecasting.series import read_covariates, read_panel
from numrnn.forecasting.windows import Prepared, Windows
from numrnn.training.loop import TrainingState, train
from numrnn.training.schedules import make_schedule

__all__ = ["Task", "Training", "has_twin", "main", "run", "training_of"]

_ROOT = Path(__file__).resolve().parents[2]
RESULTS = _ROOT / "benchmarks" / "results" / "forecasts"
PAGE = _ROOT / "docs" / "forecasting.md"
_ALPHAS = np.logspace(-2, 5, 8)
# Time steps beyond which seasons, and the exact likelihood of every candidate, take too long.
_LONG = 5000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """Series, from which origins forecasts are made, and with what.

    Attributes
    ----------
    name : str
    title : str
        For the table.
    y, X
        As for `RNNForecaster.fit`.
    initial, step : int
        Time steps before the first forecast, and from one to the next.
    seasonality : int
        Of the seasonal naive forecast.
    models : dict of str to RNNForecaster
        By what they are called in the table.
    shown : sequence of int
        Steps ahead that the table shows by themselves.
    seeds : int, default=3
    drift : bool, default=False
        Whether the naive forecast with drift is made, too.
    statistical : bool, default=True
        Whether AutoETS and AutoARIMA are fitted, too, where statsforecast is installed.
    recent : int or None, default=None
        Time steps before an origin that the two, once fitted, go on from. None: all of them.
    anew : bool, default=False
        Whether these two are fitted anew at every origin, for short series that change with every year. Else they are
        fitted to the training part, as the networks are.
    """

    name: str
    title: str
    y: Any
    X: Any
    initial: int
    step: int
    seasonality: int
    models: dict[str, RNNForecaster]
    shown: Sequence[int]
    seeds: int = 3
    drift: bool = False
    statistical: bool = True
    recent: int | None = None
    anew: bool = False


@dataclass
class _Origins:
    """The forecasts that all methods have to make, and what was observed."""

    series: NDArray[np.int64]
    ends: NDArray[np.int64]
    observed: Array
    naive_errors: Array
    measured: dict[str, Any] = field(default_factory=dict)

    def measure(self, forecast: Array) -> dict[str, list[float]]:
        """Measures for each step ahead."""
        return {
            "mae": metrics.mae(self.observed, forecast, 0).tolist(),
            "rmse": metrics.rmse(self.observed, forecast, 0).tolist(),
            "mase": metrics.mase(self.observed, forecast, self.naive_errors, 0).tolist(),
            "smape": metrics.smape(self.observed, forecast, 0).tolist(),
        }


def _prepare(model: RNNForecaster, task: Task, dtype: Any = "float64") -> tuple[Prepared, Any]:
    """The series as the forecaster reads them, with the scales of the training part."""
    panel = read_panel(task.y, None, "mask")
    names = None
    if task.X is not None:
        covariates, names = read_covariates(task.X, panel)
        panel.covariates = np.concatenate(covariates)
    settings = model._settings(panel, names)
    preparation = Preparation(settings, panel.head(task.initial), None, np.dtype(dtype))
    return Prepared(preparation, panel), settings


def _ridge(prepared: Prepared, task: Task, origins: _Origins) -> Array:
    """Ridge regression, its strength chosen by leave-one-out, on the windows and targets that the network is given."""
    settings = prepared.preparation.settings
    n_series = len(prepared.panel)
    first = np.full(n_series, settings.n_history - 1)
    windows = Windows(prepared, first, np.full(n_series, task.initial - settings.block))
    sequences, targets, _ = windows.part(0, len(windows))

    def flat(places: Any) -> Array:
        starts = places.starts[:, np.newaxis] + np.arange(settings.window_length)
        return prepared.rows[starts].reshape(len(starts), -1)

    complete = ~np.isnan(targets).any(axis=1)
    ridge = RidgeCV(_ALPHAS).fit(flat(sequences)[complete], targets[complete])
    scaled = ridge.predict(flat(prepared.windows(origins.series, origins.ends))).reshape(origins.observed.shape)
    preparation = prepared.preparation
    differences = scaled * preparation.scale[origins.series] + preparation.location[origins.series]
    return preparation.restore(differences + prepared.baselines(origins.series, origins.ends, settings.horizon)[..., 0])


def _naive(prepared: Prepared, origins: _Origins, season: int) -> Array:
    """The value one season before, or as many as it takes to be known; the last one observed if it is missing."""
    preparation, panel = prepared.preparation, prepared.panel
    levels = preparation.restore(prepared.levels)[:, 0]
    steps = np.arange(1, origins.observed.shape[1] + 1)
    back = steps - season * -(-steps // season)
    return levels[(panel.starts[origins.series] + origins.ends)[:, np.newaxis] + back]


def _drift(prepared: Prepared, task: Task, origins: _Origins) -> Array:
    """The last value, changing by the mean change of the training part; with a logarithm, by its mean growth."""
    panel, levels = prepared.panel, prepared.levels[:, 0]
    changes = np.array([np.diff(levels[panel.rows(i)][: task.initial]).mean() for i in range(len(panel))])
    steps = np.arange(1, origins.observed.shape[1] + 1)
    last = levels[panel.starts[origins.series] + origins.ends]
    return prepared.preparation.restore(last[:, np.newaxis] + changes[origins.series][:, np.newaxis] * steps)


def _statistical(prepared: Prepared, task: Task, origins: _Origins, report: Callable[[str], None]) -> dict[str, Any]:
    """Exponential smoothing and ARIMA, chosen by AICc and fitted to the training part of each series by itself.

    They are given what the networks are given: values after the transformation, gaps filled with the value before, and
    ARIMA the covariates, if all of them are known for the future. At every origin the fitted model goes on with what
    was observed up to it, as the networks do, or is fitted anew. Both are given seasons of up to 24 steps, and none
    where the training part is long; ARIMA is then searched for by the conditional sum of squares.
    """
    from statsforecast.models import AutoARIMA, AutoETS

    panel, horizon = prepared.panel, origins.observed.shape[1]
    levels, restore = prepared.levels[:, 0], prepared.preparation.restore
    long = task.initial > _LONG
    season = task.seasonality if task.seasonality <= 24 and not long else 1
    known = panel.covariates is not None and not prepared.preparation.settings.past
    methods: dict[str, Any] = {}
    for name, make, reads in (("AutoETS", AutoETS, False), ("AutoARIMA", AutoARIMA, known)):
        bounds = np.empty((*origins.observed.shape, 3))
        seconds = 0.0
        for number in range(len(panel)):
            rows = panel.rows(number)
            y, X = levels[rows], panel.covariates[rows] if reads and panel.covariates is not None else None
            begin = process_time()
            search = {"approximation": True} if make is AutoARIMA and long else {}
            model = make(season_length=season, **search).fit(
                y[: task.initial], None if X is None else X[: task.initial]
            )
            seconds += process_time() - begin
            places = np.flatnonzero(origins.series == number)
            if horizon == 1 and not task.anew:
                # One pass over the series forecasts every step from those before it.
                future = {} if X is None else {"X": X, "X_future": X[-1:]}
                result = model.forward(y, 1, level=[90], fitted=True, **future)
                columns = [result[name] for name in ("fitted-lo-90", "fitted", "fitted-hi-90")]
                bounds[places, 0] = np.stack(columns, axis=-1)[origins.ends[places] + 1]
                continue
            for place in places:
                now = origins.ends[place] + 1
                begin_at = 0 if task.recent is None else max(now - task.recent, 0)
                covariates = {} if X is None else {"X": X[begin_at:now], "X_future": X[now : now + horizon]}
                make_forecast = model.forecast if task.anew else model.forward
                result = make_forecast(y[begin_at:now], horizon, level=[90], **covariates)
                bounds[place] = np.stack([result["lo-90"], result["mean"], result["hi-90"]], axis=-1)
        lower, forecast, upper = np.moveaxis(restore(bounds), -1, 0)
        measured = {
            **origins.measure(forecast),
            "coverage": metrics.coverage(origins.observed, lower, upper, 0).tolist(),
            "processor_seconds_of_fit": seconds,
        }
        label = f"{name}, season of {season}" if season > 1 else name
        label += ", fitted anew every time" if task.anew else ""
        methods[f"{label}, with covariates" if reads else label] = measured
        report(
            f"{task.name}, {name}: MAE {np.mean(measured['mae']):.4g}, MASE {np.mean(measured['mase']):.3f}, coverage "
            f"{np.mean(measured['coverage']):.3f}, fit {seconds:.2f} s"
        )
    return methods


@dataclass
class Training:
    """What a network is trained on, by us and by PyTorch: the windows of the training part, and how.

    Attributes
    ----------
    network : Network
        With its first parameters.
    windows : Windows
    settings : dict
        Of the training loop, without learning rate and epochs.
    plain : TrainingSettings
        The same for the plain loop of PyTorch, with all epochs.
    """

    network: Any
    windows: Windows
    settings: dict[str, Any]
    plain: Any

    def arrays(self) -> tuple[Any, Any]:
        """Sequences and targets. What is missing has no weight in ours; here it counts as a mean, and takes as long."""
        sequences, targets, _ = self.windows.part(0, len(self.windows))
        return sequences, np.nan_to_num(targets)


def has_twin(model: RNNForecaster) -> bool:
    """Whether PyTorch is installed, and its plain loop has the loss and the network of the model."""
    has_loss = model.loss in ("squared_error", "absolute_error", "huber")
    return bool(importlib.util.find_spec("torch")) and has_loss and model.strategy != "encoder_decoder"


def training_of(model: RNNForecaster, task: Task) -> Training:
    """The network of a model and the windows of the whole training part of a task."""
    from benchmarks.peers.pytorch_training import TrainingSettings

    one = clone(model).set_params(n_jobs=1, missing="mask")
    random = one._random = np.random.RandomState(0)
    prepared, settings = _prepare(one, task, one.dtype)
    n_series = len(prepared.panel)
    first = np.full(n_series, settings.n_history - 1)
    windows = Windows(prepared, first, np.full(n_series, task.initial - settings.block))
    network = one._build_network(prepared.preparation, 0)
    network.initialize(random)
    ours = one._training_settings(network, windows)
    schedule = make_schedule(one.learning_rate, float(one.learning_rate_init), int(one.max_iter))
    plain = TrainingSettings(
        one.loss, one.solver, schedule, ours["batch_size"], int(one.max_iter), one.alpha, one.max_grad_norm
    )
    return Training(network, windows, ours, plain)


def _times(model: RNNForecaster, task: Task, n_epochs: int = 10) -> dict[str, float] | None:
    """Processor seconds of an epoch on the windows of the training part, ours and a plain loop of PyTorch, one thread.

    Both train the same network on the same minibatches, once to warm up and then as long as is measured. Not for a
    decoder, whose peer is that of `benchmarks.experiments.encoder_decoder`.
    """
    if not has_twin(model):
        return None
    import torch

    from benchmarks.peers.pytorch_training import TorchNetwork
    from benchmarks.peers.pytorch_training import train as train_torch

    training = training_of(model, task)
    network, windows = training.network, training.windows
    sequences, targets = training.arrays()
    peer = TorchNetwork(network)

    def train_ours(epochs: int) -> None:
        with network.workers:
            train(network, windows, **training.settings, learning_rate="constant", max_iter=epochs, tol=0.0,
                  n_iter_no_change=epochs, state=TrainingState())  # fmt: skip

    def train_peer(epochs: int) -> None:
        train_torch(peer, sequences, targets, replace(training.plain, n_epochs=epochs), np.random.RandomState(0))

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = {}
    try:
        for name, run_epochs in (("numrnn", train_ours), ("pytorch", train_peer)):
            run_epochs(1)
            begin = process_time()
            run_epochs(n_epochs)
            seconds[name] = (process_time() - begin) / n_epochs
    finally:
        torch.set_num_threads(threads)
    return {**seconds, "n_windows": len(windows), "batch_size": training.settings["batch_size"]}


def run(task: Task, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Make all forecasts of a task and measure them; the record as it is written."""
    model = next(iter(task.models.values()))
    prepared, settings = _prepare(model, task)
    panel, horizon = prepared.panel, settings.horizon
    ends = [np.arange(task.initial - 1, length - horizon, task.step) for length in panel.lengths]
    series = np.concatenate([np.full(len(rows), number) for number, rows in enumerate(ends)])
    origins = _Origins(series, np.concatenate(ends), np.empty(0), np.empty(0))
    places = (panel.starts[series] + origins.ends)[:, np.newaxis] + np.arange(1, horizon + 1)
    origins.observed = panel.values[places, 0]
    training = [panel.values[panel.rows(i)][: task.initial] for i in range(len(panel))]
    errors = np.array([metrics.naive_error(part, model.seasonality)[0] for part in training])
    origins.naive_errors = errors[series][:, np.newaxis]
    methods: dict[str, Any] = {
        "naive: as the last value": origins.measure(_naive(prepared, origins, 1)),
    }
    if task.seasonality > 1:
        methods[f"seasonal naive, {task.seasonality} steps"] = origins.measure(
            _naive(prepared, origins, task.seasonality)
        )
    if task.drift:
        methods["naive with drift"] = origins.measure(_drift(prepared, task, origins))
    if task.statistical and importlib.util.find_spec("statsforecast"):
        methods |= _statistical(prepared, task, origins, report)
    methods["ridge on the same windows"] = origins.measure(_ridge(prepared, task, origins))
    for label, forecaster in task.models.items():
        runs = []
        for seed in range(task.seeds):
            one = clone(forecaster).set_params(random_state=seed, n_jobs=1, missing="mask")
            begin = perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                result = one.backtest(task.y, task.X, initial=task.initial, step=task.step)
            seconds = perf_counter() - begin
            np.testing.assert_array_equal(result.observed, origins.observed)
            measured = {key: values.tolist() for key, values in result.metrics.items()}
            if result.lower is not None:
                measured["below"] = (result.observed < result.lower).mean(axis=0).tolist()
                measured["above"] = (result.observed > result.upper).mean(axis=0).tolist()
            runs.append({**measured, "seconds": seconds})
            report(
                f"{task.name}, {label}, seed {seed}: MAE {np.mean(measured['mae']):.4g}, RMSE "
                f"{np.mean(measured['rmse']):.4g}, MASE {np.mean(measured['mase']):.3f}, coverage "
                f"{np.mean(measured.get('coverage', [np.nan])):.3f}, {seconds:.1f} s"
            )
        joined = {key: np.mean([one[key] for one in runs], axis=0).tolist() for key in runs[0]}
        methods[label] = {**joined, "runs": runs}
        times = _times(forecaster, task)
        if times is not None:
            methods[label]["processor_seconds_of_epoch"] = times
            report(f"{task.name}, {label}: an epoch takes {times['numrnn']:.4f} s, PyTorch {times['pytorch']:.4f} s")
    return {
        "name": task.name,
        "title": task.title,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "n_series": len(panel),
        "initial": task.initial,
        "n_origins": len(series),
        "horizon": horizon,
        "step": task.step,
        "seasonality_of_mase": int(model.seasonality),
        "shown": list(task.shown),
        "seeds": task.seeds,
        "methods": methods,
    }


def _coverage(share: float, record: dict[str, Any]) -> str:
    """The share in an interval of 95 % for its probability.

    That of Wilson, with as many draws as there are forecasts that do not overlap: those that do miss the same values.
    """
    n = record["n_series"] * max(
        record["n_origins"] / record["n_series"] * min(record["step"] / record["horizon"], 1), 1
    )
    z = 1.959964
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return f"{100 * share:.1f} % ({100 * (middle - half):.0f} to {100 * (middle + half):.0f})"


def table(record: dict[str, Any]) -> str:
    """A record as a table in Markdown."""
    shown = record["shown"]
    steps = [f"MASE, {step} ahead" for step in shown]
    if record["horizon"] > 1:
        steps.append("MASE, all steps")
    header = ["method", "MAE", "RMSE", *steps, "coverage of 90 % intervals"]
    best = min(np.mean(measured["mase"]) for measured in record["methods"].values())
    lines = [
        f"**{record['title']}** ({record['n_origins']:,} forecasts, horizon {record['horizon']}, "
        f"{record['seeds']} seed{'s' if record['seeds'] > 1 else ''})",
        "",
        "| " + " | ".join(header) + " |",
        "|---|" + "---:|" * (len(header) - 1),
    ]
    for name, measured in record["methods"].items():
        mean = float(np.mean(measured["mase"]))
        cells = [f"{np.mean(measured['mae']):.4g}", f"{np.mean(measured['rmse']):.4g}"]
        cells += [f"{measured['mase'][step - 1]:.3f}" for step in shown]
        if record["horizon"] > 1:
            cells.append(f"{mean:.3f}")
        if mean == best:
            cells[-1] = f"**{cells[-1]}**"
        cells.append(_coverage(float(np.mean(measured["coverage"])), record) if "coverage" in measured else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    timed = {name: one["processor_seconds_of_epoch"] for name, one in record["methods"].items()
             if "processor_seconds_of_epoch" in one}  # fmt: skip
    if timed:
        seconds = (
            f"{name}, {one['n_windows']:,} windows: {1000 * one['numrnn']:.3g} ms ({1000 * one['pytorch']:.3g} ms)"
            for name, one in timed.items()
        )
        lines += ["", f"An epoch on one thread (in a plain loop of PyTorch): {'; '.join(seconds)}."]
    return "\n".join(lines)


def update_page() -> None:
    """Write the tables of all records into the page."""
    text = PAGE.read_text(encoding="utf-8")
    for path in sorted(RESULTS.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        text = with_table(text, record["name"], table(record) + "\n")
    PAGE.write_text(text, encoding="utf-8")


def main(module: str, tasks: Callable[[Path, bool], list[Task]], arguments: Sequence[str] | None = None) -> int:
    """Run the tasks of a script; see its ``--help``.

    ``tasks(data_folder, quick)`` makes them.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.experiments.{module}")
    parser.add_argument("names", nargs="*", help="tasks; default: all")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the data sets; default: $NUMRNN_DATA")
    parser.add_argument("--quick", action="store_true", help="one epoch, one seed, nothing written")
    options = parser.parse_args(arguments)
    made = tasks(data_folder(options.data), options.quick)
    unknown = set(options.names) - {task.name for task in made}
    if unknown:
        parser.error(f"there is no task {sorted(unknown)[0]!r}; there are {', '.join(task.name for task in made)}")
    for task in made:
        if options.names and task.name not in options.names:
            continue
        record = run(task, lambda text: print(text, flush=True))
        print(f"\n{table(record)}\n", flush=True)
        if not options.quick:
            RESULTS.mkdir(parents=True, exist_ok=True)
            path = RESULTS / f"{task.name}.json"
            path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            update_page()
            print(f"Written: {path}", flush=True)
    return 0


def quickly(tasks: list[Task]) -> list[Task]:
    """One epoch and one seed, to see that everything works."""
    return [
        Task(
            **{
                **task.__dict__,
                "seeds": 1,
                "step": 50 * task.step,
                "models": {label: clone(model).set_params(max_iter=1) for label, model in task.models.items()},
            }
        )
        for task in tasks
    ]
