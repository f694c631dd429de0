"""Fitted forecasters in files and pickles."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

from sklearn.utils.validation import check_is_fitted

from numrnn.estimators.keeping import KeptNetwork
from numrnn.forecasting.calibration import ErrorPool
from numrnn.forecasting.parameters import ForecasterParameters
from numrnn.forecasting.preparation import Preparation
from numrnn.forecasting.series import Panel, form_of

__all__ = ["Keeping"]

# What is fitted and written to a file as it is.
_FITTED = (
    "n_series_",
    "n_targets_",
    "naive_error_",
    "loss_curve_",
    "validation_scores_",
    "n_iter_",
    "device_",
    "n_windows_",
    "_levels",
    "_covariate_names",
    "_n_covariates",
    "_path_seed",
)


class Keeping(KeptNetwork, ForecasterParameters):
    """The method `save`, and what a file and a pickle hold."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted forecaster to a file that `numrnn.load` reads.

        The file has the weights, the scales, the end of the series that the next forecast begins with, and the errors
        by which intervals are calibrated. Reading it executes nothing.

        Parameters
        ----------
        path : str or path-like
            Name of the file, by custom with the extension ``.safetensors``. An existing file is replaced.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `fit` was not called.
        ValueError
            If a parameter or a name of a series cannot be written, such as a learning rate that is a function.
        """
        from numrnn.persistence import save

        save(self, path)

    def _check_fitted(self) -> None:
        check_is_fitted(self, "_network")

    def _to_state(self) -> dict[str, Any]:
        """What was fitted but the network, in terms of numbers, strings, lists, tuples and arrays."""
        history, pool = self._history, self._pool
        return {
            "attributes": {name: getattr(self, name) for name in _FITTED},
            "preparation": self._preparation.plain(),
            "pool": None if pool is None else [pool.size, list(pool.raw), list(pool.observed)],
            "forms": [form.plain() for form in history.forms],
            "history": {field.name: getattr(history, field.name) for field in fields(history) if field.name != "forms"},
        }

    def _from_state(self, state: dict[str, Any], network: Any) -> None:
        """Become what `_to_state` described."""
        for name in _FITTED:
            setattr(self, name, state["attributes"][name])
        self._preparation = preparation = Preparation.from_plain(state["preparation"])
        self._history = Panel(**state["history"], forms=[form_of(plain) for plain in state["forms"]])
        self._pool = None
        if state["pool"] is not None:
            size, raw, observed = state["pool"]
            self._pool = ErrorPool(raw, observed, size)
        self.location_, self.scale_ = preparation.location, preparation.scale
        shape = (self.n_series_, self.n_targets_)
        history = self._history
        settings = preparation.settings
        if settings.decoder:
            sizes = network.source_size, network.decoder_inputs, network.target_size
            fits = sizes == (preparation.n_features, preparation.n_ahead, self.n_targets_)
        else:
            fits = (
                network.input_size == preparation.n_features
                and network.n_target_columns % (settings.block * self.n_targets_) == 0
            )
        if not (
            fits
            and network.loss_name == self.loss
            and shape == preparation.scale.shape == history.before.shape
            and len(history.forms) == len(history.names) == len(history) == self.n_series_
            and history.values.shape == (int(history.lengths.sum()), self.n_targets_)
        ):
            raise ValueError("its parts do not fit together")
        self._network = network
        self.n_parameters_ = network.n_parameters

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_history")
