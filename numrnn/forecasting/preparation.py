"""From series to what the network reads, and from what it says back to the units of the series.

In order: a transformation of the values (`log`), missing values filled by the last one observed, differences, scaling;
and beside these the flags of missing values, covariates and the calendar.

A forecast h steps ahead from time t is a difference to values that are known at t: with a lag m the target is

    y[t + h] - y[t + h - m * ceil(h / m)],

for one step ahead the ordinary difference, and so on one after the other for several lags. Nothing has to be summed up,
so that quantiles of the difference are quantiles of the value.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.forecasting.series import Panel

__all__ = ["CALENDAR", "TRANSFORMATIONS", "Preparation", "Settings", "calendar_features"]

Array = NDArray[np.float64]

_LEARNED = ("flags", "n_targets", "location", "scale", "static", "covariate_location", "covariate_scale")

# So many rows are prepared at once: temporary arrays stay small beside the series.
_CHUNK = 2**14


# --------------------------------------------------------------------------------------------------- transformations
TRANSFORMATIONS: dict[str, tuple[Any, Any, float]] = {
    # forward, inverse, values must be above
    "log": (np.log, np.exp, 0.0),
    "log1p": (np.log1p, np.expm1, -1.0),
}


# ------------------------------------------------------------------------------------------------------- the calendar
def _fraction(times: NDArray[np.datetime64], unit: str) -> Array:
    """How much of the day, month or year has passed."""
    begin = times.astype(f"datetime64[{unit}]")
    end = (begin + 1).astype(times.dtype)
    begin = begin.astype(times.dtype)
    return (times - begin) / (end - begin)


def _fraction_of_week(times: NDArray[np.datetime64]) -> Array:
    monday = np.datetime64("1970-01-05", "ns")
    return ((times - monday) / np.timedelta64(7, "D")) % 1.0


CALENDAR: dict[str, Any] = {
    "time_of_day": lambda times: _fraction(times, "D"),
    "time_of_week": _fraction_of_week,
    "time_of_month": lambda times: _fraction(times, "M"),
    "time_of_year": lambda times: _fraction(times, "Y"),
}


def calendar_features(times: NDArray[np.datetime64], names: Sequence[str]) -> Array:
    """Sine and cosine of the position within the day, week, month or year.

    Parameters
    ----------
    times : ndarray of datetime64[ns], shape (n_steps,)
    names : sequence of {"time_of_day", "time_of_week", "time_of_month", "time_of_year"}

    Returns
    -------
    ndarray of shape (n_steps, 2 * n_names)
    """
    angles = [2 * np.pi * CALENDAR[name](times) for name in names]
    return np.stack([function(angle) for angle in angles for function in (np.sin, np.cos)], axis=1)


# -------------------------------------------------------------------------------------------------------- preparation
def lags_of(estimator: Any) -> tuple[int, ...]:
    """The lags of the differences that the parameter `difference` of an estimator asks for.

    Raises
    ------
    ValueError
        If they are no positive whole numbers.
    """
    lags = np.atleast_1d(np.asarray(() if estimator.difference is None else estimator.difference))
    if len(lags) and (lags.ndim != 1 or lags.dtype.kind not in "iu" or (lags < 1).any()):
        raise ValueError(
            f"The 'difference' parameter of {type(estimator).__name__} must be positive lags. Got "
            f"{estimator.difference!r} instead."
        )
    return tuple(int(lag) for lag in lags)


@dataclass(frozen=True)
class Settings:
    """What the preparation of a forecaster is asked to do."""

    window_length: int
    # Steps that one output of the network has, and those that a forecast is asked for.
    block: int
    horizon: int
    lags: tuple[int, ...]
    transformation: str | None
    scaling: str | None
    calendar: tuple[str, ...]
    # Columns of the covariates that are known for the future, and those that are not.
    known: tuple[int, ...]
    past: tuple[int, ...]
    # Whether a decoder reads what is known of the steps to come, one after the other; else rows see it ahead of time.
    decoder: bool = False

    @property
    def n_lost(self) -> int:
        """Rows at the beginning of a series that have no difference."""
        return sum(self.lags)

    @property
    def n_history(self) -> int:
        """Rows up to the origin of a forecast that it needs."""
        anchors = max(sum(self.anchor_lags(h)) - h for h in range(1, self.horizon + 1)) + 1
        return max(self.window_length + self.n_lost, anchors)

    @property
    def leads(self) -> tuple[int, ...]:
        """Steps ahead of a row whose known covariates stand in it: together all of the future of a window's end."""
        if not self.known and not self.calendar:
            return ()
        if self.decoder:
            return (0,)
        ahead = tuple(range(self.block, 0, -self.window_length))
        return ahead if self.block == 1 else (0, *ahead)

    def anchor_lags(self, h: int) -> tuple[int, ...]:
        """For each lag the least multiple of it that reaches back from h steps ahead to what is known."""
        return tuple(lag * -(-h // lag) for lag in self.lags)

    def anchors(self, h: int) -> list[tuple[int, float]]:
        """Shifts back from the target and their signs, whose sum with the target is its difference."""
        terms = []
        lags = self.anchor_lags(h)
        for chosen in itertools.product((False, True), repeat=len(lags)):
            if any(chosen):
                shift = sum(lag for lag, there in zip(lags, chosen, strict=True) if there)
                terms.append((shift, -1.0 if sum(chosen) % 2 else 1.0))
        return terms


class Preparation:
    """What was learned from the series of `fit`: scales; and how rows are made with it.

    Parameters
    ----------
    settings : Settings
    panel : Panel
        Series to learn from; rows of the training part alone if `lengths` says so.
    static : ndarray of shape (n_series, n_static) or None
    dtype : dtype
        Of the rows.

    Attributes
    ----------
    location, scale : ndarray of shape (n_series, n_targets)
        Of the transformed and differenced series.
    flags : bool
        Whether rows say which values were missing: there are such values in the series to learn from.
    """

    def __init__(self, settings: Settings, panel: Panel, static: Array | None, dtype: np.dtype) -> None:
        self.settings = settings
        self.dtype = dtype
        parts = [panel.values[panel.rows(number)] for number in range(len(panel))]
        self.flags = any(bool(np.isnan(part.sum())) for part in parts)
        self.n_targets = panel.n_targets
        shape = (len(panel), panel.n_targets)
        self.location, self.scale = np.zeros(shape), np.ones(shape)
        levels = self.levels(panel) if settings.lags or settings.transformation else panel.values
        for number in range(len(panel)):
            for k in range(panel.n_targets):
                self.location[number, k], self.scale[number, k] = self._location_and_scale(
                    levels[panel.rows(number), k]
                )
        self.static = np.zeros((len(panel), 0)) if static is None else _standardized(static)
        self.covariate_location = self.covariate_scale = np.zeros(0)
        if panel.covariates is not None:
            inside = [panel.covariates[panel.rows(number)] for number in range(len(panel))]
            location, scale = zip(
                *(_moments([part[:, k] for part in inside]) for k in range(inside[0].shape[1])), strict=True
            )
            self.covariate_location, self.covariate_scale = np.array(location), np.array(scale)

    def share_scales(self, panel: Panel) -> None:
        """Give all series one location and scale, the moments of all of them together."""
        levels = self.levels(panel)
        for k in range(self.n_targets):
            parts = [levels[panel.rows(number), k] for number in range(len(panel))]
            for lag in self.settings.lags:
                parts = [part[lag:] - part[:-lag] for part in parts]
            self.location[:, k], self.scale[:, k] = _moments(parts)

    def for_series(self, n_series: int) -> Preparation:
        """The same preparation for other series, with the scales of the first of these: those that all share."""
        other = copy(self)
        first = np.zeros(n_series, dtype=np.int64)
        other.location, other.scale, other.static = self.location[first], self.scale[first], self.static[first]
        return other

    def _location_and_scale(self, values: Array) -> tuple[float, float]:
        settings = self.settings
        for lag in settings.lags:
            values = values[lag:] - values[:-lag]
        if settings.scaling is None:
            return 0.0, 1.0
        if settings.scaling == "mean":
            mean = float(np.nanmean(np.abs(values)))
            return 0.0, mean if mean > 0 else 1.0
        if settings.scaling == "minmax":
            low, high = float(np.nanmin(values)), float(np.nanmax(values))
            return low, high - low if high > low else 1.0
        return _moments([values])

    def plain(self) -> dict[str, Any]:
        """What was learned, in terms of numbers, tuples and arrays."""
        learned = {name: getattr(self, name) for name in _LEARNED}
        return {"settings": asdict(self.settings), "dtype": self.dtype.name, **learned}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Preparation:
        """The preparation that `plain` was made of."""
        preparation = cls.__new__(cls)
        preparation.settings = Settings(**plain["settings"])
        preparation.dtype = np.dtype(plain["dtype"])
        for name in _LEARNED:
            setattr(preparation, name, plain[name])
        return preparation

    # ------------------------------------------------------------------------------------------------------ levels
    def levels(self, panel: Panel) -> Array:
        """The series transformed and without gaps (n_rows, n_targets); their own values where these need neither."""
        levels = panel.values
        if np.isnan(levels.sum()):
            levels = np.array(levels)
            for number in range(len(panel)):
                rows = panel.rows(number)
                levels[rows] = _fill_forward(levels[rows], panel.before[number])
        return self.transform(levels)

    def transform(self, values: Array) -> Array:
        if self.settings.transformation is None:
            return values
        return TRANSFORMATIONS[self.settings.transformation][0](values)

    def restore(self, levels: Array) -> Array:
        if self.settings.transformation is None:
            return levels
        return TRANSFORMATIONS[self.settings.transformation][1](levels)

    # -------------------------------------------------------------------------------------------------------- rows
    @property
    def n_target_columns(self) -> int:
        return self.n_targets * (1 + self.flags)

    @property
    def n_features(self) -> int:
        settings = self.settings
        per_lead = len(settings.known) + 2 * len(settings.calendar)
        past = len(settings.past)
        return self.n_target_columns + past + per_lead * len(settings.leads) + self.static.shape[1]

    @property
    def n_ahead(self) -> int:
        """What a decoder reads of a step to come: how far it is, and the columns of a row that are known beforehand."""
        return 1 + self.n_features - self.n_target_columns - len(self.settings.past)

    def write_targets(self, rows: NDArray, levels: Array, missing: NDArray | None, number: int | NDArray) -> None:
        """The columns of the series itself: scaled differences, and flags of missing values.

        Parameters
        ----------
        rows : ndarray of shape (..., n_steps, n_features)
            Written.
        levels : ndarray of shape (..., n_steps + n_lost, n_targets)
        missing : ndarray of bool, shape (..., n_steps, n_targets), or None
        number : int or ndarray of int
            Of the series.
        """
        for lag in self.settings.lags:
            levels = levels[..., lag:, :] - levels[..., :-lag, :]
        location, scale = self.location[number], self.scale[number]
        if np.ndim(number):
            location, scale = location[:, np.newaxis], scale[:, np.newaxis]
        rows[..., : self.n_targets] = (levels - location) / scale
        if self.flags:
            rows[..., self.n_targets : 2 * self.n_targets] = 0.0 if missing is None else missing

    def exogenous(
        self,
        number: int,
        begin: int,
        end: int,
        covariates: Array | None,
        future: Array | None,
        times: NDArray[np.datetime64] | None,
        out: NDArray,
    ) -> None:
        """Write the columns beside the series for its rows `begin` to `end`.

        Parameters
        ----------
        covariates : ndarray of shape (n_steps, n_covariates) or None
            Of the whole series.
        future : ndarray of shape (n_future, n_known) or None
            Known covariates of the steps that follow. Beyond them the last are taken.
        times : ndarray of datetime64 or None
            Time stamps of the series and of steps that follow.
        out : ndarray of shape (end - begin, n_features - n_target_columns)
        """
        settings = self.settings
        steps = np.arange(begin, end)
        column = 0
        if settings.past:
            assert covariates is not None
            chosen = np.minimum(steps, len(covariates) - 1)
            out[:, : len(settings.past)] = self._standardize(covariates[chosen][:, settings.past], settings.past)
            column = len(settings.past)
        for lead in settings.leads:
            if settings.known:
                assert covariates is not None
                known = self._known(covariates, future, steps + lead)
                out[:, column : column + len(settings.known)] = self._standardize(known, settings.known)
                column += len(settings.known)
            if settings.calendar:
                assert times is not None
                chosen = np.minimum(steps + lead, len(times) - 1)
                out[:, column : column + 2 * len(settings.calendar)] = calendar_features(
                    times[chosen], settings.calendar
                )
                column += 2 * len(settings.calendar)
        out[:, column:] = self.static[number]

    def _known(self, covariates: Array, future: Array | None, steps: NDArray[np.int64]) -> Array:
        """Known covariates of time steps, some of them in the future."""
        length, n_future = len(covariates), 0 if future is None else len(future)
        steps = np.minimum(steps, length + n_future - 1)
        known = covariates[np.minimum(steps, length - 1)][:, self.settings.known]
        if future is not None:
            later = steps >= length
            known[later] = future[steps[later] - length]
        return known

    def _standardize(self, covariates: Array, columns: tuple[int, ...]) -> Array:
        chosen = list(columns)
        scaled = (covariates - self.covariate_location[chosen]) / self.covariate_scale[chosen]
        return np.nan_to_num(scaled, copy=False, nan=0.0)  # a missing covariate is taken as its mean

    def rows(
        self, panel: Panel, levels: Array, future: Sequence[Array] | None = None, n_future: int = 0
    ) -> tuple[NDArray, NDArray[np.int64]]:
        """What the network reads, and where each series begins in it.

        Parameters
        ----------
        panel : Panel
        levels : ndarray of shape (n_rows, n_targets)
            From `levels`.
        future : list of ndarray, each (n_steps, n_known), or None
            Known covariates of the steps after each series.
        n_future : int, default=0
            Rows to add to each series, without the columns of its own values.

        Returns
        -------
        rows : ndarray of shape (n_rows + n_series * n_future, n_features)
            Zero where a difference has no value.
        starts : ndarray of int64, shape (n_series,)
        """
        starts = panel.starts + n_future * np.arange(len(panel))
        rows = np.zeros((len(levels) + n_future * len(panel), self.n_features), dtype=self.dtype)
        lost = self.settings.n_lost
        for number in range(len(panel)):
            length = int(panel.lengths[number])
            inside, first = panel.rows(number), int(starts[number])
            values, series_levels = panel.values[inside], levels[inside]
            covariates = None if panel.covariates is None else panel.covariates[inside]
            later = None if future is None else future[number]
            # Time stamps go on after the series: leads reach there.
            times = panel.times(number, n_future + self.settings.block) if self.settings.calendar else None
            for begin in range(0, length + n_future, _CHUNK):
                end = min(begin + _CHUNK, length + n_future)
                part = rows[first + begin : first + end]
                self.exogenous(number, begin, end, covariates, later, times, part[:, self.n_target_columns :])
            for begin in range(lost, length, _CHUNK):
                end = min(begin + _CHUNK, length)
                missing = np.isnan(values[begin:end]) if self.flags else None
                self.write_targets(
                    rows[first + begin : first + end], series_levels[begin - lost : end], missing, number
                )
        return rows, starts

    # ----------------------------------------------------------------------------------------------------- targets
    def baseline(self, levels: Array, ends: int | NDArray[np.int64], h: int) -> Array | float:
        """What is subtracted from the level h steps after each of the rows `ends`; (n_ends, n_targets).

        `levels` may be (n_rows, n_targets), or (n_ends, n_rows, n_targets) with one common end.
        """
        total: Array | float = 0.0
        for shift, sign in self.settings.anchors(h):
            total = total - sign * (levels[ends + (h - shift)] if levels.ndim == 2 else levels[:, ends + (h - shift)])
        return total


def _moments(parts: Sequence[Array]) -> tuple[float, float]:
    """Mean and standard deviation of what is not NaN; the deviation of a constant is 1."""
    count = sum(int(np.count_nonzero(~np.isnan(part))) for part in parts)
    if count == 0:
        return 0.0, 1.0
    mean = sum(float(np.nansum(part)) for part in parts) / count
    square = 0.0
    for part in parts:
        for begin in range(0, len(part), _CHUNK):
            square += float(np.nansum((part[begin : begin + _CHUNK] - mean) ** 2))
    deviation = np.sqrt(square / count)
    return mean, float(deviation) if deviation > 10 * np.finfo(np.float64).eps * abs(mean) else 1.0


def _standardized(values: Array) -> Array:
    location, scale = zip(*(_moments([values[:, k]]) for k in range(values.shape[1])), strict=True)
    return (values - np.array(location)) / np.array(scale)


def _fill_forward(values: Array, before: Array) -> Array:
    """Missing values become the last one observed, at the beginning the first one."""
    filled = np.array(values)
    for k in range(filled.shape[1]):
        column = filled[:, k]
        missing = np.isnan(column)
        if not missing.any():
            continue
        if missing.all():
            column[:] = before[k]
            continue
        last = np.where(missing, -1, np.arange(len(column)))
        np.maximum.accumulate(last, out=last)
        first = before[k] if not np.isnan(before[k]) else column[int(np.argmin(missing))]
        filled[:, k] = np.where(last < 0, first, column[np.maximum(last, 0)])
    return filled
