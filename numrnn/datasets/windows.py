"""Windows over a long series."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["sliding_windows"]


def sliding_windows(series: ArrayLike, n_timesteps: int) -> NDArray:
    """Every window of consecutive time steps of a series, as a view of it.

    Parameters
    ----------
    series : array-like of shape (n_steps,) or (n_steps, n_features)
        The series, one row per time step.
    n_timesteps : int
        Length of a window, at least 1 and at most `n_steps`.

    Returns
    -------
    windows : ndarray of shape (n_steps - n_timesteps + 1, n_timesteps, n_features)
        Read-only view: window i is `series[i : i + n_timesteps]`. A one-dimensional series has one feature. Indexing
        with a slice keeps it a view; indexing with a mask or with integers copies the chosen windows.

    Raises
    ------
    ValueError
        If the series has another number of dimensions or is shorter than one window.

    Examples
    --------
    >>> from numrnn.datasets import sliding_windows
    >>> sliding_windows([1, 2, 3, 4], n_timesteps=3)[:, :, 0]
    array([[1, 2, 3],
           [2, 3, 4]])
    """
    series = np.asarray(series)
    if series.ndim == 1:
        series = series[:, np.newaxis]
    if series.ndim != 2:
        raise ValueError(
            "series must have the shape (n_steps,) or (n_steps, n_features), "
            f"got {series.ndim} dimensions: {series.shape}"
        )
    if not 1 <= n_timesteps <= len(series):
        raise ValueError(
            f"n_timesteps must be between 1 and the {len(series)} time steps of the series, got {n_timesteps}"
        )
    return np.lib.stride_tricks.sliding_window_view(series, n_timesteps, axis=0).transpose(0, 2, 1)
