"""Fitted estimators one time step at a time, and inside compiled code."""

from __future__ import annotations

from abc import abstractmethod

from numpy.typing import NDArray

from numrnn.compiled import CompiledNetwork, Stream, compile_estimator

__all__ = ["StepwiseMixin"]


class StepwiseMixin:
    """The methods `compile` and `stream`."""

    def compile(self, weights: str | None = None) -> CompiledNetwork:
        """The network for compiled code: arrays and functions to be used in your own ``@njit`` functions.

        Parameters
        ----------
        weights : {None, "bfloat16"}, default=None
            The type of the weight matrices; None is the one they have. With "bfloat16" they take half the memory, and a
            step of more than some 50 units little more than half the time, since it waits for its weights; each of them
            is rounded to 8 bits. Inputs, states, biases and sums stay float32. See :doc:`/compiled`.

        Returns
        -------
        compiled : CompiledNetwork
            Its outputs are predictions in the units of y, or the probabilities of `classes_`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If the network needs later time steps: it is bidirectional, or has attention, a convolution or a random
            field. If `weights` is none of these, or "bfloat16" for an estimator with ``dtype="float64"``.
        """
        return compile_estimator(self, weights=weights)

    def stream(self, n_streams: int | None = None, *, weights: str | None = None) -> Stream:
        """A sequence that is given one time step at a time, or several of them side by side.

        Parameters
        ----------
        n_streams : int, default=None
            Number of independent sequences. None is one, whose time steps are one-dimensional.
        weights : {None, "bfloat16"}, default=None
            As in `compile`.

        Returns
        -------
        stream : Stream
            After each `update` it returns what `predict` would for the time steps so far (but for bfloat16).

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            As `compile`.

        Examples
        --------
        >>> import numpy as np, numrnn
        >>> X = np.random.default_rng(0).normal(size=(20, 6, 2))
        >>> model = numrnn.RNNRegressor((4,), max_iter=2, tol=0.0, random_state=0).fit(X, X.sum(axis=(1, 2)))
        >>> stream = model.stream()
        >>> for x_t in X[0]:
        ...     y = stream.update(x_t)
        >>> bool(y == model.predict(X[:1])[0])
        True
        """
        return Stream(compile_estimator(self, weights=weights), n_streams, self._of_outputs)

    @abstractmethod
    def _of_outputs(self, outputs: NDArray) -> NDArray:
        """What `predict` makes of predictions in the units of y, or of probabilities: (n_samples, n_outputs)."""
