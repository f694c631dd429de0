"""Whole fits: the same network, batches, epochs and solver, from the same initial recurrent weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from benchmarks.peers.contests import Contest, is_installed, thread_counts
from benchmarks.peers.timing import OURS, Contestant
from benchmarks.suite.training import estimator_for, fit
from benchmarks.suite.workloads import data_set
from numrnn.network import Network
from numrnn.packing import Sequences

__all__ = ["fit_contest"]

LEARNING_RATE = 5e-3
HIDDEN = 64
BATCH_SIZES = {"digits": 64, "pollution": 256}


def _loss(name: str, outputs: NDArray, y: NDArray) -> float:
    """Of the training data: cross-entropy of probabilities, or mean squared error."""
    if name == "digits":
        return float(-np.mean(np.log(np.maximum(outputs[np.arange(len(y)), y], 1e-30))))
    return float(np.mean((np.ravel(outputs) - y) ** 2))


def _network(cell: str, n_inputs: int, n_outputs: int) -> Any:
    """A PyTorch module: recurrent layer, last hidden state, dense readout."""
    from benchmarks.peers.pytorch_training import TorchNetwork

    network = Network(
        cell="rnn_tanh" if cell == "rnn" else cell,
        input_size=n_inputs,
        hidden_sizes=(HIDDEN,),
        n_outputs=n_outputs,
        loss="cross_entropy" if n_outputs > 1 else "squared_error",
    )
    network.initialize(np.random.RandomState(0))
    return TorchNetwork(network)


def _torch_fit(name: str, cell: str, X: NDArray, y: NDArray, epochs: int) -> Callable[[], Any]:
    """A plain loop over minibatches."""
    from benchmarks.peers.pytorch_training import TrainingSettings, train

    classify = name == "digits"
    sequences = Sequences.from_padded(X)
    targets = y if classify else y[:, np.newaxis]
    settings = TrainingSettings(
        loss="cross_entropy" if classify else "squared_error",
        solver="adam",
        learning_rate=lambda epoch: LEARNING_RATE,
        batch_size=BATCH_SIZES[name],
        n_epochs=epochs,
    )

    def call() -> Any:
        network = _network(cell, X.shape[2], 10 if classify else 1)
        train(network, sequences, targets, settings, np.random.RandomState(0))
        return network

    return call


def _torch_outputs(name: str, network: Any, X: NDArray) -> NDArray:
    from benchmarks.peers.pytorch_training import outputs_of

    outputs = outputs_of(network, Sequences.from_padded(X))
    return softmax(outputs, axis=1) if name == "digits" else outputs


def _skorch_fit(name: str, cell: str, X: NDArray, y: NDArray, epochs: int) -> Callable[[], Any]:
    import skorch
    import torch
    from skorch.callbacks import GradientNormClipping

    classify = name == "digits"
    kind = skorch.NeuralNetClassifier if classify else skorch.NeuralNetRegressor
    targets = y if classify else y[:, np.newaxis]

    def call() -> Any:
        return kind(
            _network(cell, X.shape[2], 10 if classify else 1),
            criterion=torch.nn.CrossEntropyLoss if classify else torch.nn.MSELoss,
            optimizer=torch.optim.Adam,
            optimizer__fused=True,
            lr=LEARNING_RATE,
            batch_size=BATCH_SIZES[name],
            max_epochs=epochs,
            iterator_train__shuffle=True,
            train_split=None,
            callbacks=[GradientNormClipping(1.0)],
            verbose=0,
        ).fit(X, targets)

    return call


def fit_contest(cell: str, name: str, epochs: int) -> Contest:
    """One data set, fitted by everyone.

    Parameters
    ----------
    cell : {"lstm", "gru", "rnn"}
    name : {"digits", "pollution"}
    epochs : int
    """
    X, y = data_set(name)
    model = estimator_for(
        name,
        cell,
        "cpu",
        batch_size=BATCH_SIZES[name],
        max_iter=epochs,
        learning_rate_init=LEARNING_RATE,
        tol=0.0,
        n_iter_no_change=epochs + 1,
    )
    fits: dict[str, Any] = {}

    def keep(key: str, call: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            fits[key] = call()

        return run

    outputs: dict[str, Callable[[Any], NDArray]] = {
        OURS: lambda fitted: fitted.predict_proba(X) if name == "digits" else fitted.predict(X)
    }
    field_ = [Contestant(OURS, keep(OURS, lambda: fit(model, X, y)))]
    if is_installed("torch"):
        from benchmarks.peers import pytorch

        call = keep("PyTorch loop", _torch_fit(name, cell, X, y, epochs))
        field_ += pytorch.contestants("PyTorch loop", call, thread_counts())
        outputs["PyTorch loop"] = lambda fitted: _torch_outputs(name, fitted, X)
        if is_installed("skorch"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call = keep("skorch", _skorch_fit(name, cell, X, y, epochs))
            field_ += pytorch.contestants("skorch", call, thread_counts())
            outputs["skorch"] = lambda fitted: fitted.predict_proba(X) if name == "digits" else fitted.predict(X)
    return Contest(
        "fit",
        cell,
        f"{name} {X.shape}, {HIDDEN} units, {epochs} epoch{'s'[: epochs > 1]}",
        field_,
        losses=lambda: {key: _loss(name, outputs[key](fitted), y) for key, fitted in fits.items()},
        turn_seconds=0.0,
    )
