"""How a forecaster learns: what is trained on and what is held out, the network, and its training."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from numrnn.devices import engine_of
from numrnn.estimators.base import automatic_batch_size
from numrnn.estimators.keeping import network_from
from numrnn.forecasting.calibration import ErrorPool
from numrnn.forecasting.distributions import outputs_per_target
from numrnn.forecasting.metrics import naive_error
from numrnn.forecasting.origins import Predictor
from numrnn.forecasting.parameters import ForecasterParameters
from numrnn.forecasting.preparation import TRANSFORMATIONS, Preparation, Settings
from numrnn.forecasting.series import Panel
from numrnn.forecasting.windows import Prepared, Windows
from numrnn.training.loop import TrainingState, train
from numrnn.training.schedules import make_schedule

__all__ = ["Fitting"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


class Fitting(ForecasterParameters):
    """From series that have been read to a trained network, and the errors that it makes."""

    def _fit_panel(self, panel: Panel, names: list[Any] | None, traits: Array | None, levels: Array) -> Self:
        """Learn from series that have been read."""
        settings = self._settings(panel, names)
        self._check_series(panel, settings)
        first, training_end, validation, calibration = self._split(panel, settings)
        # What is held out has no part in the scales.
        learning = panel.head(training_end + settings.block)
        self._check_series(learning, settings, held_out=panel)
        preparation = Preparation(settings, learning, traits, np.dtype(self.dtype))
        prepared = Prepared(preparation, panel)
        counts = self.loss == "negative_binomial"
        windows = Windows(prepared, first, training_end, counts=counts)
        judged = Windows(prepared, *validation, counts=counts) if self.early_stopping else None
        if windows.total_weight == 0 or (judged is not None and judged.total_weight == 0):
            raise ValueError("no window of y has an observed value after it: all of them are missing")

        self._random = check_random_state(self.random_state)
        self._network = self._build_network(preparation, len(levels))
        self._network.initialize(self._random)
        self._state = TrainingState()
        self._levels, self._preparation, self._covariate_names = levels, preparation, names
        self._n_covariates = 0 if panel.covariates is None else panel.covariates.shape[1]
        self.n_series_, self.n_targets_ = len(panel), panel.n_targets
        self.location_, self.scale_ = preparation.location, preparation.scale
        errors = [naive_error(panel.values[panel.rows(i)], int(self.seasonality)) for i in range(len(panel))]
        self.naive_error_ = np.stack(errors)
        self.n_windows_ = len(windows)
        try:
            self._train(windows, judged)
        finally:
            self._network.workers.close()  # type: ignore[union-attr]
            self.loss_curve_, self.n_iter_ = self._state.loss_curve, self._state.n_iter
            self.validation_scores_ = self._state.validation_scores if self.early_stopping else None
            self.n_parameters_ = self._network.n_parameters
            self._path_seed = int(self._random.randint(2**31 - 1))
            self._pool: ErrorPool | None = None
            self._history = panel.tail(settings.n_history + settings.horizon)
        ends = [np.arange(begin, end) for begin, end in zip(*calibration, strict=True)]
        if sum(len(part) for part in ends):
            self._pool = ErrorPool(*self._predictor.forecasts_and_outcomes(prepared, ends))
        if self.train_on_all and not self._state.interrupted:
            self._train_on_all(Windows(prepared, first, panel.lengths - settings.block, counts=counts))
        return self

    def _train_on_all(self, windows: Windows) -> None:
        """Train a new network on all windows, as long as was best for the first one."""
        scores = self.validation_scores_
        n_epochs = max(int(np.argmax(scores)) + 1 if scores else self.n_iter_, 1)
        network = self._build_network(self._preparation, len(self._levels))
        network.initialize(self._random)
        schedule = make_schedule(self.learning_rate, float(self.learning_rate_init), int(self.max_iter))
        state = TrainingState()
        with network.workers:
            train(
                network,
                windows,
                **self._training_settings(network, windows),
                learning_rate=schedule if self.solver != "lbfgs" else "constant",
                max_iter=n_epochs,
                tol=float(self.tol) if self.solver == "lbfgs" else 0.0,
                n_iter_no_change=n_epochs,
                state=state,
            )
        self._network, self._state = network, state
        self.loss_curve_, self.n_iter_, self.n_windows_ = state.loss_curve, state.n_iter, len(windows)

    def _check_series(self, panel: Panel, settings: Settings, held_out: Panel | None = None) -> None:
        """Every series must be long enough, have values, and such that the transformation and the loss can take."""
        needed = settings.n_history + settings.horizon
        for number, name in enumerate(panel.names):
            what = "y" if len(panel) == 1 else f"series {name!r} of y"
            values = panel.values[panel.rows(number)]
            if held_out is None and len(values) < needed:
                raise ValueError(
                    f"{what} is too short: window_length={self.window_length}, difference={self.difference} and "
                    f"horizon={self.horizon} need at least {needed} time steps, got {len(values)}"
                )
            empty = np.isnan(values).all(axis=0)
            if empty.any():
                column = f"column {int(np.argmax(empty))} of {what}" if panel.n_targets > 1 else what
                where = "" if held_out is None else " in the part that is trained on"
                raise ValueError(f"{column} has no observed value{where}: all are missing")
            if self.transformation is not None:
                border = TRANSFORMATIONS[self.transformation][2]
                lowest = float(np.nanmin(values))
                if lowest <= border:
                    raise ValueError(
                        f"transformation={self.transformation!r} needs values above {border:g}, but {what} contains "
                        f"{lowest:g}"
                    )
            if self.loss == "negative_binomial":
                seen = values[~np.isnan(values)]
                if (seen < 0).any() or (seen != np.rint(seen)).any():
                    wrong = seen[(seen < 0) | (seen != np.rint(seen))][0]
                    raise ValueError(
                        f"loss='negative_binomial' needs counts 0, 1, 2, ..., but {what} contains {wrong:g}"
                    )

    def _split(self, panel: Panel, settings: Settings) -> tuple[Rows, Rows, tuple[Rows, Rows], tuple[Rows, Rows]]:
        """The first window's last row, and ranges of last rows for training, validation and calibration, in this order.

        No value that one part forecasts is forecast by another.
        """
        first = np.full(len(panel), settings.n_history - 1, dtype=np.int64)
        end = panel.lengths - settings.horizon
        total = end - first

        def share(fraction: float) -> Rows:
            return np.maximum(np.rint(fraction * total), 1).astype(np.int64) if fraction else np.zeros_like(total)

        n_calibration = share(self._calibration_share())
        n_validation = share(float(self.validation_fraction) if self.early_stopping else 0.0)
        calibration = (end - n_calibration, end)
        # Without calibration all windows up to the last value are of use.
        training_end = np.where(n_calibration > 0, calibration[0] + 1, panel.lengths) - settings.block
        validation = (training_end - n_validation, training_end)
        training_end = np.where(n_validation > 0, validation[0] + 1 - settings.block, training_end)
        if (training_end <= first).all():
            raise ValueError(
                f"y is too short: nothing is left to train on after {int(n_calibration.max())} windows were set aside "
                "for "
                f"intervals and {int(n_validation.max())} for early stopping; the longest series has "
                f"{int(panel.lengths.max())} steps"
            )
        # A series too short to be trained on lends its scale from what it has.
        training_end = np.maximum(training_end, first + 1 - settings.block)
        validation = (np.maximum(validation[0], first), np.maximum(validation[1], first))
        return first, training_end, validation, (np.maximum(calibration[0], first), end)

    def _build_network(self, preparation: Preparation, n_levels: int) -> Any:
        settings = preparation.settings
        sizes = [int(size) for size in np.atleast_1d(np.asarray(self.hidden_layer_sizes))]
        form: dict[str, Any] = {
            "cell": f"rnn_{self.activation}" if self.cell == "rnn" else self.cell,
            "bidirectional": bool(self.bidirectional),
            "dropout": float(self.dropout),
            "loss": self.loss,
            "quantile_levels": [float(level) for level in self.quantile_levels] if self.loss == "quantile" else [],
            "dtype": np.dtype(self.dtype).name,
        }
        if settings.decoder:
            form |= {
                "source": "values",
                "source_size": preparation.n_features,
                "target": "values",
                "target_size": preparation.n_targets,
                "decoder_inputs": preparation.n_ahead,
                "encoder_sizes": sizes,
                "decoder_sizes": sizes,
                "source_embedding": 1,
                "target_embedding": 1,
                "attention": self.attention,
                "n_heads": int(self.n_heads) if self.attention == "multihead" else 1,
            }
        else:
            raw = outputs_per_target(self.loss, np.zeros(n_levels))
            form |= {
                "input_size": preparation.n_features,
                "hidden_sizes": sizes,
                "n_outputs": settings.block * preparation.n_targets * raw,
                "pooling": "last",
                "matmul_precision": self.matmul_precision,
            }
        return network_from(form, self.n_jobs)

    def _training_settings(self, network: Any, windows: Windows) -> dict[str, Any]:
        size = automatic_batch_size(len(windows)) if isinstance(self.batch_size, str) else int(self.batch_size)
        engine = engine_of(self.device, network, windows.n_steps, size, self.solver)
        self.device_ = engine.device_name
        return {
            "engine": engine,
            "solver": self.solver,
            "learning_rate_init": float(self.learning_rate_init),
            "alpha": float(self.alpha),
            "batch_size": size,
            "max_grad_norm": self.max_grad_norm,
            "bptt_steps": None if self.bptt_steps is None else int(self.bptt_steps),
            "rng": self._random,
            "verbose": bool(self.verbose),
        }

    def _train(self, windows: Windows, judged: Windows | None) -> None:
        train(
            self._network,
            windows,
            **self._training_settings(self._network, windows),
            learning_rate=self.learning_rate,
            max_iter=int(self.max_iter),
            tol=float(self.tol),
            n_iter_no_change=self.n_iter_no_change,
            early_stopping=bool(self.early_stopping),
            validation=judged,
            state=self._state,
        )
        if not (self._state.converged or self._state.interrupted):
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=5,  # the caller of fit
            )

    @property
    def _predictor(self) -> Predictor:
        return Predictor(
            self._network,
            self._preparation,
            self.loss,
            self._levels,
            int(self.n_paths),
            self._path_seed,
            self.device,
        )
