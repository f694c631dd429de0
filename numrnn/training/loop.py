"""Training: epochs, minibatches, when to stop, and what to do when something goes wrong."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.kernels.cpu.solvers import euclidean_norm
from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.seq2seq import PairBatch
from numrnn.training.batches import divide
from numrnn.training.data import TrainingData, TrainingSource
from numrnn.training.engine import Engine, EngineMaker, HostEngine, Minibatches, NotFinite, Objective
from numrnn.training.lbfgs import minimize_lbfgs
from numrnn.training.progress import Progress
from numrnn.training.schedules import Schedule, make_schedule
from numrnn.training.solvers import SOLVERS, AdamW, Solver
from numrnn.training.state import TrainingState

__all__ = ["TrainingState", "train"]

_AUTOMATIC_BATCH_SIZE = 200
# Sequences of a source that are judged at once.
_PART_OF_SOURCE = 1024

Scorer = Callable[[NDArray, NDArray, NDArray | None], float]


def train(
    network: Network,
    sequences: Sequences | TrainingSource,
    targets: NDArray | None = None,
    weights: NDArray | None = None,
    *,
    solver: str | Solver = "adam",
    learning_rate: str | Schedule | Callable[[int], float] = "constant",
    learning_rate_init: float = 1e-3,
    alpha: float = 0.0,
    batch_size: int | str = "auto",
    max_iter: int = 100,
    tol: float = 1e-4,
    n_iter_no_change: int = 10,
    early_stopping: bool = False,
    validation: tuple[Sequences, NDArray, NDArray | None] | TrainingSource | None = None,
    scorer: Scorer | None = None,
    max_grad_norm: float | None = 1.0,
    bptt_steps: int | None = None,
    shuffle: bool = True,
    rng: np.random.RandomState | None = None,
    verbose: bool = False,
    state: TrainingState | None = None,
    incremental: bool = False,
    engine: EngineMaker = HostEngine,
) -> TrainingState:
    """Change a network's parameters until they stop getting better.

    Parameters
    ----------
    network : Network
        Its `parameters` are the start and receive the result.
    sequences : Sequences or TrainingSource
        A source of minibatches brings the targets and weights with it.
    targets : ndarray
        Class numbers (n_rows,) for the cross-entropy, else values (n_rows, n_outputs) or (n_rows,). Rows are sequences,
        or where the network does not pool, time steps, sequence after sequence.
    weights : ndarray of shape (n_rows,), default=None
    solver : {"adam", "adamw", "sgd", "rmsprop", "lbfgs"} or Solver, default="adam"
        By name: "sgd" has Nesterov momentum of 0.9; "adamw" takes `alpha` as its decoupled decay of the weights;
        "lbfgs" uses all data for every step, computes in float64 and has no use for learning rate, batch size,
        clipping and early stopping.
    learning_rate : {"constant", "step", "cosine", "adaptive"}, Schedule or callable, default="constant"
        See `make_schedule`.
    learning_rate_init : float, default=1e-3
    alpha : float, default=0.0
        L2 penalty of the weights, see `Network.loss_and_gradient`.
    batch_size : int or "auto", default="auto"
        Sequences in a minibatch; "auto" is ``min(200, n_sequences)``.
    max_iter : int, default=100
        Epochs at most.
    tol, n_iter_no_change : float, int, default=1e-4, 10
        Training stops when for more than `n_iter_no_change` epochs in a row the loss was not lower than the best one
        by more than `tol` (with early stopping: the score not higher by at least `tol`), as in MLPClassifier.
    early_stopping : bool, default=False
        Whether to judge by a score on validation data, and to end with the parameters of the best score.
    validation : tuple of (Sequences, targets, weights or None), or TrainingSource, default=None
        The targets and weights go to the scorer as they are. A source is judged by the loss.
    scorer : callable, default=None
        ``scorer(raw_outputs, targets, weights) -> float``, higher is better. None is minus the loss.
    max_grad_norm : float or None, default=1.0
        Longer gradients are scaled to this norm.
    bptt_steps : int or None, default=None
        Truncated backpropagation through time, see `Network.loss_and_gradient`.
    shuffle : bool, default=True
        Has no effect if one minibatch holds all sequences: they keep their order then.
    rng : RandomState, default=None
        Shuffles, and chooses what dropout removes. None is a new one with a random seed.
    verbose : bool, default=False
        Whether to show a progress bar.
    state : TrainingState, default=None
        Go on from here; changed in place, also when training ends with an error.
    incremental : bool, default=False
        One epoch only, as for `partial_fit`.
    engine : callable, default=HostEngine
        Makes what trains: the kernels of the CPU, or another `Engine`.

    Returns
    -------
    TrainingState

    Raises
    ------
    FloatingPointError
        If the loss or its gradient is not finite. The network has the parameters of the last good epoch then.

    Notes
    -----
    The result depends on the arguments alone, not on the number of threads. KeyboardInterrupt ends training with a
    warning and keeps the parameters.
    """
    data = _as_source(network, sequences, targets, weights)
    state = TrainingState() if state is None else state
    rng = np.random.RandomState() if rng is None else rng
    state.n_iter = 0
    state.converged = state.interrupted = False
    if early_stopping and incremental:
        raise ValueError("early_stopping has no meaning for a single epoch of incremental training")
    if early_stopping and validation is None:
        raise ValueError("early_stopping needs validation data")
    if solver == "lbfgs":
        if not isinstance(data, TrainingData):
            everything, rows, of_rows = data.part(0, len(data))
            starts = None
            if network.pooling is None and isinstance(everything, Sequences):
                starts = np.cumsum(everything.lengths) - everything.lengths
            data = TrainingData(everything, rows, of_rows, starts)
        if early_stopping or incremental:
            raise ValueError("the solver 'lbfgs' offers neither early_stopping nor incremental training")
        return _train_lbfgs(network, data, engine, state, alpha, max_iter, tol, bptt_steps, rng, verbose)

    penalty = _prepare(network, state, solver, learning_rate, learning_rate_init, alpha, max_iter, incremental)
    assert state.solver is not None
    assert state.schedule is not None
    n_sequences = len(data)
    size = min(_AUTOMATIC_BATCH_SIZE if isinstance(batch_size, str) else max(batch_size, 1), n_sequences)
    parameters = network.parameters.flat
    total_weight = data.total_weight
    objective = Objective(penalty, bptt_steps, math.inf if max_grad_norm is None else float(max_grad_norm))
    trainer = engine(network, data, state.solver, objective, size)
    # Parameters that are known to give a finite loss: those at the beginning of this epoch, once its first minibatch
    # has shown it, until then those at the beginning of the one before.
    epoch_begin, last_good = parameters.copy(), parameters.copy()
    judge = _make_judge(network, trainer, validation, scorer) if early_stopping and validation is not None else None
    per_step = network.pooling is None
    progress = Progress(
        1 if incremental else max_iter,
        data.n_rows if per_step else n_sequences,
        unit="steps" if per_step else "samples",
        verbose=verbose,
    )
    try:
        for _ in range(1 if incremental else max_iter):
            epoch_begin[:] = parameters
            rate = state.schedule(state.n_epochs - state.schedule_begin)
            order, bounds = divide(data.lengths, size, shuffle=shuffle, rng=rng)
            random = network.uses_random_numbers
            seeds = rng.randint(0, 2**31 - 1, size=len(bounds)).tolist() if random else [0] * len(bounds)
            try:
                loss_sum = trainer.epoch(Minibatches(order, bounds, seeds), rate)
            except NotFinite as error:
                if error.number > 0 or error.what != "loss":
                    last_good[:] = epoch_begin
                where = f"minibatch {error.number + 1} of {len(bounds)}"
                _give_up(network, state, last_good, error.what, error.value, where, rate)
            last_good[:] = epoch_begin
            if not math.isfinite(euclidean_norm(parameters)):
                _give_up(network, state, last_good, "parameters", math.nan, "its last minibatch", rate)
            state.n_iter += 1
            state.n_epochs += 1
            state.n_samples_seen += n_sequences
            state.loss_curve.append(loss_sum / total_weight)
            score = None if judge is None else judge()
            if score is not None and not math.isfinite(score):
                _give_up(network, state, last_good, "validation score", score, "its end", rate)
            _count_improvement(state, score, parameters, tol)
            progress.epoch(state.loss_curve[-1], score)
            if state.no_improvement_count > n_iter_no_change:
                if not state.schedule.on_plateau():
                    state.converged = True
                    break
                state.no_improvement_count = 0
    except KeyboardInterrupt:
        state.interrupted = True
        warnings.warn("Training interrupted by user.", stacklevel=2)
    finally:
        progress.close()
        trainer.close()
    if early_stopping and state.best_parameters is not None:
        parameters[:] = state.best_parameters
    return state


def _prepare(
    network: Network,
    state: TrainingState,
    solver: str | Solver,
    learning_rate: Any,
    learning_rate_init: float,
    alpha: float,
    max_iter: int,
    incremental: bool,
) -> float:
    """Make solver and schedule, or keep those of earlier calls; return the penalty that is left for the loss.

    The moments of the solver are kept, since they belong to the parameters. A schedule begins anew with every training,
    and goes on only from one incremental call to the next.
    """
    if not isinstance(solver, Solver) and solver not in SOLVERS:
        raise ValueError(f"solver must be one of {sorted([*SOLVERS, 'lbfgs'])} or a Solver, got {solver!r}")
    if state.solver is None or state.solver_from != solver:
        state.solver_from = solver
        if isinstance(solver, Solver):
            state.solver = solver
        elif solver == "adamw":
            state.solver = AdamW(spans=network.weight_spans)
        else:
            state.solver = SOLVERS[solver]()
    schedule_from = (learning_rate, learning_rate_init, max_iter)
    if state.schedule is None or state.schedule_from != schedule_from or not incremental:
        state.schedule_from = schedule_from
        state.schedule_begin = state.n_epochs
        state.schedule = make_schedule(learning_rate, learning_rate_init, max_iter)
    if solver == "adamw":
        assert isinstance(state.solver, AdamW)
        state.solver.weight_decay = alpha
        return 0.0
    return alpha


def _as_source(
    network: Network, sequences: Sequences | TrainingSource, targets: NDArray | None, weights: NDArray | None
) -> TrainingData | TrainingSource:
    if not isinstance(sequences, Sequences):
        return sequences
    if targets is None:
        raise ValueError("targets must be given with sequences, got None")
    return TrainingData.of(network, sequences, targets, weights)


def _mean_loss(trainer: Engine, data: TrainingSource) -> float:
    """Loss of all data, in parts of bounded memory."""
    total = 0.0
    for begin in range(0, len(data), _PART_OF_SOURCE):
        sequences, targets, weights = data.part(begin, min(begin + _PART_OF_SOURCE, len(data)))
        total += trainer.loss(sequences, targets, weights) * (len(targets) if weights is None else weights.sum())
    return total / data.total_weight


def _make_judge(
    network: Network,
    trainer: Engine,
    validation: tuple[Sequences, NDArray, NDArray | None] | TrainingSource,
    scorer: Scorer | None,
) -> Callable[[], float]:
    """The score of the network as it is when called."""
    if not isinstance(validation, tuple):
        return lambda: -_mean_loss(trainer, validation)
    sequences, targets, weights = validation
    if scorer is not None:

        def judge() -> float:
            outputs = trainer.outputs(sequences)
            # A scorer may refuse such numbers, with words of its own.
            return float(scorer(outputs, targets, weights)) if np.isfinite(outputs).all() else math.nan

        return judge
    data = TrainingData.of(network, sequences, targets, weights)
    return lambda: -trainer.loss(data.sequences, data.targets, data.weights)


def _count_improvement(state: TrainingState, score: float | None, parameters: NDArray, tol: float) -> None:
    """Count epochs without improvement, by the rules of scikit-learn's MLPClassifier."""
    loss = state.loss_curve[-1]
    if score is None:
        improved = not loss > state.best_loss - tol
    else:
        state.validation_scores.append(score)
        improved = not score < state.best_validation_score + tol
        if score > state.best_validation_score:
            state.best_validation_score = score
            state.best_parameters = parameters.copy()
    state.no_improvement_count = 0 if improved else state.no_improvement_count + 1
    state.best_loss = min(state.best_loss, loss)


