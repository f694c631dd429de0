"""Plots of a training and of a forecast, as displays in the manner of scikit-learn.

Matplotlib is imported when something is drawn, not before: ``pip install "numrnn[plot]"``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = ["ForecastDisplay", "TrainingCurveDisplay"]


def _axes(ax: Axes | None) -> Axes:
    """The axes to draw on: those given, or those of a new figure."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError('plots need Matplotlib, which is not installed: pip install "numrnn[plot]"') from error
    return pyplot.subplots(layout="constrained")[1]


def _figure(ax: Axes) -> Figure:
    """The whole figure, if the axes are in a part of one too."""
    return ax.figure.figure


class TrainingCurveDisplay:
    """Loss after each epoch, and the validation score if there is one.

    Make it with `from_estimator`.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs,)
        The training loss of each epoch.
    validation_scores : array-like of shape (n_epochs,) or None, default=None
        The validation score of each epoch, drawn against an axis on the right.
    name : str or None, default=None
        Title of the plot.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes of the loss. Set by `plot`, like the others.
    figure_ : matplotlib.figure.Figure
        The figure that holds it.
    lines_ : list of matplotlib.lines.Line2D
        The curve of the loss and, if there is one, that of the validation score.

    Examples
    --------
    >>> from numrnn.plots import TrainingCurveDisplay
    >>> display = TrainingCurveDisplay([1.0, 0.5, 0.3], name="RNNClassifier").plot()
    >>> display.ax_.get_xlabel()
    'epoch'
    """

    ax_: Axes
    figure_: Figure
    lines_: list[Line2D]

    def __init__(
        self, loss_curve: ArrayLike, validation_scores: ArrayLike | None = None, *, name: str | None = None
    ) -> None:
        self.loss_curve: NDArray = np.asarray(loss_curve, dtype=np.float64)
        self.validation_scores = None if validation_scores is None else np.asarray(validation_scores, dtype=np.float64)
        self.name = name

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, name: str | None = None, ax: Axes | None = None, **line_kw: Any
    ) -> TrainingCurveDisplay:
        """Draw the curves of a fitted estimator.

        Parameters
        ----------
        estimator : RNNClassifier or RNNRegressor
            A fitted estimator with `loss_curve_`, and `validation_scores_` if it was stopped early.
        name : str or None, default=None
            Title of the plot; the name of the estimator's class if None.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; a new figure if None.
        **line_kw
            Passed to `Axes.plot` of the loss.

        Returns
        -------
        display : TrainingCurveDisplay

        Raises
        ------
        ValueError
            If the estimator has no `loss_curve_`.
        ImportError
            If Matplotlib is not installed.
        """
        loss_curve = getattr(estimator, "loss_curve_", None)
        if loss_curve is None:
            raise ValueError(f"{type(estimator).__name__} has no loss_curve_: fit it first")
        display = cls(loss_curve, getattr(estimator, "validation_scores_", None), name=name or type(estimator).__name__)
        return display.plot(ax=ax, **line_kw)

    def plot(self, ax: Axes | None = None, **line_kw: Any) -> TrainingCurveDisplay:
        """Draw the curves on `ax`, or on a new figure; further arguments go to `Axes.plot` of the loss."""
        ax = _axes(ax)
        epochs = np.arange(1, len(self.loss_curve) + 1)
        self.lines_ = ax.plot(epochs, self.loss_curve, **{"label": "loss", **line_kw})
        ax.set(xlabel="epoch", ylabel="training loss", title=self.name)
        ax.locator_params(axis="x", integer=True)
        if self.validation_scores is not None and len(self.validation_scores):
            right = ax.twinx()
            scored = np.arange(1, len(self.validation_scores) + 1)
            self.lines_ += right.plot(scored, self.validation_scores, color="tab:orange", label="validation score")
            right.set_ylabel("validation score")
            ax.legend(handles=self.lines_)
        self.ax_, self.figure_ = ax, _figure(ax)
        return self


class ForecastDisplay:
    """A forecast against what came true, over time.

    Make it with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        What was measured.
    y_pred : array-like of shape (n_samples,)
        What was forecast.
    time : array-like of shape (n_samples,) or None, default=None
        The time of each value, numbers or datetime64; 0, 1, 2, ... if None.
    name : str or None, default=None
        Title of the plot.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes. Set by `plot`, like the others.
    figure_ : matplotlib.figure.Figure
        The figure that holds it.
    lines_ : list of matplotlib.lines.Line2D
        The curves of truth and forecast.

    Examples
    --------
    >>> from numrnn.plots import ForecastDisplay
    >>> display = ForecastDisplay.from_predictions([1.0, 2.0, 4.0], [1.5, 2.0, 3.0])
    >>> [line.get_label() for line in display.lines_]
    ['measured', 'forecast']
    """

    ax_: Axes
    figure_: Figure
    lines_: list[Line2D]

    def __init__(
        self, y_true: ArrayLike, y_pred: ArrayLike, *, time: ArrayLike | None = None, name: str | None = None
    ) -> None:
        self.y_true, self.y_pred = np.asarray(y_true), np.asarray(y_pred)
        self.time = np.arange(len(self.y_true)) if time is None else np.asarray(time)
        self.name = name
        shapes = self.y_true.shape, self.y_pred.shape, self.time.shape
        if self.y_true.ndim != 1 or len(set(shapes)) > 1:
            raise ValueError(
                "y_true, y_pred and time must have one and the same shape (n_samples,), got "
                f"{shapes[0]}, {shapes[1]} and {shapes[2]}"
            )

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        time: ArrayLike | None = None,
        name: str | None = None,
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
        time, name, ax, **line_kw
            As for `from_predictions`; the name is that of the estimator's class if None.

        Returns
        -------
        display : ForecastDisplay
        """
        name = name or type(estimator).__name__
        return cls.from_predictions(y, estimator.predict(X), time=time, name=name, ax=ax, **line_kw)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        time: ArrayLike | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> ForecastDisplay:
        """Draw a forecast against the truth.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_samples,)
            What was measured, and what was forecast.
        time : array-like of shape (n_samples,) or None, default=None
            The time of each value; 0, 1, 2, ... if None.
        name : str or None, default=None
            Title of the plot.
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
            If the shapes differ or are not one-dimensional.
        ImportError
            If Matplotlib is not installed.
        """
        return cls(y_true, y_pred, time=time, name=name).plot(ax=ax, **line_kw)

    def plot(self, ax: Axes | None = None, **line_kw: Any) -> ForecastDisplay:
        """Draw both curves on `ax`, or on a new figure; further arguments go to `Axes.plot` of the forecast."""
        ax = _axes(ax)
        truth = ax.plot(self.time, self.y_true, color="0.6", linewidth=2.0, label="measured")
        forecast = ax.plot(self.time, self.y_pred, **{"linewidth": 1.0, "label": "forecast", **line_kw})
        ax.set(xlabel="time", title=self.name)
        if np.issubdtype(self.time.dtype, np.datetime64):
            from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

            locator = AutoDateLocator()
            ax.xaxis.set_major_locator(locator)
            ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        ax.legend()
        self.lines_ = truth + forecast
        self.ax_, self.figure_ = ax, _figure(ax)
        return self
