"""Pipelines that end in a recurrent estimator, for compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from numrnn.compiled import CompiledNetwork, affine_map, compile_estimator
from numrnn.estimators.base import RecurrentEstimator
from numrnn.steps import PerStep

__all__ = ["compile_pipeline"]


def compile_pipeline(pipeline: Any, weights: str | None = None) -> CompiledNetwork:
    """A fitted pipeline for compiled code: what its transformers do is folded into the weights of the network.

    Parameters
    ----------
    pipeline : Pipeline
        Any number of `PerStep` transformers, each of which is an affine map of the features of a time step
        (StandardScaler, MinMaxScaler without clipping, RobustScaler, PCA, ...), then an estimator of this package.
    weights : {None, "bfloat16"}, default=None
        As in the estimator's `compile`. What is rounded are the weights into which the transformers are folded.

    Returns
    -------
    compiled : CompiledNetwork
        As from the estimator's `compile`, for features as they enter the pipeline. The results agree with those of the
        pipeline up to rounding.

    Raises
    ------
    TypeError
        If it is not such a pipeline.
    ValueError
        If a transformer is not affine, or the network cannot be compiled (see the estimator's `compile`).
    sklearn.exceptions.NotFittedError
        If it is not fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> import numrnn
    >>> X = np.random.default_rng(0).normal(20, 5, size=(30, 6, 2))
    >>> model = make_pipeline(
    ...     numrnn.PerStep(StandardScaler()), numrnn.RNNRegressor((4,), max_iter=2, tol=0.0, random_state=0)
    ... ).fit(X, X.mean(axis=(1, 2)))
    >>> compiled = numrnn.compile_pipeline(model)
    >>> out = np.empty(1)
    >>> compiled.predict(compiled.parameters, X[0], out)
    >>> bool(np.isclose(out[0], model.predict(X[:1])[0]))
    True
    """
    steps = [step for _, step in getattr(pipeline, "steps", [])]
    if not steps or not isinstance(steps[-1], RecurrentEstimator):
        raise TypeError(f"expected a pipeline that ends in an estimator of numrnn, got {type(pipeline).__name__}")
    *transformers, model = steps
    transformers = [step for step in transformers if step is not None and step != "passthrough"]
    model._check_fitted()
    if not transformers:
        return compile_estimator(model, weights=weights)
    if model._network.embeddings:
        raise ValueError("what is done to token ids before an embedding cannot be folded into the network")
    for step in transformers:
        if not isinstance(step, PerStep):
            raise TypeError(
                f"{type(step).__name__} does not work on single time steps; only PerStep transformers can be folded "
                "into the network"
            )
        check_is_fitted(step)
    n_features = transformers[0]._input_size
    matrix, offset = np.eye(n_features), np.zeros(n_features)
    for step in transformers:
        inner = step.transformer_
        m, o = affine_map(inner.transform, matrix.shape[1], type(inner).__name__)
        matrix, offset = matrix @ m, offset @ m + o
    return compile_estimator(model, (matrix, offset), weights)