def _give_up(
    network: Network, state: TrainingState, last_good: NDArray, what: str, loss: float, where: str, rate: float
) -> None:
    """Go back to the last good parameters and say what happened."""
    network.parameters.flat[:] = last_good
    happened = f"the {what} became {loss}" if what == "loss" else f"the {what} stopped being finite"
    raise FloatingPointError(
        f"{happened} in epoch {state.n_epochs + 1} ({where}, learning rate {rate:g}); the parameters of the last good "
        "epoch have been restored. Likely remedies: a smaller learning_rate_init, a smaller max_grad_norm (such as "
        "1.0), inputs and targets scaled to about unit variance, cell='lstm' or 'gru' instead of 'rnn', "
        "dtype='float64'."
    ) from None


def _in_float64(sequences: Sequences | PairBatch) -> Any:
    if isinstance(sequences, PairBatch):
        return PairBatch(*(_in_float64(side) for side in sequences))
    return Sequences(sequences.values.astype(np.float64, copy=False), sequences.starts, sequences.lengths)


def _train_lbfgs(
    network: Network,
    data: TrainingData,
    engine: EngineMaker,
    state: TrainingState,
    alpha: float,
    max_iter: int,
    tol: float,
    bptt_steps: int | None,
    rng: np.random.RandomState,
    verbose: bool,
) -> TrainingState:
    """Train on all data at once, in float64: a line search needs more digits of the loss than float32 has."""
    exact = network.with_dtype(np.float64)
    sequences = _in_float64(data.sequences)
    targets = data.targets if data.targets.dtype == np.int64 else data.targets.astype(np.float64)
    seed = int(rng.randint(0, 2**31 - 1)) if network.uses_random_numbers else 0
    evaluate = engine.loss_of_all(
        exact, TrainingData(sequences, targets, data.weights, data.row_starts), alpha, bptt_steps, seed
    )
    n_sequences = len(sequences.sources if isinstance(sequences, PairBatch) else sequences)
    progress = Progress(max_iter, n_sequences, verbose=verbose)

    def on_iteration(x: NDArray[np.float64], loss: float) -> None:
        network.parameters.flat[:] = x
        state.n_iter += 1
        state.n_epochs += 1
        state.n_samples_seen += n_sequences
        state.loss_curve.append(loss)
        state.best_loss = min(state.best_loss, loss)
        progress.epoch(loss, None)

    try:
        start = network.parameters.flat.astype(np.float64)
        best, state.converged = minimize_lbfgs(evaluate, start, max_iter=max_iter, tol=tol, on_iteration=on_iteration)
        network.parameters.flat[:] = best
    except KeyboardInterrupt:
        state.interrupted = True
        warnings.warn("Training interrupted by user.", stacklevel=3)
    except FloatingPointError as error:
        raise FloatingPointError(
            f"{error} in iteration {state.n_iter + 1} of L-BFGS; the parameters of the last good iteration have "
            "been kept. Likely remedies: inputs and targets scaled to about unit variance, a larger alpha, the solver "
            "'adam'."
        ) from error
    finally:
        progress.close()
    return state
