"""Solvers: how a gradient changes the parameters.

A solver works on one flat vector and knows nothing of a network. Its moments are made at the first update.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.kernels.cpu.solvers import adam, adam_missed, rmsprop, rmsprop_missed, sgd, sgd_missed
from numrnn.parameters import Reach

__all__ = ["SGD", "SOLVERS", "Adam", "AdamW", "RMSprop", "Solver"]

# Begins and ends, as the kernels take them.
Spans = tuple[NDArray[np.int64], NDArray[np.int64]]

_NOTHING = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


class Solver(ABC):
    """What all solvers have in common.

    Attributes
    ----------
    n_updates : int
        Updates made so far.
    moments : dict of str to ndarray
        The vectors that an update needs beside the parameters, empty before the first one.

    Notes
    -----
    Rows of tables that an update does not reach cost nothing, and stay behind. `catch_up` makes the updates that a row
    has missed all at once, as they would have been with a gradient of zero; where rows are caught up with before they
    are used, the result is that of a solver that updates everything always.
    """

    moment_names: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.n_updates = 0
        self.moments: dict[str, NDArray] = {}
        # The number of updates up to which the moments of every row of a table have been kept; None without tables.
        self._updated: NDArray[np.int64] | None = None

    def update(
        self,
        parameters: NDArray,
        gradient: NDArray,
        learning_rate: float,
        max_norm: float = math.inf,
        reach: Reach | None = None,
    ) -> float:
        """Change the parameters in place.

        Parameters
        ----------
        parameters, gradient : ndarray of shape (size,)
            Contiguous, of one floating-point type.
        learning_rate : float
        max_norm : float, default=inf
            A longer gradient is scaled to this Euclidean norm [1]_.
        reach : Reach, default=None
            The parts of the gradient that are not zero. None for all of it.

        Returns
        -------
        float
            The norm of the gradient before it was clipped. If it is not finite, nothing has been changed but what
            `catch_up` does for the rows that were reached.

        References
        ----------
        .. [1] Pascanu, R., Mikolov, T. and Bengio, Y. (2013). On the difficulty of training recurrent neural networks.
        """
        arrays = (parameters, gradient, *self.moments.values())
        if any(array.shape != parameters.shape or array.dtype != parameters.dtype for array in arrays):
            raise ValueError(
                "parameters, gradient and what the solver remembers of earlier updates must be of one shape and type, "
                "got " + ", ".join(f"{array.shape} {array.dtype}" for array in arrays)
            )
        if reach is None:
            reach = Reach.all_of(parameters.size)
        self._check_tables(reach)
        self.begin(parameters)
        if reach.n_rows:
            if self._updated is None:
                self._updated = np.zeros(reach.n_rows, dtype=np.int64)
            self.catch_up(parameters, reach, learning_rate)
        spans = (reach.begins, reach.ends)
        norm = self._apply(parameters, gradient, spans, float(learning_rate), float(max_norm))
        if math.isfinite(norm):
            self.n_updates += 1
            if self._updated is not None:
                self._updated[reach.rows] = self.n_updates
        return norm

    def begin(self, parameters: NDArray) -> None:
        """Make the moments for a vector of parameters, if there are none."""
        if not self.moments:
            self.moments = {name: np.zeros_like(parameters) for name in self.moment_names}

    @abstractmethod
    def settings_of_span(self, parameters: NDArray, begin: int, end: int) -> tuple[Any, ...]:
        """What the solver's kernel for given spans wants beside the rest, to update these elements alone."""

    def catch_up(self, parameters: NDArray, reach: Reach, learning_rate: float) -> None:
        """Make the updates that rows have missed.

        Parameters
        ----------
        parameters : ndarray of shape (size,)
        reach : Reach
            The rows.
        learning_rate : float
            Of the updates that were missed.
        """
        if self._updated is None or not len(reach.rows) or not self.moments:
            return
        self._check_tables(reach)
        ages = self.n_updates - self._updated[reach.rows]
        behind = np.flatnonzero(ages)
        if not len(behind):
            return
        spans = (reach.begins[1:][behind], reach.ends[1:][behind])
        self._apply_missed(parameters, spans, ages[behind], float(learning_rate))
        self._updated[reach.rows] = self.n_updates

    def _check_tables(self, reach: Reach) -> None:
        n_rows = 0 if self._updated is None else len(self._updated)
        if reach.n_rows != n_rows and (self._updated is not None or self.n_updates):
            raise ValueError(
                f"this solver has been used for tables of {n_rows} rows together, got a gradient of tables of "
                f"{reach.n_rows} rows"
            )

    @abstractmethod
    def _apply(
        self, parameters: NDArray, gradient: NDArray, spans: Spans, learning_rate: float, max_norm: float
    ) -> float:
        """Make one update; the norm of the gradient before it was clipped."""

    @abstractmethod
    def _apply_missed(self, parameters: NDArray, spans: Spans, ages: NDArray[np.int64], learning_rate: float) -> None:
        """Make the updates that spans have missed, so many of each."""

    def made_elsewhere(self, n_updates: int, n_rows: int) -> None:
        """Count updates that all parameters have made together, without this solver.

        Parameters
        ----------
        n_updates : int
            Those made so far, earlier ones included.
        n_rows : int
            Rows of all tables together.
        """
        self.n_updates = n_updates
        self._updated = np.full(n_rows, n_updates, dtype=np.int64) if n_rows else None

    def state(self) -> dict[str, Any]:
        """A copy of everything that changes from update to update."""
        state: dict[str, Any] = {name: moment.copy() for name, moment in self.moments.items()}
        return state | {
            "n_updates": self.n_updates,
            "rows_updated": None if self._updated is None else self._updated.copy(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        self.n_updates = state["n_updates"]
        self._updated = None if state["rows_updated"] is None else state["rows_updated"].copy()
        self.moments = {name: state[name].copy() for name in self.moment_names if name in state}


class SGD(Solver):
    """Stochastic gradient descent with momentum, in the form of Sutskever et al. (2013) that PyTorch uses.

    Parameters
    ----------
    momentum : float, default=0.9
        0 for none.
    nesterov : bool, default=True
        Whether to look ahead along the velocity.
    """

    moment_names: tuple[str, ...] = ("velocity",)

    def __init__(self, momentum: float = 0.9, nesterov: bool = True) -> None:
        super().__init__()
        self.momentum = momentum
        self.nesterov = nesterov
        if momentum == 0:
            # A velocity without momentum would only be a copy of the gradient: the kernel takes an empty one for none.
            self.moment_names = ()

    def _apply(
        self, parameters: NDArray, gradient: NDArray, spans: Spans, learning_rate: float, max_norm: float
    ) -> float:
        velocity = self.moments.get("velocity", gradient[:0])
        return sgd(parameters, gradient, velocity, *spans, learning_rate, self.momentum, self.nesterov, max_norm)

    def settings_of_span(self, parameters: NDArray, begin: int, end: int) -> tuple[Any, ...]:
        return self.moments.get("velocity", parameters[:0]), float(self.momentum), bool(self.nesterov)

    def _apply_missed(self, parameters: NDArray, spans: Spans, ages: NDArray[np.int64], learning_rate: float) -> None:
        sgd_missed(parameters, self.moments["velocity"], *spans, ages, learning_rate, self.momentum, self.nesterov)


class Adam(Solver):
    """Adam: steps scaled by running means of the gradient and of its square, both corrected for their start at zero.

    Kingma, D. P. and Ba, J. (2015). Adam: a method for stochastic optimization. ICLR.

    Parameters
    ----------
    beta_1, beta_2 : float, default=0.9, 0.999
        Decay rates of the two means.
    epsilon : float, default=1e-8
    """

    moment_names: tuple[str, ...] = ("mean", "square")

    def __init__(self, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.weight_decay = 0.0
        self.decaying = _NOTHING

    def _apply(
        self, parameters: NDArray, gradient: NDArray, spans: Spans, learning_rate: float, max_norm: float
    ) -> float:
        return adam(
            parameters,
            gradient,
            self.moments["mean"],
            self.moments["square"],
            *spans,
            self.n_updates + 1,
            learning_rate,
            self.beta_1,
            self.beta_2,
            self.epsilon,
            self.weight_decay,
            *self.decaying,
            max_norm,
        )

    def settings_of_span(self, parameters: NDArray, begin: int, end: int) -> tuple[Any, ...]:
        # Only what decays within the span.
        begins, ends = (np.clip(bounds, begin, end) for bounds in self.decaying)
        factors = (self.beta_1, self.beta_2, self.epsilon, self.weight_decay)
        return self.moments["mean"], self.moments["square"], *map(float, factors), begins, ends

    def _apply_missed(self, parameters: NDArray, spans: Spans, ages: NDArray[np.int64], learning_rate: float) -> None:
        adam_missed(
            parameters,
            self.moments["mean"],
            self.moments["square"],
            *spans,
            ages,
            self.n_updates,
            learning_rate,
            self.beta_1,
            self.beta_2,
            self.epsilon,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay: weights also shrink by the factor ``1 - learning_rate * weight_decay``.

    Loshchilov, I. and Hutter, F. (2019). Decoupled weight decay regularization. ICLR.

    Parameters
    ----------
    beta_1, beta_2, epsilon
        As for `Adam`.
    weight_decay : float, default=0.01
    spans : tuple of two ndarrays of int64, default=None
        First and past-the-end elements of the parts of the vector that decay. None for all of it but tables.
    """

    def __init__(
        self,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        spans: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    ) -> None:
        super().__init__(beta_1, beta_2, epsilon)
        self.weight_decay = weight_decay
        self._given_spans = spans

    def _apply(
        self, parameters: NDArray, gradient: NDArray, spans: Spans, learning_rate: float, max_norm: float
    ) -> float:
        self.decaying = (spans[0][:1], spans[1][:1]) if self._given_spans is None else self._given_spans
        return super()._apply(parameters, gradient, spans, learning_rate, max_norm)

    def settings_of_span(self, parameters: NDArray, begin: int, end: int) -> tuple[Any, ...]:
        everything = (np.zeros(1, dtype=np.int64), np.full(1, parameters.size, dtype=np.int64))
        self.decaying = everything if self._given_spans is None else self._given_spans
        return super().settings_of_span(parameters, begin, end)


class RMSprop(Solver):
    """RMSprop: steps scaled by a running mean of the squared gradient.

    Tieleman, T. and Hinton, G. (2012). Lecture 6.5, Neural Networks for Machine Learning.

    Parameters
    ----------
    rho : float, default=0.99
        Decay rate of the mean.
    epsilon : float, default=1e-8
    """

    moment_names: tuple[str, ...] = ("square",)

    def __init__(self, rho: float = 0.99, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.rho = rho
        self.epsilon = epsilon

    def _apply(
        self, parameters: NDArray, gradient: NDArray, spans: Spans, learning_rate: float, max_norm: float
    ) -> float:
        square = self.moments["square"]
        return rmsprop(parameters, gradient, square, *spans, learning_rate, self.rho, self.epsilon, max_norm)

    def settings_of_span(self, parameters: NDArray, begin: int, end: int) -> tuple[Any, ...]:
        return self.moments["square"], float(self.rho), float(self.epsilon)

    def _apply_missed(self, parameters: NDArray, spans: Spans, ages: NDArray[np.int64], learning_rate: float) -> None:
        rmsprop_missed(self.moments["square"], *spans, ages, self.rho)


SOLVERS: dict[str, type[Solver]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}
