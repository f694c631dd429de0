"""How a detector learns what is usual."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from numrnn.anomaly.averages import Averages, gaussian_level
from numrnn.anomaly.judging import DetectorJudgement
from numrnn.anomaly.symbols import SymbolScorer, sequences_of
from numrnn.anomaly.thresholds import level_by_extremes, level_by_share
from numrnn.anomaly.windows import Reconstructions, WindowScorer
from numrnn.devices import engine_of
from numrnn.estimators.base import COMMON, automatic_batch_size
from numrnn.estimators.keeping import network_from
from numrnn.estimators.validation import hidden_sizes_of
from numrnn.forecasting.preparation import Preparation, Settings
from numrnn.forecasting.series import Panel
from numrnn.forecasting.windows import Windows
from numrnn.language import RNNLanguageModel
from numrnn.training.loop import TrainingState, train

__all__ = ["OF_LANGUAGE_MODEL", "DetectorFitting"]

Array = NDArray[np.float64]

# What the constructor of a language model calls the same.
OF_LANGUAGE_MODEL = (*COMMON, "matmul_precision", "device", "embedding_dim", "solver")
# Texts of a minibatch, or streams into which a long one is cut.
_STREAMS = 64
# Fewer held-out windows than this say nothing about usual errors: those that were trained on must do.
_FEWEST_HELD_OUT = 10


class DetectorFitting(DetectorJudgement):
    """The training of `RNNAnomalyDetector`, and its threshold."""

    def _fit_series(self, panel: Panel, lags: tuple[int, ...]) -> None:
        window = int(self.window_length)
        settings = Settings(window, 1, 1, lags, None, "standard", (), (), ())
        scorer = WindowScorer(self.method, None, None)  # type: ignore[arg-type]
        needed = settings.n_history + (self.method == "forecast")
        if panel.lengths.max() < needed:
            raise ValueError(
                f"X is too short: window_length={self.window_length} and difference={self.difference} need at least "
                f"{needed} time steps, got {panel.lengths.max()} (n_samples={panel.lengths.max()})"
            )
        for number, name in enumerate(panel.names):
            empty = np.isnan(panel.values[panel.rows(number)]).all(axis=0)
            if empty.any():
                what = "X" if len(panel) == 1 else f"series {name!r} of X"
                raise ValueError(f"column {int(np.argmax(empty))} of {what} has no observed value: all are missing")
        first = np.full(len(panel), settings.n_history - 1, dtype=np.int64)
        end = np.maximum(panel.lengths - (self.method == "forecast"), first)
        held_out = end - np.rint(float(self.validation_fraction) * (end - first)).astype(np.int64)
        # The windows that a reconstruction is trained on have no step in common with those that are held out.
        last = held_out if self.method == "forecast" else np.maximum(held_out - (window - 1), first)
        if (end - held_out).sum() < _FEWEST_HELD_OUT or not (last > first).any():
            if self.early_stopping:
                raise ValueError(
                    f"X is too short for early_stopping: validation_fraction={self.validation_fraction!r} leaves "
                    f"{int((last - first).sum())} windows to train on and {int((end - held_out).sum())} to validate "
                    f"with, of which there must be {_FEWEST_HELD_OUT}"
                )
            held_out, last = first, end

        learning = panel.head(np.where(last > first, last + (self.method == "forecast"), panel.lengths))
        preparation = Preparation(settings, learning, None, np.dtype(self.dtype))
        preparation.share_scales(learning)
        scorer.preparation = preparation.for_series(1)
        prepared = scorer.prepare(panel)
        kind = Windows if self.method == "forecast" else Reconstructions
        windows, judged = kind(prepared, first, last), kind(prepared, held_out, end)
        if windows.total_weight == 0 or judged.total_weight == 0:
            raise ValueError("no window of X has an observed value to learn from: all of them are missing")

        random, state = check_random_state(self.random_state), TrainingState()
        scorer.network = network_from(self._network_form(preparation), self.n_jobs)
        scorer.network.initialize(random)
        settings_of_training = self._training_settings(len(windows))
        engine = engine_of(
            self.device, scorer.network, windows.lengths, settings_of_training["batch_size"], self.solver
        )
        try:
            train(
                scorer.network,
                windows,
                engine=engine,
                **settings_of_training,
                validation=judged if self.early_stopping else None,
                rng=random,
                state=state,
            )
        finally:
            scorer.network.workers.close()  # type: ignore[union-attr]
        self._warn_unless(state.converged or state.interrupted)
        self._set_fitted(scorer, scorer.network, state, engine.device_name)
        usual = scorer.learn_usual_errors(prepared, *judged.places(0, len(judged)), self.device)
        usual = usual[~np.isnan(usual)]
        if self.averages is not None:
            short, long = self.averages
            scorer.averages = Averages.of((int(short), int(long)), usual)
        self._history, self._states = panel.tail(scorer.n_before), self._start(len(panel))
        self._set_threshold(self._score_series(scorer.distances(panel, self.device), self._states), -usual)

    def _fit_symbols(self, X: Any) -> Self:
        sequences, single = sequences_of(X)
        settings = {name: getattr(self, name) for name in OF_LANGUAGE_MODEL}
        model = RNNLanguageModel(
            **settings,
            bptt_steps=int(self.window_length),
            batch_size=_STREAMS if isinstance(self.batch_size, str) else int(self.batch_size),
        )
        model.fit(sequences[0] if isinstance(sequences[0], str) and single else sequences)
        scorer = SymbolScorer(model)
        self._set_fitted(scorer, model._network, model._state, model.device_)
        self._kind = "one" if single else "list"
        self.n_features_in_ = 1
        scores = self._score_symbols(sequences)
        seen = np.concatenate(scores)
        seen = seen[~np.isnan(seen)]
        # Rarer than once in all of the training sequences, and than anything in them.
        scorer.unseen = float(min(seen.min(), -np.log(len(seen) + 1)))
        self._stream = None
        self._set_threshold(scores, seen)
        if single:
            self._stream = scorer.start()
            self._read_on(sequences[0])
        return self

    def _set_fitted(self, scorer: Any, network: Any, state: TrainingState, device: str) -> None:
        self.device_ = device
        self._scorer, self._fitted_method = scorer, self.method
        self.loss_curve_, self.n_iter_ = state.loss_curve, state.n_iter
        self.validation_scores_ = state.validation_scores if self.early_stopping else None
        self.n_parameters_ = network.n_parameters

    def _set_threshold(self, scores: list[Array], usual: Array) -> None:
        judged = np.concatenate(scores)
        judged = judged[~np.isnan(judged)]
        if not len(judged):
            raise ValueError("no time step of X can be judged: all of them are missing")
        self.normal_score_ = float(np.median(judged))
        if self.level == "sequence":
            whole = np.array([self._of_sequence(steps) for steps in scores])
            usual = whole[~np.isnan(whole)]
            self.normal_score_ = float(np.median(usual))
        samples = self._samples(scores)
        if isinstance(self.contamination, str) and self.averages is not None:
            self.offset_ = -gaussian_level(float(self.alarm_rate))
        elif isinstance(self.contamination, str):
            self.offset_ = level_by_extremes(usual, float(self.alarm_rate))
        else:
            self.offset_ = level_by_share(np.concatenate(samples), float(self.contamination))

    def _network_form(self, preparation: Preparation) -> dict[str, Any]:
        blank = self.method == "reconstruction"
        return {
            "cell": "rnn_tanh" if self.cell == "rnn" else self.cell,
            "input_size": preparation.n_features + blank,
            "hidden_sizes": [int(size) for size in hidden_sizes_of(self)],
            "n_outputs": preparation.n_targets,
            "pooling": None if blank else "last",
            "dropout": float(self.dropout),
            "loss": self.loss,
            "dtype": np.dtype(self.dtype).name,
            "matmul_precision": self.matmul_precision,
        }

    def _training_settings(self, n_windows: int) -> dict[str, Any]:
        return {
            "solver": self.solver,
            "learning_rate": self.learning_rate,
            "learning_rate_init": float(self.learning_rate_init),
            "alpha": float(self.alpha),
            "batch_size": automatic_batch_size(n_windows) if isinstance(self.batch_size, str) else int(self.batch_size),
            "max_iter": int(self.max_iter),
            "tol": float(self.tol),
            "n_iter_no_change": self.n_iter_no_change,
            "early_stopping": bool(self.early_stopping),
            "max_grad_norm": self.max_grad_norm,
            "verbose": bool(self.verbose),
        }

    def _warn_unless(self, converged: bool) -> None:
        if not converged and not self.early_stopping:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=5,  # the caller of fit
            )
