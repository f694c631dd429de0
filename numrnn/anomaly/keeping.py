"""A fitted detector as a file, a pickle, or what was learned in plain terms."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from numrnn.anomaly.fitting import OF_LANGUAGE_MODEL, DetectorFitting
from numrnn.anomaly.symbols import SymbolScorer
from numrnn.anomaly.windows import WindowScorer
from numrnn.estimators.keeping import network_from, network_settings
from numrnn.forecasting.series import Panel, form_of
from numrnn.language import RNNLanguageModel

__all__ = ["DetectorKeeping"]

# What is fitted and written to a file as it is.
_FITTED = ("offset_", "normal_score_", "loss_curve_", "validation_scores_", "n_iter_", "device_", "_kind")


class DetectorKeeping(DetectorFitting):
    """Writing and reading of `RNNAnomalyDetector`."""

    # ----------------------------------------------------------------------------------------------------- keeping
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted detector to a file that `numrnn.load` reads.

        The file has the weights, the usual errors, the threshold, and the end of the stream that `update` goes on with.
        Reading it executes nothing.

        Parameters
        ----------
        path : str or path-like
            Name of the file, by custom with the extension ``.safetensors``. An existing file is replaced.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `fit` was not called.
        ValueError
            If a parameter, a name or a symbol cannot be written.
        """
        from numrnn.persistence import save

        save(self, path)

    def _check_fitted(self) -> None:
        check_is_fitted(self, "_scorer")

    @property
    def _network(self) -> Any:
        symbols = self._fitted_method == "likelihood"
        return self._scorer.model._network if symbols else self._scorer.network

    def _to_state(self) -> dict[str, Any]:
        """What was fitted but the network, in terms of numbers, strings, lists, tuples and arrays."""
        names = getattr(self, "feature_names_in_", None)
        state: dict[str, Any] = {
            "attributes": {name: getattr(self, name) for name in _FITTED},
            "method": self._fitted_method,
            "features": (self.n_features_in_, None if names is None else list(names)),
            "scorer": self._scorer.plain(),
        }
        if self._fitted_method == "likelihood":
            return {**state, "stream": self._stream}
        panel = self._history
        forms = [] if panel is None else [form.plain() for form in panel.forms]
        history = None
        if panel is not None:
            history = {field.name: getattr(panel, field.name) for field in fields(panel) if field.name != "forms"}
        return {**state, "forms": forms, "history": history, "averages": self._states}

    def _from_state(self, state: dict[str, Any], network: Any) -> None:
        """Become what `_to_state` described."""
        for name in _FITTED:
            setattr(self, name, state["attributes"][name])
        self._fitted_method = str(state["method"])
        self.n_features_in_, names = state["features"]
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        if self._fitted_method == "likelihood":
            settings = {name: getattr(self, name) for name in OF_LANGUAGE_MODEL}
            self._scorer = SymbolScorer.from_plain(RNNLanguageModel(**settings), network, state["scorer"])
            self._stream = state["stream"]
            if self._stream is not None:
                shape = self._scorer.start()[0].shape
                if self._stream[0].shape != shape or not (self._stream[1] < network.n_outputs).all():
                    raise ValueError("its parts do not fit together")
        else:
            self._scorer = WindowScorer.from_plain(self._fitted_method, network, state["scorer"])
            history = state["history"]
            self._history, self._states = None, state.get("averages")  # earlier versions had none
            if history is not None:
                self._history = Panel(**history, forms=[form_of(plain) for plain in state["forms"]])
                n_rows, n_targets = self._history.values.shape
                n_states = len(self._history) if self._states is None else len(self._states)
                if (n_rows, n_targets, n_states) != (
                    int(self._history.lengths.sum()),
                    self.n_features_in_,
                    len(self._history),
                ):
                    raise ValueError("its parts do not fit together")
        self.n_parameters_ = network.n_parameters

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "offset_")

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if state.get("_fitted_method") in ("forecast", "reconstruction"):
            # Rebuilt: threads and scratch memory stay behind.
            scorer, network = state.pop("_scorer"), self._network
            state["_plain"] = (scorer.plain(), network_settings(network), network.parameters.flat.copy())
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        plain = state.pop("_plain", None)
        super().__setstate__(state)
        if plain is not None:
            scorer, form, weights = plain
            network = network_from(form, self.n_jobs)
            network.parameters.flat[:] = weights
            self._scorer = WindowScorer.from_plain(self._fitted_method, network, scorer)
