"""What all displays share: where to draw, colours, and axes of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numrnn.reading import plain_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "GREY",
    "figure_of",
    "label_steps",
    "label_time",
    "new_axes",
    "numbers",
    "pyplot",
    "time_of",
    "title_and_legend",
    "whole_numbers",
]

# The palette of Okabe and Ito (2008), which people with any kind of colour vision tell apart.
COLOURS = {
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "orange": "#E69F00",
}
GREY = "0.45"

# More labels than this would overlap; then every second one is written, and so on.
_MOST_LABELS = 40


def new_axes(ax: Axes | None, size: tuple[float, float] | None = None) -> Axes:
    """The axes to draw on: those given, or those of a new figure of that size in inches."""
    if ax is not None:
        return ax
    return pyplot().subplots(layout="constrained", figsize=size)[1]


def pyplot() -> Any:
    """The module.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError('plots need Matplotlib, which is not installed: pip install "numrnn[plot]"') from error
    return pyplot


def figure_of(ax: Axes) -> Figure:
    """The whole figure, if the axes are in a part of one too."""
    return ax.figure.figure


def title_and_legend(ax: Axes, title: str | None, handles: Sequence[Any] | None = None) -> None:
    """Write the title, and below it, outside the axes where it covers nothing, the legend in a row."""
    if handles is None:
        handles = ax.get_legend_handles_labels()[0]
    rows = 0
    if handles:
        # As many entries in a row as there is room for; a character is about 0.6 of its height wide.
        width = ax.get_position().width * figure_of(ax).get_figwidth() * 72 / 6
        lengths = [len(str(handle.get_label())) + 7 for handle in handles]
        # Columns are as wide as the longest of their entries; in one row, each entry is a column.
        columns = len(handles) if sum(lengths) <= width else int(max(width // max(lengths), 1))
        rows = -(-len(handles) // columns)
        anchor: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.2}
        legend = ax.legend(handles=list(handles), ncols=columns, frameon=False, columnspacing=1.4, **anchor)
        # The title makes the room.
        legend.set_in_layout(False)
    ax.set_title(title or (" " if rows else ""), pad=6.0 + 16.0 * rows)


def numbers(values: Any, name: str, n_dimensions: int | None) -> NDArray[np.float64]:
    """An array of numbers with so many dimensions, or any number of them.

    Raises
    ------
    ValueError
        If it is something else.
    """
    array = plain_array(values, name)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be an array of numbers, got an array of type {array.dtype}")
    if n_dimensions is not None and array.ndim != n_dimensions:
        raise ValueError(f"{name} must have {n_dimensions} dimension{'s'[: n_dimensions - 1]}, got shape {array.shape}")
    return array.astype(np.float64)


def time_of(time: Any, values: Any, n_values: int, first: int = 0) -> NDArray:
    """The time of each value: as given, or the index of a Series or DataFrame, or numbers from `first` on.

    Raises
    ------
    ValueError
        If there is not one time for each value.
    """
    if time is None:
        time = getattr(values, "index", None)
        if time is None or callable(time):  # a list has a method of that name
            return np.arange(first, first + n_values)
    if hasattr(time, "to_timestamp"):  # periods are drawn at their beginning
        time = time.to_timestamp()
    times = plain_array(time, "time")
    if times.shape != (n_values,):
        raise ValueError(f"time must have one entry for each of the {n_values} values, got shape {times.shape}")
    return times


def label_time(ax: Axes, times: NDArray, label: str = "time") -> None:
    """Name the axis of time, and write dates briefly."""
    if np.issubdtype(times.dtype, np.datetime64):
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator()
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        ax.set_xlabel("")  # the dates speak for themselves
    else:
        ax.set_xlabel(label)


def whole_numbers(ax: Axes, values: NDArray) -> None:
    """Ticks of the horizontal axis at whole numbers only; at the value itself, if there is a single one."""
    if len(values) == 1:
        ax.set_xticks(values)
    else:
        ax.locator_params(axis="x", integer=True)


def label_steps(ax: Axes, labels: Sequence[Any] | None, n_steps: int) -> None:
    """Name the time steps of an axis that counts them: by their labels, if there are any, else by their numbers.

    Raises
    ------
    ValueError
        If there is not one label for each time step.
    """
    if labels is None:
        ax.locator_params(axis="x", integer=True)
        ax.set_xlabel("time step")
        return
    if len(labels) != n_steps:
        raise ValueError(f"labels must have one entry for each of the {n_steps} time steps, got {len(labels)}")
    places = np.arange(0, n_steps, -(-n_steps // _MOST_LABELS))
    texts = [str(labels[int(place)]) for place in places]
    upright = (1 + max(map(len, texts))) * len(texts) > 80
    ax.set_xticks(places, texts, rotation=90 if upright else 0)
    ax.set_xlabel("")
