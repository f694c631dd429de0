"""What the classifier and the regressor have in common: parameters, fitting, features, pickling."""

from __future__ import annotations

import math
import os
import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from numrnn.devices import check_device, engine_of, reader_of
from numrnn.estimators.categorical import (
    Embeddings,
    categorical_columns,
    check_ids,
    embedding_matrices,
    learn_embeddings,
    without_padding,
)
from numrnn.estimators.convolution import convolution_settings
from numrnn.estimators.fitting import (
    leaving_results,
    loop_parameters,
    unchanged_if_unlearned,
    unchanged_on_error,
)
from numrnn.estimators.keeping import KeptNetwork, network_from
from numrnn.estimators.stepwise import StepwiseMixin
from numrnn.estimators.targets import Targets
from numrnn.estimators.validation import (
    check_sample_weight,
    check_sizes_and_threads,
    feature_names_of_steps,
    hidden_sizes_of,
    in_form_of,
    merge_equal_samples,
    to_sequences,
    warn_if_unscaled,
)
from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.training.loop import Scorer, TrainingState, train
from numrnn.training.schedules import SCHEDULES
from numrnn.training.solvers import SOLVERS

__all__ = ["COMMON", "RecurrentEstimator", "automatic_batch_size", "shared_constraints"]

_FULL_BATCH = 16
_LARGEST_AUTOMATIC_BATCH = 256

# Rows of targets, and weights or none.
Prepared = tuple[NDArray, NDArray[np.float64] | None]
# What the network is trained on or judged by: sequences, rows of targets, weights of the rows or none.
NetworkData = tuple[Sequences, NDArray, NDArray[np.float64] | None]


def automatic_batch_size(n_samples: int) -> int:
    """The batch size that ``batch_size="auto"`` stands for.

    All samples at once up to 16; then the square root of their number, at least 8 and at most 256. An epoch of a small
    data set so has enough updates to learn something, and one of a large data set few enough to be fast.

    Examples
    --------
    >>> [automatic_batch_size(n) for n in (10, 50, 400, 10_000, 1_000_000)]
    [10, 8, 20, 100, 256]
    """
    if n_samples <= _FULL_BATCH:
        return n_samples
    return min(max(math.isqrt(n_samples), 8), _LARGEST_AUTOMATIC_BATCH)


def _solver_is_stochastic(estimator: Any) -> bool:
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit is only available for stochastic solvers; 'lbfgs' is not stochastic.")
    return True


class _Fitted:
    """Attributes of a fitted estimator that are not its own, and no parameters of its constructor."""

    # What a warm start goes on from.
    _network: Network
    _state: TrainingState
    _random: np.random.RandomState
    # Features of a time step; whether it was fitted on a matrix whose columns are time steps; whether there is a target
    # for every time step.
    _input_size: int
    _univariate_columns: bool
    _per_step: bool = False
    # Column, ids and dimension of every categorical feature.
    _embeddings: Embeddings = ()


