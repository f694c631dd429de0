"""Beijing PM2.5: five years of hourly air pollution and weather."""

from __future__ import annotations

from importlib import resources
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from numrnn.datasets.windows import sliding_windows

__all__ = ["load_beijing_pm25"]

FIRST_HOUR = np.datetime64("2010-01-01T00", "h")
TEST_YEAR = np.datetime64("2014-01-01T00", "h")
WIND_DIRECTIONS = ("north_east", "north_west", "south_east", "calm")
FEATURE_NAMES = (
    "pm25",
    "dew_point",
    "temperature",
    "pressure",
    "wind_speed",
    "snow",
    "rain",
    *(f"wind_{direction}" for direction in WIND_DIRECTIONS),
    "pm25_missing",
    "day_sin",
    "day_cos",
    "year_sin",
    "year_cos",
)


def _packaged(name: str) -> resources.abc.Traversable:
    return resources.files("numrnn.datasets") / "data" / name


def read_columns() -> dict[str, NDArray]:
    """The columns of the published file, one value per hour; `pm25` is -1 where it is missing."""
    with _packaged("beijing_pm25.npz").open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _fill_forward(values: NDArray, missing: NDArray) -> NDArray:
    """Each missing value becomes the last one measured before it; before the first, the first."""
    last_measured = np.where(missing, np.argmin(missing), np.arange(len(values)))
    return values[np.maximum.accumulate(last_measured)]


def _hourly_features(columns: dict[str, NDArray], hours: NDArray) -> NDArray:
    missing = columns["pm25"] < 0
    day = 2 * np.pi * (hours - hours.astype("datetime64[D]")).astype(np.int64) / 24
    hours_of_year = (hours.astype("datetime64[Y]") + 1).astype(hours.dtype) - hours.astype("datetime64[Y]")
    year = 2 * np.pi * ((hours - hours.astype("datetime64[Y]")) / hours_of_year)
    features = [
        _fill_forward(columns["pm25"], missing),
        columns["dew_point"],
        columns["temperature"],
        columns["pressure"],
        columns["wind_speed"] / 100,
        columns["snow"],
        columns["rain"],
        *(columns["wind_direction"] == number for number in range(len(WIND_DIRECTIONS))),
        missing,
        np.sin(day),
        np.cos(day),
        np.sin(year),
        np.cos(year),
    ]
    return np.stack(features, axis=1, dtype=np.float32, casting="unsafe")


@overload
def load_beijing_pm25(
    *, n_timesteps: int = 24, subset: Literal["all", "train", "test"] = "all", return_X_y: Literal[False] = False
) -> Bunch: ...


@overload
def load_beijing_pm25(
    *, n_timesteps: int = 24, subset: Literal["all", "train", "test"] = "all", return_X_y: Literal[True]
) -> tuple[NDArray, NDArray]: ...


def load_beijing_pm25(
    *, n_timesteps: int = 24, subset: Literal["all", "train", "test"] = "all", return_X_y: bool = False
) -> Bunch | tuple[NDArray, NDArray]:
    """Beijing PM2.5: forecast the next hour's air pollution from the hours before it.

    Hourly concentration of fine particles at the US Embassy in Beijing, and the weather at the airport, 2010 to 2014
    [1]_. The data are inside the package. They are licensed CC BY 4.0; the source is [2]_.

    2,067 of the 43,824 concentrations are missing. A window is kept only if its target and the last concentration of
    its input were measured, so that no score is computed on an invented value and the forecast "as the last hour"
    exists for every window. Missing concentrations further back are filled with the last one measured before them, and
    the feature `pm25_missing` says so.

    Parameters
    ----------
    n_timesteps : int, default=24
        Hours of input before the target.
    subset : {"all", "train", "test"}, default="all"
        "train" has the targets of 2010 to 2013, "test" those of 2014. The split is in time: nothing of the test year is
        seen in training.
    return_X_y : bool, default=False
        Return `(data, target)` and nothing else.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : ndarray of float32, shape (n_windows, n_timesteps, 16)
            The windows, not scaled. A copy of the kept windows of `hourly`.
        target : ndarray of float32, shape (n_windows,)
            PM2.5 in the hour after the window, µg/m³.
        time : ndarray of datetime64[h], shape (n_windows,)
            The hour of the target, Beijing time.
        feature_names : list of str
            "pm25" (µg/m³), "dew_point" (°C), "temperature" (°C), "pressure" (hPa), "wind_speed" (m/s, accumulated since
            the direction last changed), "snow" and "rain" (hours since it began), the wind direction as four
            indicators, "pm25_missing", and the hour of the day and the time of the year as sines and cosines.
        hourly : ndarray of float32, shape (43824, 16)
            The features of every hour of the five years, whatever the subset.
        hours : ndarray of datetime64[h], shape (43824,)
            The hours of `hourly`.
        DESCR : str
            Description, licence and citation.
    (data, target) : tuple of ndarray
        If `return_X_y` is true.

    Raises
    ------
    ValueError
        If `subset` or `n_timesteps` is not one of the values above.

    References
    ----------
    .. [1] X. Liang et al., "Assessing Beijing's PM2.5 pollution: severity, weather impact, APEC and winter heating",
       Proceedings of the Royal Society A 471, 20150257, 2015.
    .. [2] S. Chen, "Beijing PM2.5", UCI Machine Learning Repository, 2015, https://doi.org/10.24432/C5JS49.

    Examples
    --------
    >>> from numrnn.datasets import load_beijing_pm25
    >>> pollution = load_beijing_pm25(subset="test")
    >>> pollution.data.shape
    (8626, 24, 16)
    >>> pollution.target[:3]
    array([24., 53., 65.], dtype=float32)
    >>> str(pollution.time[0])
    '2014-01-01T00'
    """
    if subset not in ("all", "train", "test"):
        raise ValueError(f"subset must be 'all', 'train' or 'test', got {subset!r}")
    columns = read_columns()
    pm25 = columns["pm25"]
    hours = FIRST_HOUR + np.arange(len(pm25))
    if not 1 <= n_timesteps < len(pm25):
        raise ValueError(f"n_timesteps must be between 1 and {len(pm25) - 1}, got {n_timesteps}")
    hourly = _hourly_features(columns, hours)
    # Window i ends one hour before hour i + n_timesteps, its target.
    target_hour = hours[n_timesteps:]
    kept = (pm25[n_timesteps:] >= 0) & (pm25[n_timesteps - 1 : -1] >= 0)
    if subset != "all":
        kept &= (target_hour >= TEST_YEAR) == (subset == "test")
    data = sliding_windows(hourly, n_timesteps)[:-1][kept]
    target = pm25[n_timesteps:][kept].astype(np.float32)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        time=target_hour[kept],
        feature_names=list(FEATURE_NAMES),
        hourly=hourly,
        hours=hours,
        DESCR=_packaged("beijing_pm25.md").read_text(encoding="utf-8"),
    )
