"""Which parts of a source each part of a target came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from numrnn.plots.axes import figure_of, new_axes, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

__all__ = ["AttentionMapDisplay"]

# Inches of a token, of a letter of a label and of what else surrounds the map, and the longest side.
_CELL, _LETTER, _MARGIN, _LONGEST = 0.32, 0.09, 0.6, 12.0


class AttentionMapDisplay:
    """The attention of a sequence-to-sequence model: source tokens from left to right, target tokens downwards.

    Every row has the weights that the decoder gave to the states of the encoder when it wrote one token; they sum to 1.
    Make it with `from_estimator`.

    Parameters
    ----------
    weights : array-like of shape (n_target_tokens, n_source_tokens)
    source, target : sequence or None, default=None
        A label for each token. Their numbers if None.
    name : str or None, default=None
        Title of the plot.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes. Set by `plot`, like the others.
    figure_ : matplotlib.figure.Figure
        The figure that holds it.
    image_ : matplotlib.image.AxesImage
        The map.
    colorbar_ : matplotlib.colorbar.Colorbar

    Examples
    --------
    >>> from numrnn.plots import AttentionMapDisplay
    >>> display = AttentionMapDisplay([[0.9, 0.1], [0.2, 0.8]], source=["guten", "Tag"], target=["good", "day"]).plot()
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['good', 'day']
    """

    ax_: Axes
    figure_: Figure
    image_: AxesImage
    colorbar_: Colorbar

    def __init__(
        self,
        weights: ArrayLike,
        *,
        source: Sequence[Any] | None = None,
        target: Sequence[Any] | None = None,
        name: str | None = None,
    ) -> None:
        self.weights = numbers(weights, "weights", 2)
        for labels, side, length in zip((target, source), ("target", "source"), self.weights.shape, strict=True):
            if labels is not None and len(labels) != length:
                raise ValueError(f"{side} must have one entry for each of the {length} tokens, got {len(labels)}")
        self.source = source
        self.target = target
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        model: Any,
        X: Any,
        y: Any = None,
        *,
        sample: int = 0,
        name: str | None = None,
        ax: Axes | None = None,
        **image_kw: Any,
    ) -> AttentionMapDisplay:
        """Draw the attention of a model to one source.

        Parameters
        ----------
        model : fitted RNNSeq2Seq with `attention`
        X : list or array
            Sources as for `predict`.
        y : list or array, default=None
            Targets that the decoder is made to write. None for what it predicts.
        sample : int, default=0
            The source to draw.
        name : str or None, default=None
            Title of the plot.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; a new figure if None.
        **image_kw
            Passed to `Axes.imshow`.

        Returns
        -------
        display : AttentionMapDisplay
        """
        n_samples = len(X)
        if not -n_samples <= sample < n_samples:
            raise ValueError(f"sample must be the number of one of the {n_samples} sources of X, got {sample}")
        sample %= n_samples
        one = slice(sample, sample + 1)
        found = model.attention_maps(X[one], None if y is None else y[one])[0]
        return cls(found.weights, source=found.source, target=found.target, name=name).plot(ax=ax, **image_kw)

    def plot(self, ax: Axes | None = None, **image_kw: Any) -> AttentionMapDisplay:
        """Draw the map on `ax`, or on a new figure; further arguments go to `Axes.imshow`."""
        letters = [max((len(str(label)) for label in labels or ()), default=3) for labels in (self.source, self.target)]
        height, width = (
            min(_CELL * n + _LETTER * beside + _MARGIN, _LONGEST)
            for n, beside in zip(self.weights.shape, letters, strict=True)
        )
        ax = new_axes(ax, (width + 1.0, height))  # beside the bar of colours
        options = {"aspect": "equal", "interpolation": "nearest", "cmap": "Blues", "vmin": 0.0, "vmax": 1.0, **image_kw}
        self.image_ = ax.imshow(self.weights, **options)
        self.colorbar_ = figure_of(ax).colorbar(self.image_, ax=ax, label="attention weight", shrink=0.7)
        ax.xaxis.tick_top()
        ax.xaxis.set_label_position("top")
        if self.source is None:
            ax.locator_params(axis="x", integer=True)
            ax.set_xlabel("source")
        else:
            single = all(len(str(token)) == 1 for token in self.source)
            ax.set_xticks(np.arange(len(self.source)), [str(t) for t in self.source], rotation=0 if single else 90)
        if self.target is None:
            ax.locator_params(axis="y", integer=True)
            ax.set_ylabel("target")
        else:
            ax.set_yticks(np.arange(len(self.target)), [str(token) for token in self.target])
        ax.tick_params(length=0)
        if self.name:
            ax.set_title(self.name)
        self.ax_, self.figure_ = ax, figure_of(ax)
        return self