# The constructor of every estimator is made from its fields: those here, then its own.
@dataclass(eq=False, repr=False, kw_only=True)
class RecurrentEstimator(
    _Fitted,
    KeptNetwork,
    StepwiseMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Base of the estimators. A subclass says what its targets are."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "cell": [StrOptions({"lstm", "gru", "rnn"})],
        "activation": [StrOptions({"tanh", "relu"})],
        "bidirectional": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
        "recurrent_dropout": [Interval(Real, 0, 1, closed="left")],
        "output_dropout": [Interval(Real, 0, 1, closed="left")],
        "residual": ["boolean"],
        "embedding_dim": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "vocabulary_size": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "categorical_features": ["array-like", None],
        "embedding_weights": ["array-like", None],
        "padding_id": [Integral, None],
        "convolution": [HasMethods(["get_params"]), list, tuple, None],
        "solver": [StrOptions({*SOLVERS, "lbfgs"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "learning_rate": [StrOptions(set(SCHEDULES)), callable],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
        "bptt_steps": [Interval(Integral, 1, None, closed="left"), None],
        "shuffle": ["boolean"],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "dtype": [StrOptions({"float32", "float64"}), Options(type, {np.float32, np.float64})],
        "matmul_precision": [StrOptions({"bfloat16"}), None],
        "device": [StrOptions({"cpu", "cuda", "auto"})],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    hidden_layer_sizes: Any = field(default=(64,), kw_only=False)
    cell: str = "lstm"
    activation: str = "tanh"
    bidirectional: bool = False
    dropout: float = 0.0
    input_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    output_dropout: float = 0.0
    residual: bool = False
    embedding_dim: Any = None
    vocabulary_size: Any = None
    categorical_features: Any = None
    embedding_weights: Any = None
    padding_id: int | None = None
    convolution: Any = None
    solver: str = "adam"
    learning_rate_init: float = 1e-3
    learning_rate: str | Callable[[int], float] = "constant"
    alpha: float = 0.0
    batch_size: int | str = "auto"
    max_iter: int = 100
    tol: float = 1e-4
    n_iter_no_change: Any = 10
    early_stopping: bool = False
    validation_fraction: float = 0.1
    max_grad_norm: float | None = 1.0
    bptt_steps: int | None = None
    shuffle: bool = True
    warm_start: bool = False
    random_state: int | np.random.RandomState | None = None
    dtype: Any = "float32"
    matmul_precision: str | None = None
    device: str = "cpu"
    n_jobs: int | None = None
    verbose: bool = False

    # ----------------------------------------------------------------------------------- what a subclass must say
    @abstractmethod
    def _check_y(self, y: Any) -> Targets:
        """Targets in the user's terms."""

    @abstractmethod
    def _encode(self, targets: Targets, *, reset: bool, classes: Any) -> Targets:
        """Class numbers or vectors of values as rows; learns what they are if `reset`."""

    @abstractmethod
    def _prepare(self, rows: NDArray, weights: NDArray[np.float64] | None, *, reset: bool) -> Prepared:
        """Rows of targets, and their weights, as the network is trained on them; learns their statistics if `reset`."""

    @abstractmethod
    def _network_targets(self, rows: NDArray) -> NDArray:
        """Encoded targets in the units of the network, by the statistics learned before."""

    @abstractmethod
    def _readout_settings(self) -> dict[str, Any]:
        """The arguments of the network that the targets decide: `n_outputs`, `loss`, `pooling`."""

    @abstractmethod
    def _validation_score(self, outputs: NDArray, targets: NDArray, weights: NDArray | None) -> float:
        """Score of raw outputs of the network against its targets."""

    def _scorer(self, sequences: Sequences) -> Scorer:
        """What judges raw outputs for these sequences."""
        return self._validation_score

    def _stratify(self, targets: Targets) -> NDArray | None:
        """Classes of which training and validation data should have the same shares."""
        return None

    # --------------------------------------------------------------------------------------------------- fitting
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the network, from new random weights unless `warm_start` is set.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_timesteps, n_features), (n_samples, n_timesteps), or list of arrays
            Sequences. A matrix or DataFrame holds univariate ones, a list those of different lengths:
            arrays (n_timesteps_i, n_features), or (n_timesteps_i,) if univariate. With `embedding_dim` they hold ids.
            RNNTagger also takes lists of words.
        y : array-like or list of arrays
            Targets. One for each sequence, of shape (n_samples,): class labels, or values. RNNRegressor also takes
            several values for each sequence, (n_samples, n_outputs), and values for each time step: an array
            (n_samples, n_timesteps, n_outputs), or a list of arrays (n_timesteps_i, n_outputs) or (n_timesteps_i,).
            RNNTagger takes a list of sequences of labels, one label for each time step.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the loss. A sample of weight 0 is ignored. Each time step has the weight of its
            sample, where targets belong to time steps.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X, y or sample_weight is not as described; the message says how.
        FloatingPointError
            If the loss stops being finite. The estimator has the weights of the last good epoch then.
        RuntimeError
            If ``device="cuda"`` cannot be had, or fails: the estimator has the weights of the last whole epoch then.
        MemoryError
            If a minibatch does not fit on the device; the message says what would.
        """
        reset = not (self.warm_start and hasattr(self, "_network"))
        return self._fit(X, y, sample_weight, reset=reset, incremental=False)

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any) -> Self:
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        reset = not hasattr(self, "_network")
        return self._fit(X, y, sample_weight, reset=reset, incremental=True, classes=classes)

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, reset: bool, incremental: bool, classes: Any = None) -> Self:
        self._check_parameters()
        if y is None:
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but the target y is None.")
        with unchanged_on_error(self) as before:
            training, validation = self._get_ready(X, y, sample_weight, reset=reset, classes=classes)
        if not (reset or incremental):
            self._state.no_improvement_count = 0
        with unchanged_if_unlearned(self, before, reset=reset):
            self._train(*training, validation, incremental=incremental)
        return self

    def _get_ready(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, classes: Any
    ) -> tuple[NetworkData, NetworkData | None]:
        """Everything before training: data to train on and to validate on, and the network that they ask for."""
        dtype = np.dtype(self.dtype) if reset else self._network.dtype
        sequences = self._to_sequences(X, dtype, reset=reset)
        targets = self._check_y(y)
        check_consistent_length(sequences, targets)
        self._check_steps_are_kept(targets)
        targets.check_steps(sequences)
        if reset:
            self._per_step = targets.per_step
        else:
            self._check_kind_of_targets(targets)
        weights = check_sample_weight(sample_weight, len(sequences))
        if weights is not None and not weights.all():
            kept = np.flatnonzero(weights)
            sequences, targets, weights = self._choose(sequences, targets, weights, kept)
        targets = self._encode(targets, reset=reset, classes=classes)
        if reset:
            warn_if_unscaled(self, sequences)
            self._random = check_random_state(self.random_state)
        elif not hasattr(self, "_random"):  # read from a file
            self._random = check_random_state(self.random_state)

        held_out = None
        if self.early_stopping:
            kept, numbers = self._split(targets)
            held_out = self._choose(sequences, targets, weights, numbers)
            sequences, targets, weights = self._choose(sequences, targets, weights, kept)
        sequences, targets, weights = self._in_canonical_order(sequences, targets, weights)
        sequences = self._for_training(sequences)
        rows, row_weights = self._prepare(targets.rows(), targets.spread(weights), reset=reset)
        if reset:
            self._network = self._build_network()
            self._network.initialize(self._random)
            self._write_embeddings()
            self._state = TrainingState()
        validation = None
        if held_out is not None:
            unseen, answers, of_answers = held_out
            validation = unseen, self._network_targets(answers.rows()), answers.spread(of_answers)
        return (sequences, rows, row_weights), validation

    def _check_steps_are_kept(self, targets: Targets) -> None:
        """Nothing takes time steps away that have targets."""
        if not targets.per_step:
            return
        name = type(self).__name__
        if self.padding_id is not None:
            raise ValueError(
                f"The 'padding_id' parameter of {name} must be None with a target for every time step: pass sequences "
                f"of different lengths as a list. Got {self.padding_id!r} instead."
            )
        if any(settings["pool_size"] > 1 for settings in convolution_settings(self)):
            raise ValueError(
                f"The 'convolution' parameter of {name} must have pool_size=1 with a target for every time step. Got "
                f"{self.convolution!r} instead."
            )

    def _check_kind_of_targets(self, targets: Targets) -> None:
        """Targets belong to sequences or to time steps, as in the first fit."""
        if targets.per_step != self._per_step:
            forms = ("sequence", "time step")
            raise ValueError(
                f"y has one target for every {forms[targets.per_step]}, but {type(self).__name__} was first fitted "
                f"with one for every {forms[self._per_step]}"
            )

    def _for_training(self, sequences: Sequences) -> Sequences:
        """What the network sees of the sequences that it is trained on."""
        return sequences

    def _write_embeddings(self) -> None:
        """Pretrained vectors as first parameters."""
        for number, matrix in enumerate(embedding_matrices(self, len(self._embeddings))):
            if matrix is not None:
                self._network.parameters[f"embedding_{number}"][...] = matrix

    def _train(
        self,
        sequences: Sequences,
        targets: NDArray,
        weights: NDArray | None,
        validation: NetworkData | None,
        *,
        incremental: bool,
    ) -> None:
        n_samples = len(sequences)
        batch_size = automatic_batch_size(n_samples) if isinstance(self.batch_size, str) else int(self.batch_size)
        state = self._state
        self._network.matmul_precision = self.matmul_precision
        engine = engine_of(self.device, self._network, sequences.lengths, batch_size, self.solver)
        self.device_ = engine.device_name
        with leaving_results(self, incremental=incremental):
            train(
                self._network,
                sequences,
                targets,
                weights,
                **loop_parameters(self),
                batch_size=batch_size,
                early_stopping=bool(self.early_stopping),
                validation=validation,
                scorer=None if validation is None else self._scorer(validation[0]),
                bptt_steps=None if self.bptt_steps is None else int(self.bptt_steps),
                shuffle=bool(self.shuffle),
                incremental=incremental,
                engine=engine,
            )
        if not (incremental or state.converged or state.interrupted):
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=5,  # the caller of fit
            )

    def _check_parameters(self) -> None:
        """What the constraints of single parameters do not tell."""
        name = type(self).__name__
        check_sizes_and_threads(self)
        if self.bptt_steps is not None and self.bidirectional:
            raise ValueError(
                f"The 'bptt_steps' parameter of {name} must be None if 'bidirectional' is true: the direction that "
                f"starts at the end of a sequence cannot be truncated. Got {self.bptt_steps!r} instead."
            )
        if self.solver == "lbfgs" and self.early_stopping:
            raise ValueError(f"The 'early_stopping' parameter of {name} must be False for 'lbfgs'. Got True instead.")
        for parameter in ("vocabulary_size", "categorical_features", "embedding_weights", "padding_id"):
            value = getattr(self, parameter)
            if value is not None and self.embedding_dim is None and not isinstance(value, Mapping):
                raise ValueError(
                    f"The '{parameter}' parameter of {name} must be None if 'embedding_dim' is None: X then holds "
                    f"measurements, not ids. Got {_short(value)} instead."
                )
        for parameter in ("embedding_dim", "vocabulary_size"):
            value = getattr(self, parameter)
            if value is not None and any(
                not isinstance(size, Integral) or size < 1 for size in np.atleast_1d(np.asarray(value, dtype=object))
            ):
                raise ValueError(
                    f"The '{parameter}' parameter of {name} must be None, a positive integer or a sequence of them. "
                    f"Got {value!r} instead."
                )
        check_device(self.device, self.matmul_precision, self.dtype)

    def _build_network(self) -> Network:
        return network_from(
            {
                "cell": f"rnn_{self.activation}" if self.cell == "rnn" else self.cell,
                "input_size": self._input_size,
                "hidden_sizes": tuple(int(size) for size in hidden_sizes_of(self)),
                "bidirectional": bool(self.bidirectional),
                "dropout": float(self.dropout),
                "input_dropout": float(self.input_dropout),
                "recurrent_dropout": float(self.recurrent_dropout),
                "output_dropout": float(self.output_dropout),
                "residual": bool(self.residual),
                "embeddings": self._embeddings,
                "convolutions": convolution_settings(self),
                "dtype": np.dtype(self.dtype).name,
                "matmul_precision": self.matmul_precision,
                **self._readout_settings(),
            },
            self.n_jobs,
        )

    def _split(self, targets: Targets) -> tuple[NDArray, NDArray]:
        """Numbers of the samples to train on and of those to validate on."""
        training, held_out = train_test_split(
            np.arange(len(targets)),
            test_size=self.validation_fraction,
            stratify=self._stratify(targets),
            random_state=self._random,
        )
        if len(held_out) < 2:
            raise ValueError(
                f"The 'validation_fraction' parameter of {type(self).__name__} must set aside at least 2 samples for "
                f"early stopping. Got {self.validation_fraction!r} of {len(targets)} samples instead."
            )
        return training, held_out

    @staticmethod
    def _choose(
        sequences: Sequences, targets: Targets, weights: NDArray | None, numbers: NDArray
    ) -> tuple[Sequences, Targets, NDArray | None]:
        return sequences.take(numbers), targets.take(numbers), None if weights is None else weights[numbers]

    def _in_canonical_order(
        self, sequences: Sequences, targets: Targets, weights: NDArray | None
    ) -> tuple[Sequences, Targets, NDArray | None]:
        """Equal samples merged and sorted, if all of them make one minibatch."""
        limit: float
        if self.solver == "lbfgs":
            limit = math.inf
        else:
            limit = _FULL_BATCH if isinstance(self.batch_size, str) else int(self.batch_size)
        return merge_equal_samples(sequences, targets, weights, limit=limit) or (sequences, targets, weights)

    # ------------------------------------------------------------------------------------------------- inference
    def _check_fitted(self) -> None:
        """Raise scikit-learn's NotFittedError if there is no network."""
        check_is_fitted(self)

    def _to_sequences(self, X: Any, dtype: np.dtype, *, reset: bool) -> Sequences:
        """X as the network takes it; learns what its features are if `reset`."""
        if reset and isinstance(self.embedding_weights, Mapping):
            raise ValueError(
                f"The 'embedding_weights' parameter of {type(self).__name__} can only be a dict if X holds words."
            )
        everything = to_sequences(self, X, dtype, reset=reset, padded=self.padding_id is not None)
        if reset:
            self._embeddings = ()
        if self.embedding_dim is None if reset else not self._embeddings:
            return everything
        names = feature_names_of_steps(X)
        if reset:
            columns = categorical_columns(self, everything.n_features, names)
        else:
            columns = tuple(column for column, _, _ in self._embeddings)
            if self.categorical_features is not None and columns != categorical_columns(
                self, everything.n_features, names
            ):
                raise ValueError(f"the categorical features {self.categorical_features!r} were other columns in fit")
        sequences = everything
        if self.padding_id is not None:
            sequences = without_padding(everything, columns, int(self.padding_id))
        if reset:
            self._embeddings = learn_embeddings(self, sequences, columns)
        check_ids(sequences, self._embeddings, everything)
        return sequences

    def _sequences(self, X: Any) -> Sequences:
        self._check_fitted()
        return self._to_sequences(X, self._network.dtype, reset=False)

    def _outputs(self, sequences: Sequences) -> NDArray[np.float64]:
        """Raw outputs of the network, in rows: one for each sequence, or for each time step."""
        return self._reader(sequences).outputs(sequences).astype(np.float64)

    def _reader(self, sequences: Sequences) -> Any:
        """What computes outputs and features of these sequences, as `device` and `matmul_precision` are now."""
        self._network.matmul_precision = self.matmul_precision
        return reader_of(self.device, self._network, sequences)

    def _in_form_of(self, X: Any, sequences: Sequences, rows: NDArray) -> Any:
        """Rows as they are if they belong to sequences; those of time steps in a container like that of X."""
        return in_form_of(X, sequences, rows) if self._per_step else rows

    def transform(self, X: Any) -> Any:
        """The hidden state of the last layer as features of a sequence.

        Parameters
        ----------
        X : array-like or list of arrays
            Sequences, as for `fit`.

        Returns
        -------
        features : ndarray of shape (n_samples, hidden_layer_sizes[-1]), of the type `dtype`
            The hidden state after the last time step, or its mean or maximum over time as `pooling` says; twice as many
            columns if `bidirectional`. An estimator whose targets belong to time steps returns the hidden state after
            every one of them: an array (n_samples, n_timesteps, hidden_layer_sizes[-1]), or a list of arrays
            (n_timesteps_i, hidden_layer_sizes[-1]) if X is a list.
        """
        sequences = self._sequences(X)
        features = self._reader(sequences).features(sequences)
        return self._in_form_of(X, sequences, features)

    @property
    def _n_features_out(self) -> int:
        return self._network.stack.output_size

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_network")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.target_tags.required = True
        # The features have the type of the network, whatever the type of X is.
        tags.transformer_tags.preserves_dtype = []
        return tags

    # --------------------------------------------------------------------------------------------------- keeping
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a file that `numrnn.load` reads.

        The file is in the safetensors format: weights, with constructor parameters and fitted attributes as metadata;
        reading it executes nothing. It appears under its name only when it is complete. The state of the solver and of
        the random generator is not kept, so that a warm start from a file is that of a new solver.

        Parameters
        ----------
        path : str or path-like
            Name of the file, by custom with the extension ``.safetensors``. An existing file is replaced.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If a parameter or a class label cannot be written to a file, such as a learning rate that is a function.
        """
        from numrnn.persistence import save

        save(self, path)


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dict of {len(value)} items"
    return f"an array of shape {np.shape(value)}" if np.ndim(value) > 1 else repr(value)


def only_stochastic(method: Any) -> Any:
    """Hide a method from estimators whose solver needs all data at once."""
    return available_if(_solver_is_stochastic)(method)


# Parameters that every estimator with a network of its own has, and that mean the same for all of them.
COMMON = (
    "hidden_layer_sizes",
    "cell",
    "dropout",
    "learning_rate_init",
    "learning_rate",
    "alpha",
    "max_iter",
    "tol",
    "n_iter_no_change",
    "early_stopping",
    "validation_fraction",
    "max_grad_norm",
    "random_state",
    "dtype",
    "n_jobs",
    "verbose",
)


def shared_constraints(*others: str) -> dict[str, Any]:
    """Constraints of the parameters that all estimators have in common, and of others of `RecurrentEstimator`."""
    return {name: RecurrentEstimator._parameter_constraints[name] for name in (*COMMON, *others)}
