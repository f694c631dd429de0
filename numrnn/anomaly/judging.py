"""How a detector reads what it is given, and makes a score of every sample, in the container that it came in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import _check_feature_names, check_is_fitted

from numrnn.anomaly.parameters import DetectorParameters
from numrnn.anomaly.symbols import sequences_of
from numrnn.estimators.validation import checked_array
from numrnn.forecasting.series import Panel, check_frequency, is_pandas, read_panel

__all__ = ["DetectorJudgement"]

Array = NDArray[np.float64]


class DetectorJudgement(DetectorParameters):
    """Reading and scoring of `RNNAnomalyDetector`."""

    # ----------------------------------------------------------------------------------------------------- reading
    def _read(self, X: Any, *, reset: bool) -> tuple[Panel, str]:
        """Series, and in what they came: "panel", or "array" for one of three dimensions."""
        kind, what = "panel", X
        frequency = check_frequency(self.frequency)
        if is_pandas(X):
            if X.ndim == 2 and not {"unique_id", "ds"} <= set(X.columns):
                _check_feature_names(self, X, reset=reset)
        elif not (isinstance(X, Sequence) and any(hasattr(element, "ndim") for element in X)):
            # A list of lists is a matrix, as everywhere in scikit-learn; series of different lengths are arrays.
            allowed: Any = "allow-nan" if self.missing == "mask" else True
            what = checked_array(
                X, "X", self, dtype=np.float64, ensure_2d=False, allow_nd=True, ensure_all_finite=allowed
            )
            if what.ndim == 3:
                kind, what = "array", list(what)
            elif what.ndim not in (1, 2):
                raise ValueError(
                    "X must be of the shape (n_steps,), (n_steps, n_features) or (n_series, n_steps, n_features), got "
                    f"{what.shape}"
                )
        try:
            panel = read_panel(what, frequency, self.missing)
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace("of y", "of X").replace("y ", "X ", str(error)[:2] == "y ")) from error
        if reset:
            self.n_features_in_ = panel.n_targets
        elif panel.n_targets != self.n_features_in_:
            if np.ndim(what) == 1 and not isinstance(what, (list, tuple)):
                raise ValueError(
                    f"Expected an array (n_steps, {self.n_features_in_}) as in fit, got one of a single dimension "
                    f"({len(what)},). Reshape your data: X.reshape(-1, {self.n_features_in_}) if it is the rows one "
                    "after the other"
                )
            raise ValueError(
                f"X has {panel.n_targets} features, but {type(self).__name__} is expecting {self.n_features_in_} "
                "features as input"
            )
        return panel, kind

    # ----------------------------------------------------------------------------------------------------- scores
    def _score_symbols(self, sequences: list[Any]) -> list[Array]:
        scorer = self._scorer
        return [scorer.log_likelihoods(scorer.ids(sequence), *scorer.start()) for sequence in sequences]

    def _start(self, n_series: int) -> list[Array] | None:
        """The averages of series at their beginning, if they are judged by such."""
        averages = self._scorer.averages
        return None if averages is None else [averages.start() for _ in range(n_series)]

    def _score_series(self, distances: list[Array], states: list[Array] | None = None) -> list[Array]:
        """Scores of time steps from how unusual each is: from the beginning, or from states, which are changed."""
        averages = self._scorer.averages
        if averages is None:
            return [-steps for steps in distances]
        states = self._start(len(distances)) if states is None else states
        assert states is not None
        return [-averages.follow(steps, state) for steps, state in zip(distances, states, strict=True)]

    def _of_sequence(self, steps: Array) -> float:
        judged = steps[~np.isnan(steps)]
        if not len(judged):
            return float("nan")
        return float(judged.mean() if self._fitted_method == "likelihood" else -np.sqrt(np.mean(judged**2)))

    def _samples(self, scores: list[Array]) -> list[Array]:
        """Scores of samples, none missing: of the steps of each sequence, or one of each sequence."""
        if self.level == "sequence":
            scores = [np.array([self._of_sequence(steps)]) for steps in scores]
        return [np.where(np.isnan(part), self.normal_score_, part) for part in scores]

    def _rendered(self, X: Any, change: Callable[[Array], NDArray], name: str) -> Any:
        """A number for every sample, in a container like X."""
        check_is_fitted(self, "_scorer")
        if self._fitted_method == "likelihood":
            sequences, single = sequences_of(X)
            samples = [change(part) for part in self._samples(self._score_symbols(sequences))]
            if self.level == "sequence":
                return np.concatenate(samples)
            return samples[0] if single else samples
        panel, kind = self._read(X, reset=False)
        samples = [
            change(part) for part in self._samples(self._score_series(self._scorer.distances(panel, self.device)))
        ]
        return self._in_container(panel, kind, samples, name)

    def _in_container(self, panel: Panel, kind: str, samples: list[NDArray], name: str) -> Any:
        if self.level == "sequence":
            values = np.concatenate(samples)
            if panel.container == "long":
                from numrnn.forecasting.frames import named

                return named(values, panel.names, name)
            return values
        return np.stack(samples) if kind == "array" else panel.render_beside(samples, name)

    def _filled(self, scores: Array) -> Array:
        """With the typical score of a step where there is none."""
        return np.where(np.isnan(scores), self.normal_score_, scores)

    def _read_on(self, sequence: Any) -> Array:
        """Scores of symbols that go on with the stream."""
        assert self._stream is not None
        state, before = self._stream
        ids = self._scorer.ids(sequence)
        values = self._scorer.log_likelihoods(ids, state, before)
        self._stream = state, (ids[-1:] if len(ids) else before)
        return values
