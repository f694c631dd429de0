"""Whole fits: the same network, batches, epochs and solver, from the same initial recurrent weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.contests import Contest, is_installed, thread_counts
from benchmarks.peers.timing import OURS, Contestant
from benchmarks.suite.training import estimator_for, fit
from benchmarks.suite.workloads import Size, data_set, make_layer

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
    import torch

    from benchmarks.peers.pytorch import torch_layer

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = torch_layer(make_layer(cell, Size(1, 1, n_inputs, HIDDEN)), cell)
            self.readout = torch.nn.Linear(HIDDEN, n_outputs)

        def forward(self, x: Any) -> Any:
            return self.readout(self.recurrent(x)[0][:, -1])

    torch.manual_seed(0)
    return Network()


def _torch_fit(name: str, cell: str, X: NDArray, y: NDArray, epochs: int) -> Callable[[], Any]:
    """A plain loop: data in tensors, shuffled by index, a fused Adam, the losses read once per epoch."""
    import torch

    classify = name == "digits"
    inputs = torch.from_numpy(X)
    targets = torch.from_numpy(y if classify else y[:, np.newaxis])
    batch_size = BATCH_SIZES[name]
    loss_function = torch.nn.CrossEntropyLoss() if classify else torch.nn.MSELoss()

    def call() -> Any:
        network = _network(cell, X.shape[2], 10 if classify else 1)
        solver = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=True)
        for _ in range(epochs):
            order = torch.randperm(len(inputs))
            total = torch.zeros(())
            for batch in order.split(batch_size):
                solver.zero_grad(set_to_none=True)
                loss = loss_function(network(inputs[batch]), targets[batch])
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                solver.step()
                total += loss.detach() * len(batch)
            total.item()
        return network

    return call


def _torch_outputs(name: str, network: Any, X: NDArray) -> NDArray:
    import torch

    with torch.inference_mode():
        outputs = network(torch.from_numpy(X))
        return (outputs.softmax(1) if name == "digits" else outputs).numpy()


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
