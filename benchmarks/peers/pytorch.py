"""PyTorch's recurrent layers with the weights of ours."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.peers.timing import Contestant

__all__ = ["PRECISIONS", "contestants", "forward", "padded_forward", "step", "torch_layer", "training"]

_LAYERS: dict[str, Any] = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}


# Ways to compute, by name: what `forward` and `training` are told.
PRECISIONS: dict[str, dict[str, Any]] = {
    "PyTorch": {},
    "PyTorch autocast": {"autocast": True},
    "PyTorch bfloat16": {"dtype": torch.bfloat16},
}


def contestants(name: str, call: Callable[[], Any], thread_counts: tuple[int, ...]) -> list[Contestant]:
    """One for every number of threads."""
    return [
        Contestant(f"{name}, {count} thread{'s'[: count > 1]}", call, partial(torch.set_num_threads, count))
        for count in thread_counts
    ]


def torch_layer(layer: Any, cell: str) -> Any:
    """The layer of `torch.nn` that computes the same as ours."""
    twin = _LAYERS[cell](layer.input_size, layer.hidden_sizes[0], batch_first=True, bidirectional=layer.bidirectional)
    twin.load_state_dict({name: torch.from_numpy(values.copy()) for name, values in layer.parameters.items()})
    return twin


def forward(
    layer: Any, x: NDArray, lengths: NDArray | None = None, *, autocast: bool = False, dtype: Any = torch.float32
) -> Callable[[], NDArray]:
    """Inference; of ragged sequences by PackedSequence, padded again at the end.

    With `autocast`, products are in bfloat16; with another `dtype`, everything is but the array that comes and goes.
    """
    layer = copy.deepcopy(layer).to(dtype)
    batch = torch.from_numpy(x)
    counts = None if lengths is None else torch.from_numpy(lengths)

    def call() -> NDArray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            if counts is None:
                return layer(batch.to(dtype))[0].float().numpy()
            packed = pack_padded_sequence(batch, counts, batch_first=True, enforce_sorted=False)
            return pad_packed_sequence(layer(packed)[0], batch_first=True)[0].numpy()

    return call


def padded_forward(layer: Any, x: NDArray) -> Callable[[], NDArray]:
    """Inference over the padding, too: what lies past the ends is thrown away, and the way back begins there."""
    return forward(layer, x)


def training(
    layer: Any,
    x: NDArray,
    d_y: NDArray,
    lengths: NDArray | None = None,
    *,
    autocast: bool = False,
    dtype: Any = torch.float32,
) -> Callable[[], dict[str, NDArray]]:
    """Forward and backward; all gradients, that of the input included. As `forward` otherwise."""
    layer = copy.deepcopy(layer).to(dtype)
    batch = torch.from_numpy(x).clone().requires_grad_()
    d_output = torch.from_numpy(d_y)
    counts = None if lengths is None else torch.from_numpy(lengths)
    if counts is not None:
        d_output = d_output[:, : int(counts.max())]

    def call() -> dict[str, NDArray]:
        layer.zero_grad(set_to_none=True)
        batch.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            if counts is None:
                y = layer(batch.to(dtype))[0]
            else:
                packed = pack_padded_sequence(batch, counts, batch_first=True, enforce_sorted=False)
                y = pad_packed_sequence(layer(packed)[0], batch_first=True)[0]
        y.float().backward(d_output)
        assert batch.grad is not None
        return {"x": batch.grad.numpy(), **{name: p.grad.float().numpy() for name, p in layer.named_parameters()}}

    return call


def step(layer: Any, x_t: NDArray) -> Callable[[], NDArray]:
    """One time step of a stream; the state goes from call to call."""
    batch = torch.from_numpy(np.ascontiguousarray(x_t[:, np.newaxis]))
    state: Any = None

    def call() -> NDArray:
        nonlocal state
        with torch.inference_mode():
            y, state = layer(batch, state)
            return y[:, 0].numpy()

    return call
