"""The course of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numrnn.plots.axes import COLOURS, GREY, figure_of, new_axes, numbers, title_and_legend, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = ["TrainingCurveDisplay"]


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
    best_epoch_line_ : matplotlib.lines.Line2D or None
        The epoch with the best validation score, whose weights early stopping keeps.

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
    best_epoch_line_: Line2D | None

    def __init__(
        self, loss_curve: ArrayLike, validation_scores: ArrayLike | None = None, *, name: str | None = None
    ) -> None:
        self.loss_curve: NDArray = numbers(loss_curve, "loss_curve", 1)
        self.validation_scores = (
            None if validation_scores is None else numbers(validation_scores, "validation_scores", 1)
        )
        self.name = name

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, name: str | None = None, ax: Axes | None = None, **line_kw: Any
    ) -> TrainingCurveDisplay:
        """Draw the curves of a fitted estimator.

        Parameters
        ----------
        estimator : RNNClassifier, RNNRegressor, RNNForecaster, ...
            Any fitted estimator with `loss_curve_`, and `validation_scores_` if it was stopped early.
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
        ax = new_axes(ax)
        epochs = np.arange(1, len(self.loss_curve) + 1)
        # A single epoch is a point, which a line would not show.
        marker: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(epochs) == 1 else {}
        self.lines_ = ax.plot(
            epochs, self.loss_curve, **{"color": COLOURS["blue"], "label": "loss", **marker, **line_kw}
        )
        ax.set(xlabel="epoch", ylabel="training loss", title=self.name or "")
        whole_numbers(ax, epochs)
        self.best_epoch_line_ = None
        if self.validation_scores is not None and len(self.validation_scores):
            right = ax.twinx()
            scored = np.arange(1, len(self.validation_scores) + 1)
            self.lines_ += right.plot(
                scored, self.validation_scores, color=COLOURS["vermilion"], label="validation score", **marker
            )
            right.set_ylabel("validation score", color=COLOURS["vermilion"])
            ax.yaxis.label.set_color(self.lines_[0].get_color())
            best = int(np.argmax(self.validation_scores))
            self.best_epoch_line_ = ax.axvline(
                scored[best], color=GREY, linewidth=0.8, linestyle=":", label=f"best epoch ({scored[best]})"
            )
            title_and_legend(ax, self.name, [*self.lines_, self.best_epoch_line_])
        self.ax_, self.figure_ = ax, figure_of(ax)
        return self
