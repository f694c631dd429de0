"""A series and how unusual each of its time steps is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numrnn.plots.axes import COLOURS, GREY, figure_of, label_time, numbers, pyplot, time_of, title_and_legend
from numrnn.reading import plain_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = ["AnomalyScoresDisplay"]


class AnomalyScoresDisplay:
    """A series above its anomaly scores, on one axis of time.

    Make it with `from_estimator` or `from_scores`.

    Parameters
    ----------
    values : array-like of shape (n_timesteps,)
        The series. NaN is a gap.
    scores : array-like of shape (n_timesteps,)
        The higher, the more unusual. (`score_samples` of scikit-learn is the other way round: pass its negative.) NaN
        where there is none.
    threshold : float or None, default=None
        Time steps with a higher score are marked as anomalies.
    truth : array-like of bool, shape (n_timesteps,), or None, default=None
        Time steps that are known to be anomalous; they are shaded.
    time : array-like of shape (n_timesteps,) or None, default=None
        The time of each value, numbers or dates. None is the index of `values` if it is a Series, else 0, 1, 2, ...
    name : str or None, default=None
        Title of the plot.
    unit : str or None, default=None
        Of the values, with their name if you like: the label of the axis.

    Attributes
    ----------
    axes_ : ndarray of two matplotlib.axes.Axes
        Those of the series and of the scores. Set by `plot`, like the others.
    figure_ : matplotlib.figure.Figure
        The figure that holds them.
    lines_ : list of two matplotlib.lines.Line2D
        The series and the scores.
    anomalies_ : matplotlib.collections.PathCollection or None
        The marked time steps, if there is a threshold.
    shades_ : list of matplotlib.patches.Rectangle
        One for each run of known anomalies.

    Examples
    --------
    >>> from numrnn.plots import AnomalyScoresDisplay
    >>> display = AnomalyScoresDisplay.from_scores([1.0, 9.0, 1.0], [0.1, 4.0, 0.3], threshold=3.0)
    >>> display.anomalies_.get_offsets().tolist()
    [[1.0, 9.0]]
    """

    axes_: NDArray[Any]
    figure_: Figure
    lines_: list[Line2D]
    anomalies_: PathCollection | None
    shades_: list[Any]

    def __init__(
        self,
        values: ArrayLike,
        scores: ArrayLike,
        *,
        threshold: float | None = None,
        truth: ArrayLike | None = None,
        time: ArrayLike | None = None,
        name: str | None = None,
        unit: str | None = None,
    ) -> None:
        self.values = numbers(values, "values", 1)
        self.scores = numbers(scores, "scores", 1)
        if self.scores.shape != self.values.shape:
            raise ValueError(
                f"values and scores must have the same shape, got {self.values.shape} and {self.scores.shape}"
            )
        self.truth = None
        if truth is not None:
            self.truth = plain_array(truth, "truth")
            if self.truth.shape != self.values.shape or self.truth.dtype != np.bool_:
                raise ValueError(
                    f"truth must be an array of bool of the shape of values, {self.values.shape}, got "
                    f"{self.truth.dtype} of shape {self.truth.shape}"
                )
        self.time = time_of(time, values, len(self.values))
        self.threshold = threshold
        self.name = name
        self.unit = unit

    @classmethod
    def from_estimator(
        cls,
        detector: Any,
        X: Any,
        *,
        truth: ArrayLike | None = None,
        time: ArrayLike | None = None,
        name: str | None = None,
        unit: str | None = None,
        ax: Any = None,
        **line_kw: Any,
    ) -> AnomalyScoresDisplay:
        """Draw a series and what a detector says of it.

        The score is minus that of `score_samples`, the threshold minus `offset_`; the marked time steps are those of
        which `predict` says -1.

        Parameters
        ----------
        detector : RNNAnomalyDetector
            Fitted, with ``level="step"``.
        X : array-like of shape (n_timesteps,), Series, or DataFrame of one column
            The series. Its first time steps, which cannot be judged, have no score in the plot.
        truth, time, unit, ax, **line_kw
            As for `from_scores`.
        name : str or None, default=None
            Title of the plot; the name of the detector's class if None.

        Returns
        -------
        display : AnomalyScoresDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the detector is not fitted.
        ValueError
            If X is not one series of one number, or the detector judges whole sequences or symbols.
        ImportError
            If Matplotlib is not installed.
        """
        if detector.level != "step" or detector.method == "likelihood":
            raise ValueError(
                'a detector with level="step" of series of numbers was expected, got '
                f"level={detector.level!r}, method={detector.method!r}"
            )
        scores = detector.score_samples(X)
        index = getattr(scores, "index", None) if hasattr(scores, "dtype") else None
        # A detector with a frequency has scores of times that are missing in X, too.
        values = X if index is None else X.reindex(index)
        if isinstance(scores, list) or np.ndim(scores) != 1 or np.size(values) != np.size(scores):
            raise ValueError("X must be one series of one number per time step")
        values = np.asarray(values, dtype=np.float64).reshape(-1)
        badness = -np.asarray(scores, dtype=np.float64)
        badness[: detector.n_unjudged_] = np.nan
        display = cls(
            values,
            badness,
            threshold=-detector.offset_,
            truth=truth,
            time=index if time is None else time,
            name=type(detector).__name__ if name is None else name,
            unit=unit,
        )
        return display.plot(ax=ax, **line_kw)

    @classmethod
    def from_scores(
        cls,
        values: ArrayLike,
        scores: ArrayLike,
        *,
        threshold: float | None = None,
        truth: ArrayLike | None = None,
        time: ArrayLike | None = None,
        name: str | None = None,
        unit: str | None = None,
        ax: Any = None,
        **line_kw: Any,
    ) -> AnomalyScoresDisplay:
        """Draw a series and its scores.

        Parameters
        ----------
        values, scores, threshold, truth, time, name, unit
            As for the constructor.
        ax : sequence of two matplotlib.axes.Axes or None, default=None
            Where to draw the series and the scores; a new figure if None.
        **line_kw
            Passed to `Axes.plot` of the series.

        Returns
        -------
        display : AnomalyScoresDisplay

        Raises
        ------
        ValueError
            If the shapes differ.
        ImportError
            If Matplotlib is not installed.
        """
        display = cls(values, scores, threshold=threshold, truth=truth, time=time, name=name, unit=unit)
        return display.plot(ax=ax, **line_kw)

    def plot(self, ax: Any = None, **line_kw: Any) -> AnomalyScoresDisplay:
        """Draw on two axes, or on a new figure; further arguments go to `Axes.plot` of the series."""
        if ax is None:
            _, ax = pyplot().subplots(
                2, sharex=True, layout="constrained", figsize=(8, 4.5), gridspec_kw={"height_ratios": [2, 1]}
            )
        axes = np.asarray(ax, dtype=object)
        if axes.shape != (2,):
            raise ValueError(f"ax must be two axes, for the series and for the scores, got {ax!r}")
        above, below = axes
        self.shades_ = self._shade(above) if self.truth is not None else []
        series = {"color": "0.25", "linewidth": 0.9, "label": self.unit or "series", **line_kw}
        self.lines_ = [*above.plot(self.time, self.values, **series)]
        self.lines_ += below.plot(self.time, self.scores, color=COLOURS["blue"], linewidth=0.9)
        self.anomalies_ = None
        if self.threshold is not None:
            found = self.scores > self.threshold
            self.anomalies_ = above.scatter(
                self.time[found],
                self.values[found],
                s=22,
                color=COLOURS["vermilion"],
                zorder=3,
                label=f"above the threshold ({int(found.sum())})",
            )
            below.axhline(self.threshold, color=GREY, linewidth=0.9, linestyle="--", label="threshold")
        above.set_ylabel(self.unit or "")
        below.set_ylabel("anomaly score")
        label_time(below, self.time)
        above.margins(x=0.01)
        below.margins(x=0.01)
        handles = [handle for one in axes for handle in one.get_legend_handles_labels()[0]]
        title_and_legend(above, self.name, handles if len(handles) > 1 else [])
        self.axes_, self.figure_ = axes, figure_of(above)
        return self

    def _shade(self, ax: Axes) -> list[Any]:
        """A background for each run of known anomalies, from its first to its last time step."""
        assert self.truth is not None
        change = np.diff(np.concatenate([[False], self.truth, [False]]).astype(np.int8))
        shades: list[Any] = []
        n = len(self.time)
        for first, last in zip(np.flatnonzero(change == 1), np.flatnonzero(change == -1) - 1, strict=True):
            # A single time step has no width: half a step to both sides.
            before, after = self.time[max(int(first) - 1, 0)], self.time[min(int(last) + 1, n - 1)]
            begin = self.time[first] - (self.time[first] - before) / 2
            end = self.time[last] + (after - self.time[last]) / 2
            label = "known anomaly" if not shades else "_"
            shades.append(ax.axvspan(begin, end, color=COLOURS["orange"], alpha=0.35, linewidth=1.5, label=label))
        return shades
