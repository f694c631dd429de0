"""Solvers whose vectors lie on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.kernels.cuda.arrays import download, upload
from numrnn.kernels.cuda.solvers import PARTS, adam, conclude, rmsprop, sgd
from numrnn.kernels.updates import adam_factors
from numrnn.training.solvers import SGD, Adam, AdamW, RMSprop, Solver

__all__ = ["DeviceSolver"]

# As a plain function: here it is called once for an update.
_adam_factors = getattr(adam_factors, "py_func", adam_factors)


class DeviceSolver:
    """Makes the updates of a solver of the host on the device, and brings back what the solver remembers.

    Every parameter takes part in every update, rows of tables that a minibatch does not reach too: on the host these
    make up for it later, with the same result.

    Parameters
    ----------
    solver : Solver
        SGD, Adam, AdamW or RMSprop.
    network : Network or EncoderDecoder
        On the host. Its parameters have made all the updates that they had missed.
    queue
    """

    def __init__(self, solver: Solver, network: Any, queue: Any) -> None:
        if type(solver) not in (SGD, Adam, AdamW, RMSprop):
            raise TypeError(f"expected one of the solvers SGD, Adam, AdamW and RMSprop, got {type(solver).__name__}")
        parameters = network.parameters.flat
        self.solver = solver
        self.dtype = parameters.dtype
        self._n_table_rows = network.whole_reach().n_rows
        self._queue = queue
        self._n_updates = solver.n_updates
        if not solver.moments:
            solver.moments = {name: np.zeros_like(parameters) for name in solver.moment_names}
        self._moments = {name: upload(moment, queue) for name, moment in solver.moments.items()}
        marks = np.zeros(parameters.size, dtype=np.uint8)
        for begin, end in zip(*network.weight_spans, strict=True):
            marks[begin:end] = 1
        self._weight_marks = upload(marks, queue)
        self._no_marks = upload(marks[:0], queue)
        self._parts = upload(np.zeros(2 * PARTS, dtype=np.float64), queue)
        self._failed = upload(np.full(1, -1, dtype=np.int64), queue)
        self._clip = upload(np.ones(1, dtype=np.float64), queue)
        self._records: Any = None

    def begin(self, n_batches: int) -> None:
        """An epoch of so many minibatches."""
        if self._records is None or self._records.size < 2 * n_batches:
            self._records = upload(np.zeros(2 * n_batches, dtype=np.float64), self._queue)

    def update(
        self,
        parameters: Any,
        gradient: Any,
        losses: Any,
        n_rows: int,
        *,
        number: int,
        loss_scale: float,
        penalty: float,
        strength: float,
        max_norm: float,
        learning_rate: float,
    ) -> None:
        """End minibatch `number`: its loss, the norm of its gradient, and the update if both are finite.

        Parameters
        ----------
        parameters, gradient : device array
        losses : device array of float64
            Of which the first `n_rows` elements, times `loss_scale`, add up to the loss.
        penalty, strength : float
            Factors of the L2 penalty in the loss, and in the gradient.
        """
        queue = self._queue
        conclude(
            queue, parameters, gradient, self._weight_marks, float(strength), self._parts, losses, n_rows,
            float(loss_scale), float(penalty), float(max_norm), self._records, number, self._failed, self._clip,
        )  # fmt: skip
        self._n_updates += 1
        self._apply(parameters, gradient, float(learning_rate))

    def _apply(self, parameters: Any, gradient: Any, rate: float) -> None:
        solver, number, moments = self.solver, self.dtype.type, self._moments
        state = (self._clip, self._failed)
        if isinstance(solver, Adam):
            corrected, root = _adam_factors(self._n_updates, rate, solver.beta_1, solver.beta_2)
            adam(
                self._queue, parameters, gradient, moments["mean"], moments["square"],
                self._weight_marks if solver.weight_decay else self._no_marks, *state,
                *map(number, (corrected, root, solver.beta_1, 1.0 - solver.beta_1, solver.beta_2, 1.0 - solver.beta_2,
                              solver.epsilon, 1.0 - rate * solver.weight_decay)),
            )  # fmt: skip
        elif isinstance(solver, RMSprop):
            factors = map(number, (rate, solver.rho, 1.0 - solver.rho, solver.epsilon))
            rmsprop(self._queue, parameters, gradient, moments["square"], *state, *factors)
        else:
            assert isinstance(solver, SGD)
            velocity = moments.get("velocity")
            momentum, nesterov = number(solver.momentum), bool(solver.nesterov)
            sgd(self._queue, parameters, gradient, velocity, *state, number(rate), momentum, nesterov)

    def conclude(self, n_batches: int) -> tuple[NDArray[np.float64], int | None]:
        """End an epoch, or what there was of it.

        Returns
        -------
        record : ndarray of shape (n_batches, 2)
            Loss and norm of the gradient.
        failed : int or None
            The first minibatch of which one of them is not finite; it and those after it have changed nothing.
        """
        record = download(self._records, self._queue)[: 2 * n_batches].reshape(n_batches, 2)
        failed = int(download(self._failed, self._queue)[0])
        if failed >= 0:
            self._n_updates -= n_batches - failed
            self._failed.copy_to_device(np.full(1, -1, dtype=np.int64), stream=self._queue)
        return record, failed if failed >= 0 else None

    def download(self) -> None:
        """Leave what the solver remembers with the one on the host."""
        for name, moment in self._moments.items():
            download(moment, self._queue, self.solver.moments[name])
        self.solver.made_elsewhere(self._n_updates, self._n_table_rows)
