"""The same stack in PyTorch. Imported only by tests that skip where PyTorch is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence


class TorchRun(NamedTuple):
    outputs: list[NDArray]
    state: list[NDArray]
    gradient: dict[str, NDArray]
    d_sequences: list[NDArray]
    d_state: list[NDArray]


def module(cell: str, input_size: int, hidden_size: int, n_layers: int, bidirectional: bool) -> torch.nn.RNNBase:
    kind, options = {
        "lstm": (torch.nn.LSTM, {}),
        "gru": (torch.nn.GRU, {}),
        "rnn_tanh": (torch.nn.RNN, {"nonlinearity": "tanh"}),
        "rnn_relu": (torch.nn.RNN, {"nonlinearity": "relu"}),
    }[cell]
    return kind(input_size, hidden_size, n_layers, bidirectional=bidirectional, batch_first=True, **options)


def modules(cell: str, parameters: Mapping[str, NDArray], bidirectional: bool) -> list[torch.nn.RNNBase]:
    """One module of several layers if they are equally wide, as PyTorch has it; otherwise one module for each layer."""
    n_directions = 2 if bidirectional else 1
    n_layers = sum(name.startswith("weight_hh") for name in parameters) // n_directions
    sizes = [parameters[f"weight_hh_l{layer}"].shape[1] for layer in range(n_layers)]
    dtype = torch.from_numpy(np.zeros(1, parameters["weight_hh_l0"].dtype)).dtype
    groups = [range(n_layers)] if len(set(sizes)) == 1 else [range(layer, layer + 1) for layer in range(n_layers)]
    result = []
    for group in groups:
        input_size = parameters[f"weight_ih_l{group[0]}"].shape[1]
        one = module(cell, input_size, sizes[group[0]], len(group), bidirectional).to(dtype)
        for name, weight in one.named_parameters():
            weight.data = torch.from_numpy(parameters[_name_in_stack(name, group[0])].copy())
        result.append(one)
    return result


def _name_in_stack(name: str, first_layer: int) -> str:
    kind, _, rest = name.rpartition("_l")
    layer, separator, direction = rest.partition("_")
    return f"{kind}_l{int(layer) + first_layer}{separator}{direction}"


def run(
    cell: str,
    parameters: Mapping[str, NDArray],
    sequences: Sequence[NDArray],
    state: Sequence[NDArray],
    d_outputs: Sequence[NDArray],
    d_state: Sequence[NDArray],
) -> TorchRun:
    """Forward and backward; states as the oracle has them, one array (n_states, N, H) per layer and direction."""
    bidirectional = "weight_hh_l0_reverse" in parameters
    xs = [torch.from_numpy(x.copy()).requires_grad_() for x in sequences]
    before = [torch.from_numpy(s.copy()).requires_grad_() for s in state]
    signal: PackedSequence = pack_sequence(xs, enforce_sorted=False)
    stack, after, used = modules(cell, parameters, bidirectional), [], 0
    for one in stack:
        count = one.num_layers * (2 if bidirectional else 1)
        parts: Any = [
            torch.stack([s[index] for s in before[used : used + count]]) for index in range(before[used].shape[0])
        ]
        signal, final = one(signal, tuple(parts) if cell == "lstm" else parts[0])
        finals = final if cell == "lstm" else (final,)
        after += [torch.stack([f[index] for f in finals]) for index in range(count)]
        used += count
    outputs = unpack_sequence(signal)
    loss = sum((y * torch.from_numpy(d_y)).sum() for y, d_y in zip(outputs, d_outputs, strict=True))
    loss = loss + sum((s * torch.from_numpy(d_s)).sum() for s, d_s in zip(after, d_state, strict=True))
    loss.backward()
    gradient, first_layer = {}, 0
    for one in stack:
        gradient.update({_name_in_stack(name, first_layer): w.grad.numpy() for name, w in one.named_parameters()})
        first_layer += one.num_layers
    return TorchRun(
        [y.detach().numpy() for y in outputs],
        [s.detach().numpy() for s in after],
        gradient,
        [x.grad.numpy() for x in xs],
        [s.grad.numpy() for s in before],
    )
