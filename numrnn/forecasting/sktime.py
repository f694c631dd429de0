"""`RNNForecaster` behind the interface of sktime, for its pipelines, splitters, tuners and evaluation.

sktime is imported here and nowhere else; nothing in the package imports this module.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import clone

from numrnn.forecasting.forecaster import RNNForecaster

try:
    from sktime.forecasting.base import BaseForecaster
except ImportError as error:
    raise ImportError(
        "numrnn.forecasting.sktime needs the package sktime, which is not installed: pip install 'numrnn[sktime]'"
    ) from error

__all__ = ["SktimeRNNForecaster"]


class SktimeRNNForecaster(BaseForecaster):
    """An `RNNForecaster` that is used as a forecaster of sktime.

    Parameters
    ----------
    forecaster : RNNForecaster, default=None
        What forecasts, not fitted; `fit` fits a clone. None is ``RNNForecaster()``. Its parameters are those of this
        one behind ``forecaster__``, as in ``set_params(forecaster__window_length=36)``.

    Attributes
    ----------
    forecaster_ : RNNForecaster
        The fitted clone.

    See Also
    --------
    numrnn.RNNForecaster : The same without sktime; several series with one network.

    Notes
    -----
    The network is made for the horizon of `forecaster`, or as many steps as the farthest of `fh`, if that is given to
    `fit` and is more. Beyond its horizon forecasts are read for those that follow, as by `RNNForecaster.predict`; a
    forecaster whose intervals are calibrated gives none there.

    `update` never trains: it goes on with the new values, with ``update_params`` true or false. To train again, wrap
    this forecaster in ``sktime.forecasting.stream.UpdateRefitsEvery``.

    There are no forecasts within the series of `fit`. Of several series (a panel or hierarchy), sktime fits a network
    for each; one for all of them is `RNNForecaster` itself.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from numrnn import RNNForecaster
    >>> from numrnn.forecasting.sktime import SktimeRNNForecaster
    >>> months = pd.period_range("2015-01", periods=120, freq="M")
    >>> y = pd.Series(10 + np.sin(2 * np.pi * np.arange(120) / 12), months)
    >>> network = RNNForecaster((8,), window_length=12, difference=12, max_iter=20, random_state=0)
    >>> forecaster = SktimeRNNForecaster(network).fit(y[:-12], fh=[1, 2, 3])
    >>> forecaster.predict().round(2)
    2024-01    10.00
    2024-02    10.50
    2024-03    10.87
    Freq: M, dtype: float64
    """

    _tags: ClassVar[dict[str, Any]] = {
        "authors": "The numrnn developers",
        "maintainers": "The numrnn developers",
        "y_inner_mtype": "pd.DataFrame",
        "X_inner_mtype": "pd.DataFrame",
        "capability:multivariate": True,
        "capability:exogenous": True,
        "capability:insample": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
        "capability:missing_values": False,  # True with missing="mask", see __init__
        "capability:non_contiguous_X": False,
        "capability:update": True,
        "capability:categorical_in_X": False,
        "requires-fh-in-fit": False,
        "X-y-must-have-same-index": True,
    }

    def __init__(self, forecaster: RNNForecaster | None = None) -> None:
        self.forecaster = forecaster
        super().__init__()
        if forecaster is not None:
            self.set_tags(**{"capability:missing_values": forecaster.missing == "mask"})

    def _fit(self, y: pd.DataFrame, X: pd.DataFrame | None, fh: Any) -> Self:
        forecaster = RNNForecaster() if self.forecaster is None else clone(self.forecaster)
        if fh is not None:
            forecaster.set_params(horizon=max(int(forecaster.horizon), self._last_step(fh)))
        self.forecaster_ = forecaster.fit(y, X)
        self._last_label = y.index[-1]
        return self

    def _update(self, y: pd.DataFrame, X: pd.DataFrame | None = None, update_params: bool = True) -> Self:
        new = y.index > self._last_label  # the windows of sktime's splitters overlap
        if new.any():
            self.forecaster_.update(y[new], None if X is None else X.loc[y.index[new]])
            self._last_label = y.index[-1]
        return self

    def _last_step(self, fh: Any) -> int:
        """Steps from the end of the series to the last that is asked for."""
        return int(np.max(fh.to_relative(self.cutoff)))

    def _rows(self, fh: Any, forecast: pd.DataFrame, columns: Any) -> pd.DataFrame:
        """Of the forecasts of all steps, those that were asked for, with sktime's labels."""
        chosen = np.asarray(fh.to_relative(self.cutoff)) - 1
        return pd.DataFrame(forecast.to_numpy()[chosen], fh.to_absolute_index(self.cutoff), columns)

    def _future(self, X: pd.DataFrame | None) -> pd.DataFrame | None:
        return None if X is None else X[X.index > self._last_label]

    def _predict(self, fh: Any, X: pd.DataFrame | None) -> pd.DataFrame:
        forecast = self.forecaster_.predict(self._last_step(fh), self._future(X))
        return self._rows(fh, forecast, forecast.columns)

    def _predict_quantiles(self, fh: Any, X: pd.DataFrame | None, alpha: list[float]) -> pd.DataFrame:
        quantiles = self.forecaster_.predict_quantiles(self._last_step(fh), alpha, self._future(X))
        return self._rows(fh, quantiles, pd.MultiIndex.from_product([self._get_varnames(), alpha]))

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Parameters that sktime tests this forecaster with: tiny networks.

        Parameters
        ----------
        parameter_set : str, default="default"
            There is one set.

        Returns
        -------
        params : list of dict
        """
        tiny: dict[str, Any] = {"window_length": 2, "max_iter": 2, "n_jobs": 1, "random_state": 0}
        return [
            {"forecaster": RNNForecaster((2,), loss="gaussian", cell="rnn", **tiny)},
            {"forecaster": RNNForecaster((2,), cell="gru", strategy="recursive", calibration_fraction=0.3, **tiny)},
            {"forecaster": RNNForecaster((2,), cell="rnn", missing="mask", loss="student_t", difference=1, **tiny)},
        ]
