"""What `numrnn.inspection` finds out, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numrnn.plots.axes import COLOURS, GREY, figure_of, label_steps, new_axes, numbers, title_and_legend
from numrnn.reading import plain_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.container import BarContainer
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

__all__ = ["AttentionDisplay", "AttributionDisplay", "GradientFlowDisplay", "HiddenStateDisplay"]

# What a heat map can show, its range, and its colours. Both maps are safe for colour-blind people.
_QUANTITIES = {
    "hidden": ("hidden state", "RdBu_r"),
    "cell": ("cell state", "RdBu_r"),
    "candidate": ("candidate", "RdBu_r"),
    "input": ("input gate", "cividis"),
    "forget": ("forget gate", "cividis"),
    "output": ("output gate", "cividis"),
    "reset": ("reset gate", "cividis"),
    "update": ("update gate", "cividis"),
}

_BAND = "10 % to 90 %"


def _one(X: Any, sample: Any) -> Any:
    """A container like X with one of its sequences.

    Raises
    ------
    ValueError
        If there is no such sequence.
    """
    if isinstance(sample, bool) or not isinstance(sample, (int, np.integer)) or not -len(X) <= sample < len(X):
        raise ValueError(f"sample must be the number of one of the {len(X)} sequences of X, got {sample!r}")
    sample = int(sample) % len(X)
    return getattr(X, "iloc", X)[sample : sample + 1]


def _heat_map(
    ax: Axes, array: NDArray, label: str, colours: str, bounds: tuple[float, float], **image_kw: Any
) -> tuple[AxesImage, Colorbar]:
    """Rows over time steps, with a bar that tells the colours."""
    low, high = bounds
    options = {"aspect": "auto", "interpolation": "nearest", "origin": "lower", "cmap": colours}
    image = ax.imshow(array, **{**options, "vmin": low, "vmax": high, **image_kw})
    return image, figure_of(ax).colorbar(image, ax=ax, label=label)


class HiddenStateDisplay:
    """States or gates of all units of a layer over the time steps of one sequence, as a heat map.

    Make it with `from_estimator`.

    Parameters
    ----------
    states : array-like of shape (n_timesteps, n_units)
    quantity : {"hidden", "cell", "candidate", "input", "forget", "output", "reset", "update"}, default="hidden"
        What the numbers are. Gates are drawn on a scale from 0 to 1, states on one that is symmetric about 0.
    labels : sequence or None, default=None
        A label for each time step, such as a token.
    sort : bool, default=False
        Whether to order the units by the time step at which they are largest.
    name : str or None, default=None
        Title of the plot.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes. Set by `plot`, like the others.
    figure_ : matplotlib.figure.Figure
        The figure that holds it.
    image_ : matplotlib.image.AxesImage
        The heat map; its rows are units.
    colorbar_ : matplotlib.colorbar.Colorbar
    order_ : ndarray of int64, shape (n_units,)
        The units from the bottom up.

    Examples
    --------
    >>> import numpy as np
    >>> from numrnn import LSTM
    >>> from numrnn.plots import HiddenStateDisplay
    >>> X = np.random.RandomState(0).standard_normal((3, 20, 2))
    >>> display = HiddenStateDisplay.from_estimator(LSTM(2, 8, random_state=0), X, sample=1, quantity="forget")
    >>> display.image_.get_array().shape
    (8, 20)
    """

    ax_: Axes
    figure_: Figure
    image_: AxesImage
    colorbar_: Colorbar
    order_: NDArray[np.int64]

    def __init__(
        self,
        states: ArrayLike,
        *,
        quantity: str = "hidden",
        labels: Sequence[Any] | None = None,
        sort: bool = False,
        name: str | None = None,
    ) -> None:
        if quantity not in _QUANTITIES:
            raise ValueError(f"quantity must be one of {', '.join(map(repr, _QUANTITIES))}, got {quantity!r}")
        self.states = numbers(states, "states", 2)
        self.quantity = quantity
        self.labels = labels
        self.sort = sort
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        model: Any,
        X: Any,
        *,
        sample: int = 0,
        layer: int = -1,
        direction: str | None = None,
        quantity: str = "hidden",
        labels: Sequence[Any] | None = None,
        sort: bool = False,
        name: str | None = None,
        ax: Axes | None = None,
        **image_kw: Any,
    ) -> HiddenStateDisplay:
        """Run one sequence through a model and draw its states.

        Parameters
        ----------
        model : fitted estimator, or RNN, LSTM or GRU
        X : array-like or list of arrays
            Sequences as the model takes them.
        sample : int, default=0
            The sequence of X to draw.
        layer, direction
            As for `numrnn.inspection.hidden_states`.
        quantity, labels, sort
            As for the constructor.
        name : str or None, default=None
            Title of the plot; the name of the model's class, and the layer if it is not the top one, if None.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; a new figure if None.
        **image_kw
            Passed to `Axes.imshow`.

        Returns
        -------
        display : HiddenStateDisplay
        """
        from numrnn import inspection

        chosen = _one(X, sample)
        if quantity == "hidden":
            states = inspection.hidden_states(model, chosen, layer=layer, direction=direction)
        elif quantity == "cell":
            states = inspection.cell_states(model, chosen, layer=layer, direction=direction)
        else:
            gates = inspection.gate_activations(model, chosen, layer=layer, direction=direction)
            if quantity not in gates:
                known = ", ".join(map(repr, ("hidden", "cell")[: 1 + ("forget" in gates)])) + ", "
                raise ValueError(
                    f"quantity must be {known}{', '.join(map(repr, sorted(gates)))} for this model, got {quantity!r}"
                )
            states = gates[quantity]
        name = name or type(model).__name__ + ("" if layer == -1 else f", layer {layer}")
        return cls(states[0], quantity=quantity, labels=labels, sort=sort, name=name).plot(ax=ax, **image_kw)

    def plot(self, ax: Axes | None = None, **image_kw: Any) -> HiddenStateDisplay:
        """Draw the heat map on `ax`, or on a new figure; further arguments go to `Axes.imshow`."""
        ax = new_axes(ax, (8, 4))
        n_steps, n_units = self.states.shape
        self.order_ = np.arange(n_units)
        if self.sort:
            self.order_ = np.lexsort((self.order_, self.states.argmax(axis=0)))
        label, colours = _QUANTITIES[self.quantity]
        largest = np.abs(self.states).max(initial=0.0) or 1.0
        bounds = (0.0, 1.0) if colours == "cividis" else (-largest, largest)
        self.image_, self.colorbar_ = _heat_map(ax, self.states.T[self.order_], label, colours, bounds, **image_kw)
        label_steps(ax, self.labels, n_steps)
        ax.set(ylabel="unit, in the order of its peak" if self.sort else "unit", title=self.name or "")
        ax.locator_params(axis="y", integer=True)
        if self.sort:  # ticks name units, not their places
            names = {float(place): str(unit) for place, unit in enumerate(self.order_)}
            ax.yaxis.set_major_formatter(lambda place, _: names.get(float(place), ""))
        self.ax_, self.figure_ = ax, figure_of(ax)
        return self


class GradientFlowDisplay:
    """Norm of the gradient of the loss by the hidden state, against the time step: vanishing and exploding gradients.

    Make it with `from_estimator`. For several models, draw on the same axes with different names.

    Parameters
    ----------
    norms : array-like of shape (n_timesteps, n_layers), or list of them
        As from `numrnn.inspection.gradient_norms`: of one sequence, or of several, whose median is drawn with a band
        from the first to the ninth decile. Sequences of different lengths are aligned at their ends.
    state : {"hidden", "cell"}, default="hidden"
        What the gradient is by.
    name : str or None, default=None
        What the model is called in the legend.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes, with a logarithmic scale of norms. Set by `plot`, like the others.
    figure_ : matplotlib.figure.Figure
        The figure that holds it.
    lines_ : list of matplotlib.lines.Line2D
        A line for each layer. A norm of exactly zero has no place on the scale and is a gap.
    bands_ : list of matplotlib.collections.PolyCollection
        The bands, if there are several sequences.

    Examples
    --------
    >>> import numpy as np
    >>> from numrnn import LSTM, RNN
    >>> from numrnn.plots import GradientFlowDisplay
    >>> X = np.random.RandomState(0).standard_normal((4, 50, 2))
    >>> d_y = np.zeros((4, 50, 8))
    >>> d_y[:, -1] = 1
    >>> display = GradientFlowDisplay.from_estimator(LSTM(2, 8, random_state=0), X, d_y, name="LSTM")
    >>> display = GradientFlowDisplay.from_estimator(RNN(2, 8, random_state=0), X, d_y, name="RNN", ax=display.ax_)
    >>> [text.get_text() for text in display.ax_.get_legend().get_texts()]
    ['LSTM', 'RNN', '10 % to 90 %']
    """

    ax_: Axes
    figure_: Figure
    lines_: list[Line2D]
    bands_: list[Any]

    def __init__(self, norms: Any, *, state: str = "hidden", name: str | None = None) -> None:
        if state not in ("hidden", "cell"):
            raise ValueError(f"state must be 'hidden' or 'cell', got {state!r}")
        parts = list(norms) if isinstance(norms, (list, tuple)) else plain_array(norms, "norms")
        if len(parts) == 0 if isinstance(parts, list) else parts.ndim == 0:
            raise ValueError(f"norms must be an array (n_sequences, n_timesteps) or a list of them, got {norms!r}")
        several = parts.ndim == 3 if not isinstance(parts, list) else plain_array(parts[0], "norms").ndim == 2
        self.norms = [numbers(part, "norms", 2) for part in (parts if several else [norms])]
        self.state = state
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        model: Any,
        X: Any,
        y: Any,
        *,
        state: str = "hidden",
        direction: str | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> GradientFlowDisplay:
        """Measure the gradients of a model and draw them.

        Parameters
        ----------
        model, X, y, state, direction
            As for `numrnn.inspection.gradient_norms`.
        name : str or None, default=None
            What the model is called in the legend; the name of its class if None.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; a new figure if None.
        **line_kw
            Passed to `Axes.plot`.

        Returns
        -------
        display : GradientFlowDisplay
        """
        from numrnn.inspection import gradient_norms

        norms = gradient_norms(model, X, y, state=state, direction=direction)
        return cls(norms, state=state, name=name or type(model).__name__).plot(ax=ax, **line_kw)

    def plot(self, ax: Axes | None = None, **line_kw: Any) -> GradientFlowDisplay:
        """Draw a line for each layer on `ax`, or on a new figure; further arguments go to `Axes.plot`."""
        ax = new_axes(ax, (7, 4))
        lengths = {len(part) for part in self.norms}
        longest, n_layers = max(lengths), self.norms[0].shape[1]
        # Sequences that have not begun yet do not count.
        aligned = np.full((len(self.norms), longest, n_layers), np.nan)
        for place, part in enumerate(self.norms):
            aligned[place, longest - len(part) :] = part
        steps = np.arange(longest) if len(lengths) == 1 else np.arange(longest) - longest + 1
        low, middle, high = np.nanquantile(aligned, (0.1, 0.5, 0.9), axis=0)
        for array in (low, middle, high):
            array[array == 0] = np.nan
        already = len(ax.lines)
        colours = list(COLOURS.values())
        self.lines_, self.bands_ = [], []
        for layer in range(n_layers):
            parts = [self.name] if self.name else []
            parts += [f"layer {layer}"] if n_layers > 1 or not parts else []
            colour: Any = colours[(already + layer) % len(colours)]
            options = {"color": colour, "label": ", ".join(parts), **line_kw}
            self.lines_ += ax.plot(steps, middle[:, layer], **options)
            if len(self.norms) > 1:
                colour = self.lines_[-1].get_color()
                band = ax.fill_between(steps, low[:, layer], high[:, layer], color=colour, alpha=0.2, linewidth=0)
                if not any(other.get_label() == _BAND for other in ax.collections):
                    band.set_label(_BAND)
                self.bands_.append(band)
        ax.set_yscale("log")
        symbol = "h" if self.state == "hidden" else "c"
        ax.set_ylabel(rf"gradient norm  $\|\partial L\,/\,\partial {symbol}_t\|$")
        ax.set_xlabel("time step $t$" if len(lengths) == 1 else "time step $t$, counted from the end")
        ax.locator_params(axis="x", integer=True)
        ax.grid(axis="y", color="0.9", linewidth=0.8)
        ax.set_axisbelow(True)
        handles = ax.get_legend_handles_labels()[0]
        title_and_legend(ax, ax.get_title(), sorted(handles, key=lambda handle: handle.get_label() == _BAND))
        self.ax_, self.figure_ = ax, figure_of(ax)
        return self


class AttentionDisplay:
    """The weights of attention over the time steps of one sequence, as bars.

    Make it with `from_estimator`.

    Parameters
    ----------
    weights : array-like of shape (n_timesteps,)
    labels : sequence or None, default=None
        A label for each time step, such as a token.
    name : str or None, default=None
        Title of the plot.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes. Set by `plot`, like the others.
    figure_ : matplotlib.figure.Figure
        The figure that holds it.
    bars_ : matplotlib.container.BarContainer
    uniform_line_ : matplotlib.lines.Line2D
        The weight that each time step would have if all had the same.

    Examples
    --------
    >>> from numrnn.plots import AttentionDisplay
    >>> display = AttentionDisplay([0.1, 0.7, 0.2], labels=["not", "bad", "."]).plot()
    >>> [round(float(bar.get_height()), 2) for bar in display.bars_]
    [0.1, 0.7, 0.2]
    """

    ax_: Axes
    figure_: Figure
    bars_: BarContainer
    uniform_line_: Line2D

    def __init__(self, weights: ArrayLike, *, labels: Sequence[Any] | None = None, name: str | None = None) -> None:
        self.weights = numbers(weights, "weights", 1)
        self.labels = labels
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        model: Any,
        X: Any,
        *,
        sample: int = 0,
        labels: Sequence[Any] | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        **bar_kw: Any,
    ) -> AttentionDisplay:
        """Draw the attention of a model to one sequence.

        Parameters
        ----------
        model : fitted estimator with ``pooling="attention"``
        X : array-like or list of arrays
            Sequences as for `predict`.
        sample : int, default=0
            The sequence of X to draw.
        labels : sequence or None, default=None
            A label for each time step, such as a token.
        name : str or None, default=None
            Title of the plot; the name of the model's class if None.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; a new figure if None.
        **bar_kw
            Passed to `Axes.bar`.

        Returns
        -------
        display : AttentionDisplay
        """
        from numrnn.inspection import attention_weights

        weights = attention_weights(model, _one(X, sample))[0]
        return cls(weights, labels=labels, name=name or type(model).__name__).plot(ax=ax, **bar_kw)

    def plot(self, ax: Axes | None = None, **bar_kw: Any) -> AttentionDisplay:
        """Draw the bars on `ax`, or on a new figure; further arguments go to `Axes.bar`."""
        ax = new_axes(ax, (8, 3.2))
        n_steps = len(self.weights)
        options = {"color": COLOURS["blue"], "width": 0.8 if self.labels is not None else 1.0, **bar_kw}
        self.bars_ = ax.bar(np.arange(n_steps), self.weights, **options)
        self.uniform_line_ = ax.axhline(1 / n_steps, color=GREY, linewidth=0.8, linestyle="--", label="equal weights")
        label_steps(ax, self.labels, n_steps)
        ax.set_ylabel("attention weight")
        ax.set_xlim(-0.6, n_steps - 0.4)
        ax.set_ylim(bottom=0)
        title_and_legend(ax, self.name)
        self.ax_, self.figure_ = ax, figure_of(ax)
        return self


class AttributionDisplay:
    """The share of every input value of one sequence in an output: bars for one feature, a heat map for several.

    Make it with `from_estimator`.

    Parameters
    ----------
    values : array-like of shape (n_timesteps,) or (n_timesteps, n_features)
        As from `numrnn.inspection.attributions`.
    labels : sequence or None, default=None
        A label for each time step, such as a token.
    feature_names : sequence of str or None, default=None
        Their numbers if None.
    name : str or None, default=None
        Title of the plot.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes. Set by `plot`, like the others.
    figure_ : matplotlib.figure.Figure
        The figure that holds it.
    bars_ : matplotlib.container.BarContainer or None
        For one feature.
    image_ : matplotlib.image.AxesImage or None
        For several features; its rows are features.
    colorbar_ : matplotlib.colorbar.Colorbar or None

    Examples
    --------
    >>> from numrnn.plots import AttributionDisplay
    >>> display = AttributionDisplay([[0.1, -0.4], [0.0, 0.9]], feature_names=["wind", "rain"]).plot()
    >>> [text.get_text() for text in display.ax_.get_yticklabels()]
    ['wind', 'rain']
    """

    ax_: Axes
    figure_: Figure
    bars_: BarContainer | None
    image_: AxesImage | None
    colorbar_: Colorbar | None

    def __init__(
        self,
        values: ArrayLike,
        *,
        labels: Sequence[Any] | None = None,
        feature_names: Sequence[str] | None = None,
        name: str | None = None,
    ) -> None:
        self.values = numbers(values, "values", 2 if plain_array(values, "values").ndim == 2 else 1)
        n_features = 1 if self.values.ndim == 1 else self.values.shape[1]
        if feature_names is not None and len(feature_names) != n_features:
            raise ValueError(
                f"feature_names must have one entry for each of the {n_features} features, got {len(feature_names)}"
            )
        self.labels = labels
        self.feature_names = feature_names
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        model: Any,
        X: Any,
        target: Any = None,
        *,
        sample: int = 0,
        labels: Sequence[Any] | None = None,
        feature_names: Sequence[str] | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        **attribution_kw: Any,
    ) -> AttributionDisplay:
        """Explain an output of a model for one sequence and draw it.

        Parameters
        ----------
        model : fitted estimator
        X : array-like or list of arrays
            Sequences as for `predict`.
        target : default=None
            Which output to explain, as for `numrnn.inspection.attributions`.
        sample : int, default=0
            The sequence of X to draw.
        labels, feature_names
            As for the constructor.
        name : str or None, default=None
            Title of the plot; the name of the model's class if None.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; a new figure if None.
        **attribution_kw
            Passed to `numrnn.inspection.attributions`.

        Returns
        -------
        display : AttributionDisplay
        """
        from numrnn.inspection import attributions

        values = attributions(model, _one(X, sample), target, **attribution_kw)[0]
        name = name or type(model).__name__
        return cls(values, labels=labels, feature_names=feature_names, name=name).plot(ax=ax)

    def plot(self, ax: Axes | None = None, **artist_kw: Any) -> AttributionDisplay:
        """Draw on `ax`, or on a new figure; further arguments go to `Axes.bar` or `Axes.imshow`."""
        n_steps = len(self.values)
        one = self.values.ndim == 1 or self.values.shape[1] == 1
        n_features = 1 if one else self.values.shape[1]
        ax = new_axes(ax, (8, 3.2) if one else (8, min(max(1.2 + 0.3 * n_features, 3), 8)))
        self.bars_, self.image_, self.colorbar_ = None, None, None
        if one:
            values = self.values.reshape(-1)
            colours = np.where(values < 0, COLOURS["blue"], COLOURS["vermilion"])
            options = {"color": colours, "width": 0.8 if self.labels is not None else 1.0, **artist_kw}
            self.bars_ = ax.bar(np.arange(n_steps), values, **options)
            ax.axhline(0, color=GREY, linewidth=0.8)
            ax.set_ylabel("attribution" if self.feature_names is None else f"attribution to {self.feature_names[0]}")
            ax.set_xlim(-0.6, n_steps - 0.4)
        else:
            largest = np.abs(self.values).max(initial=0.0) or 1.0
            self.image_, self.colorbar_ = _heat_map(
                ax, self.values.T, "attribution", "RdBu_r", (-largest, largest), **artist_kw
            )
            if self.feature_names is not None:
                ax.set_yticks(np.arange(n_features), [str(feature) for feature in self.feature_names])
            else:
                ax.set_ylabel("feature")
                ax.locator_params(axis="y", integer=True)
        label_steps(ax, self.labels, n_steps)
        ax.set_title(self.name or "")
        self.ax_, self.figure_ = ax, figure_of(ax)
        return self
