"""Forecasts and their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numrnn.plots.axes import (
    COLOURS,
    GREY,
    figure_of,
    label_time,
    new_axes,
    numbers,
    time_of,
    title_and_legend,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = ["ErrorPerHorizonDisplay", "ForecastDisplay", "ResidualsDisplay"]

_MEASURED = "0.25"
# How much white the widest and the narrowest band of a fan have.
_PALEST, _DARKEST = 0.85, 0.5
_MOST_LAGS = 40


def _pale(colour: Any, share: float) -> tuple[float, ...]:
    """A colour mixed with that share of white."""
    from matplotlib.colors import to_rgb

    return tuple(share + (1 - share) * part for part in to_rgb(colour))


class ForecastDisplay:
    """A forecast over time with its intervals, beside what was measured.

    Make it with `from_forecaster`, `from_estimator` or `from_predictions`.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or None
        What was measured; None if nobody knows yet. NaN is a gap.
    y_pred : array-like of shape (n_samples,)
        What was forecast.
    time : array-like of shape (n_samples,) or None, default=None
        The time of each value, numbers or dates. None is the index of `y_pred` or `y_true` if one is a Series, else 0,
        1, 2, ...
    intervals : mapping of float to pair of array-like of shape (n_samples,), default=None
        By their coverage, such as 0.9, the lower and the upper ends of prediction intervals.
    history : array-like of shape (n_before,) or None, default=None
        What was measured before the forecast begins.
    history_time : array-like of shape (n_before,) or None, default=None
        Its times. None is the index of `history` if it is a Series, else the numbers up to -1.
    name : str or None, default=None
        Title of the plot.
    unit : str or None, default=None
        Of the values, with their name if you like: the label of the axis.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes. Set by `plot`, like the others.
    figure_ : matplotlib.figure.Figure
        The figure that holds it.
    lines_ : list of matplotlib.lines.Line2D
        The curves of truth, if it is known, and forecast.
    bands_ : dict of float to matplotlib.collections.PolyCollection
        The intervals by their coverage.
    history_line_ : matplotlib.lines.Line2D or None
        It leads up to the first of `y_true`.

    Examples
    --------
    >>> from numrnn.plots import ForecastDisplay
    >>> display = ForecastDisplay.from_predictions([1.0, 2.0, 4.0], [1.5, 2.0, 3.0])
    >>> [line.get_label() for line in display.lines_]
    ['measured', 'forecast']
    >>> display = ForecastDisplay.from_predictions(
    ...     None, [3.0, 3.0], intervals={0.9: ([2.0, 1.0], [4.0, 5.0])}, history=[1.0, 2.0, 4.0], unit="sales"
    ... )
    >>> [text.get_text() for text in display.ax_.get_legend().get_texts()]
    ['measured', 'forecast', '90 % interval']
    """

    ax_: Axes
    figure_: Figure
    lines_: list[Line2D]
    bands_: dict[float, Any]
    history_line_: Line2D | None

    def __init__(
        self,
        y_true: ArrayLike | None,
        y_pred: ArrayLike,
        *,
        time: ArrayLike | None = None,
        intervals: Mapping[float, Any] | None = None,
        history: ArrayLike | None = None,
        history_time: ArrayLike | None = None,
        name: str | None = None,
        unit: str | None = None,
    ) -> None:
        self.y_pred = numbers(y_pred, "y_pred", None)
        self.y_true = None if y_true is None else numbers(y_true, "y_true", None)
        n_samples = len(self.y_pred) if self.y_pred.ndim else 0
        indexed = y_pred if not callable(getattr(y_pred, "index", len)) else y_true
        self.time = np.asarray(time) if time is not None else time_of(None, indexed, n_samples)
        self.name = name
        self.unit = unit
        shapes = self.y_pred.shape if self.y_true is None else self.y_true.shape, self.y_pred.shape, self.time.shape
        if self.y_pred.ndim != 1 or len(set(shapes)) > 1:
            raise ValueError(
                "y_true, y_pred and time must have one and the same shape (n_samples,), got "
                f"{shapes[0]}, {shapes[1]} and {shapes[2]}"
            )
        self.intervals = {
            coverage: self._interval(coverage, pair) for coverage, pair in sorted((intervals or {}).items())
        }
        self.history = None if history is None else numbers(history, "history", 1)
        self.history_time = None
        if self.history is not None:
            n_before = len(self.history)
            self.history_time = time_of(history_time, history, n_before, first=-n_before)

    def _interval(self, coverage: float, pair: Any) -> tuple[NDArray, NDArray]:
        if not 0 < coverage < 1:
            raise ValueError(f"intervals must be given by coverages between 0 and 1, got {coverage!r}")
        lower, upper = (numbers(end, "an end of an interval", None) for end in pair)
        if lower.shape != self.y_pred.shape or upper.shape != self.y_pred.shape:
            raise ValueError(
                f"the ends of the intervals of coverage {coverage} must have the shape {self.y_pred.shape} of the "
                f"forecast, got {lower.shape} and {upper.shape}"
            )
        if (lower > upper).any():
            raise ValueError(f"the lower ends of the intervals of coverage {coverage} must not be above the upper ones")
        return lower, upper

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        time: ArrayLike | None = None,
        name: str | None = None,
        unit: str | None = None,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> ForecastDisplay:
        """Predict with a fitted estimator and draw the forecast against the truth.

        Parameters
        ----------
        estimator : object
            Anything fitted with a `predict` that gives one number per sample.
        X : array-like or list of ndarray
            What the estimator predicts from.
        y : array-like of shape (n_samples,)
            What was measured.
        time, name, unit, ax, **line_kw
            As for `from_predictions`; the name is that of the estimator's class if None.

        Returns
        -------
        display : ForecastDisplay
        """
        name = name or type(estimator).__name__
        return cls.from_predictions(y, estimator.predict(X), time=time, name=name, unit=unit, ax=ax, **line_kw)

    @classmethod
    def from_forecaster(
        cls,
        forecaster: Any,
        steps: int | None = None,
        X: Any = None,
        *,
        series: Any = None,
        y_true: ArrayLike | None = None,
        history: ArrayLike | None = None,
        coverages: Sequence[float] = (0.5, 0.9),
        name: str | None = None,
        unit: str | None = None,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> ForecastDisplay:
        """Draw what a forecaster says of the future.

        Parameters
        ----------
        forecaster : RNNForecaster
            Fitted on one target.
        steps : int, default=None
            How many to forecast; None is the horizon.
        X : default=None
            Future covariates, as for `predict`.
        series : default=None
            Which of several series: its number in a list, its `unique_id` in long format.
        y_true : array-like of shape (steps,) or None, default=None
            What came true, if it is known.
        history : array-like of shape (n_before,) or None, default=None
            What was measured before, such as the last part of y.
        coverages : sequence of float, default=(0.5, 0.9)
            Of the intervals. Empty for a forecaster without intervals.
        name : str or None, default=None
            Title of the plot; the name of the forecaster's class if None.
        unit, ax, **line_kw
            As for `from_predictions`.

        Returns
        -------
        display : ForecastDisplay

        Raises
        ------
        ValueError
            If there are several series or targets and it is not clear which one is meant.

        Examples
        --------
        >>> import numpy as np
        >>> from numrnn import RNNForecaster
        >>> from numrnn.plots import ForecastDisplay
        >>> y = np.sin(np.arange(200) / 4)
        >>> forecaster = RNNForecaster((8,), horizon=6, max_iter=5, tol=0.0, random_state=0).fit(y)
        >>> display = ForecastDisplay.from_forecaster(forecaster, history=y[-30:], unit="level")
        >>> sorted(display.bands_)
        [0.5, 0.9]
        """
        forecast = _of_series(forecaster.predict(steps, X), series)
        intervals = {}
        for coverage in coverages:
            bounds = _of_series(forecaster.predict_interval(steps, coverage, X), series)
            lower, upper = (
                (bounds["lower"], bounds["upper"]) if hasattr(bounds, "columns") else np.moveaxis(bounds, -1, 0)
            )
            intervals[coverage] = (lower, upper)
        name = type(forecaster).__name__ if name is None else name
        options: dict[str, Any] = {"history": history, "name": name, "unit": unit, "ax": ax}
        return cls.from_predictions(y_true, forecast, intervals=intervals, **options, **line_kw)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike | None,
        y_pred: ArrayLike,
        *,
        time: ArrayLike | None = None,
        intervals: Mapping[float, Any] | None = None,
        history: ArrayLike | None = None,
        history_time: ArrayLike | None = None,
        name: str | None = None,
        unit: str | None = None,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> ForecastDisplay:
        """Draw a forecast against the truth.

        Parameters
        ----------
        y_true, y_pred, time, intervals, history, history_time, name, unit
            As for the constructor.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; a new figure if None.
        **line_kw
            Passed to `Axes.plot` of the forecast.

        Returns
        -------
        display : ForecastDisplay

        Raises
        ------
        ValueError
            If the shapes differ or are not one-dimensional, or an interval ends before it begins.
        ImportError
            If Matplotlib is not installed.
        """
        display = cls(
            y_true,
            y_pred,
            time=time,
            intervals=intervals,
            history=history,
            history_time=history_time,
            name=name,
            unit=unit,
        )
        return display.plot(ax=ax, **line_kw)

    def plot(self, ax: Axes | None = None, **line_kw: Any) -> ForecastDisplay:
        """Draw on `ax`, or on a new figure; further arguments go to `Axes.plot` of the forecast."""
        ax = new_axes(ax, (8, 3.5))
        measured: dict[str, Any] = {"color": _MEASURED, "linewidth": 1.2, "label": "measured"}
        self.history_line_, self.lines_, self.bands_ = None, [], {}
        if self.history is not None and self.history_time is not None:
            time, history = self.history_time, self.history
            if self.y_true is not None:  # without a gap before what came true
                time, history = np.append(time, self.time[:1]), np.append(history, self.y_true[:1])
            (self.history_line_,) = ax.plot(time, history, **measured)
            measured["label"] = "_"
        if self.y_true is not None:
            self.lines_ += ax.plot(self.time, self.y_true, **measured)
        # A single value is a point, which a line would not show.
        marker = {"marker": "o", "markersize": 3} if len(self.y_pred) == 1 else {}
        options: dict[str, Any] = {
            "color": COLOURS["blue"],
            "linewidth": 1.5,
            "label": "forecast",
            "zorder": 2.5,
            **marker,
            **line_kw,
        }
        self.lines_ += ax.plot(self.time, self.y_pred, **options)
        colour, n_bands = self.lines_[-1].get_color(), len(self.intervals)
        for number, (coverage, (lower, upper)) in enumerate(self.intervals.items()):
            share = _DARKEST + (_PALEST - _DARKEST) * (number + 1) / n_bands
            self.bands_[coverage] = ax.fill_between(
                self.time,
                lower,
                upper,
                color=_pale(colour, share),
                linewidth=0,
                label=f"{100 * coverage:g} % interval",
                zorder=1 + 0.5 * (n_bands - number) / n_bands,
            )
        label_time(ax, self.time if self.history_time is None else self.history_time)
        ax.set_ylabel(self.unit or "")
        ax.margins(x=0.01)
        title_and_legend(ax, self.name)
        self.ax_, self.figure_ = ax, figure_of(ax)
        return self


class ResidualsDisplay:
    """What a forecast leaves unexplained: the measured value minus the forecast.

    Make it with `from_estimator` or `from_predictions`. The residuals of a good forecast one step ahead are about zero,
    without a pattern over time and without autocorrelation.

    Parameters
    ----------
    residuals : array-like of shape (n_samples,)
        In the order of time. NaN is a gap.
    kind : {"time", "distribution", "autocorrelation"}, default="time"
        Residuals over time; their histogram beside the normal distribution of the same mean and standard deviation; or
        their autocorrelation at every lag, with the bounds within which 95 % of those of white noise lie.
    time : array-like of shape (n_samples,) or None, default=None
        The time of each value; 0, 1, 2, ... if None.
    name : str or None, default=None
        Title of the plot.
    unit : str or None, default=None
        Of the values.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes. Set by `plot`, like the others.
    figure_ : matplotlib.figure.Figure
        The figure that holds it.
    artists_ : list of matplotlib artists
        The curve, or the bars.
    autocorrelation_ : ndarray of float64, shape (n_lags,), or None
        At the lags 1, 2, ..., for ``kind="autocorrelation"``.

    Examples
    --------
    >>> from numrnn.plots import ResidualsDisplay
    >>> display = ResidualsDisplay.from_predictions([1.0, 2.0, 4.0], [1.5, 2.0, 3.0], unit="°C")
    >>> display.artists_[0].get_ydata().tolist()
    [-0.5, 0.0, 1.0]
    >>> display.ax_.get_ylabel()
    'residual (°C)'
    """

    ax_: Axes
    figure_: Figure
    artists_: list[Any]
    autocorrelation_: NDArray[np.float64] | None

    def __init__(
        self,
        residuals: ArrayLike,
        *,
        kind: str = "time",
        time: ArrayLike | None = None,
        name: str | None = None,
        unit: str | None = None,
    ) -> None:
        if kind not in ("time", "distribution", "autocorrelation"):
            raise ValueError(f"kind must be 'time', 'distribution' or 'autocorrelation', got {kind!r}")
        self.residuals = numbers(residuals, "residuals", 1)
        self.time = time_of(time, residuals, len(self.residuals))
        fewest = {"time": 1, "distribution": 2, "autocorrelation": 3}[kind]
        if np.isfinite(self.residuals).sum() < fewest:
            raise ValueError(f"kind={kind!r} needs at least {fewest} residuals that are not NaN")
        self.kind = kind
        self.name = name
        self.unit = unit

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        kind: str = "time",
        time: ArrayLike | None = None,
        name: str | None = None,
        unit: str | None = None,
        ax: Axes | None = None,
        **artist_kw: Any,
    ) -> ResidualsDisplay:
        """Predict with a fitted estimator and draw the residuals.

        Parameters
        ----------
        estimator : object
            Anything fitted with a `predict` that gives one number per sample.
        X : array-like or list of ndarray
            What the estimator predicts from.
        y : array-like of shape (n_samples,)
            What was measured.
        kind, time, name, unit, ax, **artist_kw
            As for `from_predictions`; the name is that of the estimator's class if None.

        Returns
        -------
        display : ResidualsDisplay
        """
        options: dict[str, Any] = {
            "kind": kind,
            "time": time,
            "name": name or type(estimator).__name__,
            "unit": unit,
            "ax": ax,
        }
        return cls.from_predictions(y, estimator.predict(X), **options, **artist_kw)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        kind: str = "time",
        time: ArrayLike | None = None,
        name: str | None = None,
        unit: str | None = None,
        ax: Axes | None = None,
        **artist_kw: Any,
    ) -> ResidualsDisplay:
        """Draw the residuals of a forecast.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_samples,)
            What was measured, and what was forecast.
        kind, time, name, unit
            As for the constructor.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; a new figure if None.
        **artist_kw
            Passed to `Axes.plot`, `Axes.hist` or `Axes.bar`.

        Returns
        -------
        display : ResidualsDisplay

        Raises
        ------
        ValueError
            If the shapes differ or are not one-dimensional, or there are too few values.
        """
        truth, forecast = numbers(y_true, "y_true", 1), numbers(y_pred, "y_pred", 1)
        if truth.shape != forecast.shape:
            raise ValueError(f"y_true and y_pred must have the same shape, got {truth.shape} and {forecast.shape}")
        if time is None:
            time = time_of(None, y_true, len(truth))
        return cls(truth - forecast, kind=kind, time=time, name=name, unit=unit).plot(ax=ax, **artist_kw)

    def plot(self, ax: Axes | None = None, **artist_kw: Any) -> ResidualsDisplay:
        """Draw on `ax`, or on a new figure; further arguments go to `Axes.plot`, `Axes.hist` or `Axes.bar`."""
        ax = new_axes(ax, (8, 3.2) if self.kind != "distribution" else (5, 3.5))
        label = "residual" + (f" ({self.unit})" if self.unit else "")
        self.autocorrelation_ = None
        if self.kind == "time":
            ax.axhline(0, color=GREY, linewidth=0.8)
            options = {"color": COLOURS["blue"], "linewidth": 0.8, "marker": ".", "markersize": 3, **artist_kw}
            self.artists_ = list(ax.plot(self.time, self.residuals, **options))
            label_time(ax, self.time)
            ax.set_ylabel(label)
        elif self.kind == "distribution":
            self._plot_distribution(ax, label, artist_kw)
        else:
            self._plot_autocorrelation(ax, artist_kw)
        title_and_legend(ax, self.name)
        self.ax_, self.figure_ = ax, figure_of(ax)
        return self

    def _plot_distribution(self, ax: Axes, label: str, artist_kw: dict[str, Any]) -> None:
        residuals = self.residuals[np.isfinite(self.residuals)]
        mean, deviation = residuals.mean(), residuals.std()
        options = {"bins": "auto", "density": True, "color": _pale(COLOURS["blue"], 0.5), **artist_kw}
        bars: Any
        _, edges, bars = ax.hist(residuals, label=f"{len(residuals)} residuals", **options)
        self.artists_ = list(bars)
        if deviation > 0:
            x = np.linspace(min(edges[0], mean - 3 * deviation), max(edges[-1], mean + 3 * deviation), 400)
            density = np.exp(-(((x - mean) / deviation) ** 2) / 2) / (deviation * np.sqrt(2 * np.pi))
            normal = f"normal, mean {mean:.3g}, sd {deviation:.3g}"
            self.artists_ += ax.plot(x, density, color=COLOURS["vermilion"], linewidth=1.2, label=normal)
        ax.set(xlabel=label, ylabel="density")

    def _plot_autocorrelation(self, ax: Axes, artist_kw: dict[str, Any]) -> None:
        centred = self.residuals - np.nanmean(self.residuals)
        known = np.isfinite(centred)
        centred = np.where(known, centred, 0.0)
        n = int(known.sum())
        lags = np.arange(1, min(_MOST_LAGS, len(centred) - 2) + 1)
        variance = centred @ centred
        products = np.array([centred[lag:] @ centred[:-lag] for lag in lags])
        self.autocorrelation_ = products / variance if variance > 0 else np.zeros(len(lags))
        bound = 1.96 / np.sqrt(n)
        ax.axhspan(-bound, bound, color="0.92", label="95 % of white noise", zorder=0)
        ax.axhline(0, color=GREY, linewidth=0.8)
        options = {"color": COLOURS["blue"], "width": 0.5, **artist_kw}
        self.artists_ = list(ax.bar(lags, self.autocorrelation_, **options))
        ax.set(xlabel="lag (time steps)", ylabel="autocorrelation")
        ax.locator_params(axis="x", integer=True)


def _of_series(result: Any, series: Any) -> Any:
    """What a forecaster says of one of its series: a Series or an array, or for intervals a table of their ends."""
    if isinstance(result, list):
        if series is None and len(result) > 1:
            raise ValueError(f"series must be the number of one of the {len(result)} series, got None")
        result = result[0 if series is None else series]
    elif "unique_id" in getattr(result, "columns", ()):
        names = list(result["unique_id"].unique())
        if series is None and len(names) == 1:
            series = names[0]
        if series not in names:
            raise ValueError(f"series must be one of {', '.join(map(repr, names))}, got {series!r}")
        result = result[result["unique_id"] == series].set_index("ds").drop(columns="unique_id")
        result = result.get("y", result)
    elif series is not None:
        raise ValueError(f"series must be None, for there is one series, got {series!r}")
    several = np.ndim(result) > 2 or (hasattr(result, "columns") and set(result.columns) != {"lower", "upper"})
    if several or (np.ndim(result) == 2 and not hasattr(result, "columns") and np.shape(result)[1] != 2):
        raise ValueError("a figure shows one target, but the forecaster has several")
    return result


_METRICS = {
    "mae": ("mean absolute error", lambda error: np.nanmean(np.abs(error), axis=0)),
    "rmse": ("root mean square error", lambda error: np.sqrt(np.nanmean(error**2, axis=0))),
}


class ErrorPerHorizonDisplay:
    """The error of forecasts one, two, ... time steps ahead, of one method or several.

    Make it with `from_predictions`, or from errors that are known.

    Parameters
    ----------
    errors : mapping of str to array-like of shape (n_horizons,)
        By the name of the method, the error at every horizon.
    metric : str, default="error"
        What the errors are: the label of the axis.
    unit : str or None, default=None
        Of the errors.
    horizons : array-like of shape (n_horizons,) or None, default=None
        How many time steps ahead; 1, 2, ... if None.
    name : str or None, default=None
        Title of the plot.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes, on which errors begin at zero. Set by `plot`, like the others.
    figure_ : matplotlib.figure.Figure
        The figure that holds it.
    lines_ : dict of str to matplotlib.lines.Line2D
        By the name of the method.

    Examples
    --------
    >>> from numrnn.plots import ErrorPerHorizonDisplay
    >>> display = ErrorPerHorizonDisplay.from_predictions(
    ...     [[1.0, 2.0], [3.0, 5.0]], {"zero": [[0.0, 0.0], [0.0, 0.0]], "LSTM": [[1.0, 1.0], [2.0, 4.0]]}, unit="m"
    ... )
    >>> display.lines_["zero"].get_ydata().tolist()
    [2.0, 3.5]
    >>> display.ax_.get_ylabel()
    'mean absolute error (m)'
    """

    ax_: Axes
    figure_: Figure
    lines_: dict[str, Line2D]

    def __init__(
        self,
        errors: Mapping[str, ArrayLike],
        *,
        metric: str = "error",
        unit: str | None = None,
        horizons: ArrayLike | None = None,
        name: str | None = None,
    ) -> None:
        if not errors:
            raise ValueError("errors must have at least one method, got none")
        self.errors = {key: numbers(values, f"the errors of {key!r}", 1) for key, values in errors.items()}
        sizes = {key: len(values) for key, values in self.errors.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"all methods must have errors for the same number of horizons, got {sizes}")
        n_horizons = next(iter(sizes.values()))
        self.horizons = np.arange(1, n_horizons + 1) if horizons is None else numbers(horizons, "horizons", 1)
        if len(self.horizons) != n_horizons:
            raise ValueError(f"horizons must have one entry for each of {n_horizons}, got {len(self.horizons)}")
        self.metric = metric
        self.unit = unit
        self.name = name

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike | Mapping[str, ArrayLike],
        *,
        metric: str = "mae",
        unit: str | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> ErrorPerHorizonDisplay:
        """Measure the errors of forecasts from many origins and draw them.

        Parameters
        ----------
        y_true : array-like of shape (n_origins, n_horizons)
            What was measured so many time steps after each origin. NaN is left out.
        y_pred : array-like of shape (n_origins, n_horizons), or mapping of str to such arrays
            What was forecast, by one method or by several.
        metric : {"mae", "rmse"}, default="mae"
            The mean absolute error over the origins, or the root of the mean square.
        unit, name
            As for the constructor.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; a new figure if None.
        **line_kw
            Passed to `Axes.plot` of all methods.

        Returns
        -------
        display : ErrorPerHorizonDisplay

        Raises
        ------
        ValueError
            If the shapes differ or the metric is unknown.
        """
        if metric not in _METRICS:
            raise ValueError(f"metric must be one of {', '.join(map(repr, _METRICS))}, got {metric!r}")
        label, mean = _METRICS[metric]
        truth = numbers(y_true, "y_true", 2)
        methods = y_pred if isinstance(y_pred, Mapping) else {"forecast": y_pred}
        errors = {}
        for key, forecast in methods.items():
            forecast = numbers(forecast, f"the forecast {key!r}", 2)
            if forecast.shape != truth.shape:
                raise ValueError(
                    f"the forecast {key!r} must have the shape of y_true, {truth.shape}, got {forecast.shape}"
                )
            errors[key] = mean(forecast - truth)
        return cls(errors, metric=label, unit=unit, name=name).plot(ax=ax, **line_kw)

    def plot(self, ax: Axes | None = None, **line_kw: Any) -> ErrorPerHorizonDisplay:
        """Draw a line for each method on `ax`, or on a new figure; further arguments go to `Axes.plot`."""
        ax = new_axes(ax, (6, 3.5))
        self.lines_ = {}
        marker = "o" if len(self.horizons) <= 60 else None
        for (key, values), colour in zip(self.errors.items(), _cycle(len(self.errors)), strict=True):
            options = {"color": colour, "marker": marker, "markersize": 3.5, "label": key, **line_kw}
            (self.lines_[key],) = ax.plot(self.horizons, values, **options)
        ax.set_xlabel("horizon (time steps ahead)")
        ax.set_ylabel(self.metric + (f" ({self.unit})" if self.unit else ""))
        ax.set_ylim(bottom=0)
        whole_numbers(ax, self.horizons)
        ax.grid(axis="y", color="0.9", linewidth=0.8)
        ax.set_axisbelow(True)
        title_and_legend(ax, self.name, None if len(self.errors) > 1 else [])
        self.ax_, self.figure_ = ax, figure_of(ax)
        return self


def _cycle(count: int) -> list[str]:
    colours = list(COLOURS.values())
    return [colours[number % len(colours)] for number in range(count)]
