"""`numrnn forecast`: from a table to what comes next, with intervals; and forecasts by a saved forecaster."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from numrnn.commands.arguments import (
    add_command,
    add_network,
    add_table,
    check_figure,
    check_folder,
    positive,
    share,
    tell,
)
from numrnn.commands.series import Series, add_series, format_times, read_series
from numrnn.commands.tables import Table, pluralize, read_table, write_csv, write_json

__all__ = ["add", "add_results", "check_results", "forecast_by_model", "run"]

_EXAMPLES = """examples:
  numrnn forecast air.csv --column pm2.5 --horizon 24
  numrnn forecast air.csv --column pm2.5 --horizon 24 --covariates TEMP PRES --backtest 720 --plot air.png
  numrnn forecast sales.csv --column sales --horizon 14 --known holiday price --calendar time_of_week
  numrnn forecast shops.parquet --column sales --horizon 7 --id shop --time date --save shops.model
  numrnn predict shops.model shops-of-today.parquet --column sales --id shop

The table has a row for each time step, in the order of time. The forecast is a table on the standard output: the time,
the forecast, and the bounds of each interval, such as lower_90 and upper_90. Columns after --covariates are read as far
as they go. Those after --known are known ahead: the table goes on, with rows in which the column to forecast is empty.
"""
_MOST_PLOTS = 6
_ENOUGH_ERRORS = 30


def add(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = add_command(commands, "forecast", "forecast a time series in a table, with intervals", _EXAMPLES)
    add_table(parser)
    parser.add_argument(
        "--column", required=True, metavar="COL", help="what to forecast; empty cells are missing values"
    )
    parser.add_argument("--horizon", type=positive, required=True, metavar="N", help="time steps to forecast")
    add_series(parser)
    parser.add_argument(
        "--covariates", nargs="+", default=[], metavar="COL", help="columns that are read too, as far as they go"
    )
    parser.add_argument(
        "--known", nargs="+", default=[], metavar="COL", help="covariates that the table also has for the time to come"
    )
    add_results(parser)
    parser.add_argument("--save", type=Path, metavar="MODEL", help="write the forecaster to this file")
    parser.add_argument(
        "--backtest",
        type=positive,
        metavar="N",
        help="first forecast the last N time steps as if they were not known, and say how well",
    )
    series = parser.add_argument_group("the series")
    series.add_argument(
        "--window", type=positive, metavar="N", help="time steps that are read (default: 24, or the horizon if longer)"
    )
    series.add_argument(
        "--difference",
        type=int,
        nargs="+",
        default=[1],
        metavar="LAG",
        help="forecast differences with these lags; 0 is none (default: 1, to the last value)",
    )
    series.add_argument("--log", action="store_true", help="forecast logarithms: for values that grow by a share")
    series.add_argument(
        "--seasonality", type=positive, default=1, metavar="N", help="of the naive forecast (default: 1)"
    )
    series.add_argument(
        "--calendar",
        nargs="+",
        default=[],
        choices=("time_of_day", "time_of_week", "time_of_month", "time_of_year"),
        help="read the position of a time in these periods",
    )
    series.add_argument(
        "--frequency", metavar="F", help="of the time steps, as pandas names it: h, D, MS; times not there are missing"
    )
    series.add_argument(
        "--missing",
        choices=("mask", "raise"),
        default="mask",
        help="leave missing values out, or refuse them (default: %(default)s)",
    )
    series.add_argument(
        "--loss",
        choices=(
            "squared_error",
            "absolute_error",
            "huber",
            "quantile",
            "gaussian",
            "student_t",
            "negative_binomial",
        ),
        default="squared_error",
        help="(default: %(default)s)",
    )
    series.add_argument(
        "--calibration",
        type=share,
        metavar="P",
        help="share of the series, at its end, whose errors make the intervals (default: a tenth, more if it is short)",
    )
    add_network(parser, units=64, epochs=100, learning_rate=2e-3)


def add_results(parser: argparse.ArgumentParser) -> None:
    """What is made of a forecast."""
    parser.add_argument(
        "--coverage",
        type=share,
        nargs="+",
        default=[0.9],
        metavar="P",
        help="of the intervals (default: 0.9); 0 is none",
    )
    parser.add_argument("--format", choices=("csv", "json"), default="csv", help="of the results (default: csv)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the forecast: .png, .pdf, .svg, ...")


def check_results(chosen: argparse.Namespace) -> None:
    """Before any work: what was asked for can be written."""
    check_figure(chosen.plot, "--plot")
    check_folder(getattr(chosen, "save", None), "--save")


def run(chosen: argparse.Namespace) -> int:
    """Do what the arguments say; the exit status."""
    check_results(chosen)
    if chosen.no_time and chosen.calendar:
        raise ValueError("--calendar needs time stamps, which --no-time does without")
    table = read_table(chosen.data, chosen.separator)
    covariates = list(dict.fromkeys([*chosen.covariates, *chosen.known]))
    series = read_series(
        table, chosen, column=chosen.column, covariates=covariates, known=chosen.known, time=chosen.time
    )
    _check_future(series, table, chosen)
    model = _forecaster(chosen, covariates, len(series.y) // (series.y["unique_id"].nunique() if chosen.id else 1))
    more = {}
    if chosen.backtest:
        more["backtest"] = _backtest(model, series, chosen)
    if chosen.backtest:
        tell(chosen, "Training on the whole series.")
    model.fit(series.y, series.X)
    tell(chosen, f"{pluralize(model.n_iter_, 'epoch')}, {pluralize(model.n_parameters_, 'parameter')}")
    if chosen.save is not None:
        model.save(chosen.save)
        tell(chosen, f"Forecaster written to {chosen.save}.")
    _write(model, series, chosen, chosen.horizon, more)
    return 0


def _forecaster(chosen: argparse.Namespace, covariates: list[str], n_steps: int) -> Any:
    import numrnn

    calibration: float | str = "auto"
    if chosen.calibration is not None:
        calibration = chosen.calibration
    elif chosen.loss in ("squared_error", "absolute_error", "huber"):
        # A tenth, or what it takes for intervals of 90 % to be made of enough errors, if that leaves something.
        calibration = min(max(0.1, _ENOUGH_ERRORS / max(n_steps, 1)), 0.3)
    lags = tuple(lag for lag in chosen.difference if lag != 0)
    return numrnn.RNNForecaster(
        tuple(chosen.units),
        horizon=chosen.horizon,
        window_length=chosen.window or max(24, chosen.horizon),
        loss=chosen.loss,
        difference=None if chosen.loss == "negative_binomial" else lags or None,
        transformation="log" if chosen.log else None,
        calendar=tuple(chosen.calendar),
        future_covariates=tuple(name for name in covariates if name in chosen.known),
        missing=chosen.missing,
        seasonality=chosen.seasonality,
        frequency=chosen.frequency,
        calibration_fraction=calibration,
        train_on_all=True,
        cell=chosen.cell,
        bidirectional=chosen.bidirectional,
        dropout=chosen.dropout,
        batch_size=chosen.batch_size,
        learning_rate_init=chosen.learning_rate,
        max_iter=chosen.epochs,
        early_stopping=True,
        n_iter_no_change=10,
        random_state=chosen.seed,
        n_jobs=chosen.threads,
        verbose=not chosen.quiet,
    )


def _check_future(series: Series, table: Table, chosen: argparse.Namespace) -> None:
    """The table must go on for the horizon, if columns are known ahead."""
    if not chosen.known:
        return
    names = series.y["unique_id"].unique() if chosen.id else [None]
    for name in names:
        ahead = len(series.future) if name is None else int((series.future["unique_id"] == name).sum())
        if ahead < chosen.horizon:
            where = "" if name is None else f" of series {name!r}"
            raise ValueError(
                f"{table.name}: the known columns ({', '.join(chosen.known)}) are needed for the {chosen.horizon} time "
                f"steps to forecast, but the table has {ahead} rows after the last value of {chosen.column!r}{where}. "
                "Add rows in which it is empty"
            )


def _backtest(model: Any, series: Series, chosen: argparse.Namespace) -> dict[str, Any]:
    """How good forecasts of the end of the series would have been, and those of the naive method."""
    from numrnn.forecasting.series import check_frequency, read_panel

    panel = read_panel(series.y, check_frequency(chosen.frequency), chosen.missing)
    initial = int(panel.lengths.min()) - chosen.backtest
    if initial < 1 or chosen.backtest < chosen.horizon:
        raise ValueError(
            f"--backtest {chosen.backtest} must be at least the horizon of {chosen.horizon} and leave something to "
            f"learn from: the series has {int(panel.lengths.min())} time steps"
        )
    tell(chosen, f"Training without the last {pluralize(chosen.backtest, 'time step')}.")
    coverage = max(chosen.coverage) or 0.9
    result = model.backtest(series.y, series.X, initial=initial, coverage=coverage)
    season, steps = chosen.seasonality, np.arange(chosen.horizon)
    # The value one season before each step, or as many seasons as it takes to be known.
    back = season * (steps // season + 1) - steps
    rows = panel.starts[result.series][:, np.newaxis] + result.origins[:, np.newaxis] - back
    naive = panel.values[np.maximum(rows, 0), 0]
    known = ~(np.isnan(naive) | np.isnan(result.observed))

    def measures(forecast: Any) -> dict[str, float]:
        error = (forecast - result.observed)[known]
        return {"mae": float(np.abs(error).mean()), "rmse": float(np.sqrt((error**2).mean()))}

    scores: dict[str, Any] = {
        "forecasts": len(result.origins),
        "steps": chosen.horizon,
        **measures(result.forecast),
        "mase": float(np.nanmean(result.metrics["mase"])),
    }
    if "coverage" in result.metrics:
        scores |= {"nominal_coverage": coverage, "coverage": float(np.nanmean(result.metrics["coverage"]))}
    scores["naive"] = measures(naive)
    covered = f", {scores['coverage']:.1%} in {coverage:.0%} intervals" if "coverage" in scores else ""
    tell(
        chosen,
        f"backtest: {pluralize(len(result.origins), 'forecast')} of {pluralize(chosen.horizon, 'step')}\n"
        f"  this forecaster  MAE {scores['mae']:.4g}, RMSE {scores['rmse']:.4g}{covered}\n"
        f"  naive forecast   MAE {scores['naive']['mae']:.4g}, RMSE {scores['naive']['rmse']:.4g}"
        + (" (as the last value)" if season == 1 else f" (as {season} steps before)"),
    )
    return scores


# ------------------------------------------------------------------------------------------------------------ results
def _write(model: Any, series: Series, chosen: argparse.Namespace, steps: int, more: dict[str, Any]) -> None:
    coverages = sorted({coverage for coverage in chosen.coverage if coverage > 0})
    forecast = model.predict(steps, series.future)
    intervals = {p: model.predict_interval(steps, p, series.future) for p in coverages}
    long = "unique_id" in getattr(forecast, "columns", ())
    index = forecast["ds"] if long else forecast.index
    rows = []
    values = forecast["y"] if long else forecast
    for row, (time, value) in enumerate(zip(format_times(index), values, strict=True)):
        cells: dict[str, Any] = {chosen.id or "unique_id": forecast["unique_id"].iloc[row]} if long else {}
        cells |= {series.time: time, "forecast": float(value)}
        for coverage, bounds in intervals.items():
            for side in ("lower", "upper"):
                cells[f"{side}_{100 * coverage:g}"] = float(bounds[side].iloc[row])
        rows.append(cells)
    if chosen.plot is not None:
        _plot(model, series, chosen, steps, tuple(coverages))
        tell(chosen, f"Figure written to {chosen.plot}.")
    if chosen.format == "csv":
        write_csv(rows)
    else:
        write_json({"forecast": rows, **more})


def _plot(model: Any, series: Series, chosen: argparse.Namespace, steps: int, coverages: tuple[float, ...]) -> None:
    from numrnn.plots import ForecastDisplay
    from numrnn.plots.axes import pyplot

    shown = max(4 * steps, model.window_length)
    if "unique_id" not in getattr(series.y, "columns", ()):
        display = ForecastDisplay.from_forecaster(
            model,
            steps,
            series.future,
            history=series.y.iloc[-shown:],
            coverages=coverages,
            unit=chosen.column,
            name="",
        )
        figure = display.figure_
    else:
        groups = dict(list(series.y.groupby("unique_id", sort=False)))
        names = list(groups)[:_MOST_PLOTS]
        if len(names) < len(groups):
            tell(chosen, f"The figure shows the first {len(names)} of {len(groups)} series.")
        size = (8, 1 + 2.2 * len(names))
        figure, axes = pyplot().subplots(len(names), squeeze=False, layout="constrained", figsize=size)
        for name, ax in zip(names, axes[:, 0], strict=True):
            ForecastDisplay.from_forecaster(
                model,
                steps,
                series.future,
                series=name,
                history=groups[name].set_index("ds")["y"].iloc[-shown:],
                coverages=coverages,
                unit=chosen.column,
                name=str(name),
                ax=ax,
            )
    figure.savefig(chosen.plot, dpi=150)
    pyplot().close(figure)


# ------------------------------------------------------------------------------------------------- a saved forecaster
def forecast_by_model(model: Any, chosen: argparse.Namespace) -> None:
    """What follows a table, as a saved forecaster sees it, without training."""
    check_results(chosen)
    history = model._history
    long = history.container == "long"
    if history.container == "list" or model.n_targets_ > 1 or not hasattr(history.forms[0], "index_name"):
        raise ValueError(f"{str(chosen.model)!r} was fitted on arrays, not on a table; use it from Python")
    if long and not (chosen.id and chosen.column):
        raise ValueError(f"{str(chosen.model)!r} forecasts several series: --id and --column must name their columns")
    if chosen.id and not long:
        raise ValueError(f"{str(chosen.model)!r} forecasts one series: there is no --id")
    chosen.frequency = chosen.frequency or model.frequency
    form = history.forms[0]
    column = chosen.column or str(form.columns)
    covariates = [str(name) for name in model._covariate_names or []]
    wanted = model.future_covariates
    known = covariates if wanted == "all" else [name for name in covariates if name in wanted]
    table = read_table(chosen.data, chosen.separator)
    time = chosen.time
    if time is None and not long and str(form.index_name) in table.columns:
        time = [str(form.index_name)]
    elif form.index_name == "row":
        time = []
    series = read_series(table, chosen, column=column, covariates=covariates, known=known, time=time)
    chosen.known, chosen.horizon = known, chosen.horizon or model.horizon
    if known:
        chosen.column = column
        _check_future(series, table, chosen)
    chosen.column = column
    _update(model, series, chosen, long)
    _write(model, series, chosen, chosen.horizon, {})


def _update(model: Any, series: Series, chosen: argparse.Namespace, long: bool) -> None:
    """Go on with the rows after those that the forecaster knows."""
    history = model._history
    ends = {name: form.last for name, form in zip(history.names, history.forms, strict=True)}
    if long:
        unknown = [name for name in series.y["unique_id"].unique() if name not in ends]
        if unknown:
            raise ValueError(
                f"{str(chosen.model)!r} does not know a series {unknown[0]!r}, only {', '.join(map(str, ends))}"
            )
        new = (series.y["ds"] > series.y["unique_id"].map(ends)).to_numpy()
    else:
        (last,) = ends.values()
        if type(series.y.index[0]) is not type(last) and not np.isscalar(last):
            raise ValueError(f"the forecaster's last time is {last}, but the table begins with {series.y.index[0]!r}")
        new = np.asarray(series.y.index > last)
    if new.any():
        model.update(series.y[new], None if series.X is None else series.X[new])
    tell(chosen, f"{pluralize(int(new.sum()), 'time step')} after those of the forecaster's training")
