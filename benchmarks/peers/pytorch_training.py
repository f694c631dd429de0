"""A plain PyTorch training loop for a network of ours: the same first parameters, minibatches, epochs and solver."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from numrnn.packing import Sequences
from numrnn.training.batches import divide

if TYPE_CHECKING:  # the rest loads no compiler: where a network is trained in its own process, memory is PyTorch's
    from numrnn.network import Network

__all__ = ["TorchNetwork", "TrainingSettings", "fastest_thread_count", "outputs_of", "train"]

_RECURRENT: dict[str, tuple[Any, dict[str, str]]] = {
    "lstm": (torch.nn.LSTM, {}),
    "gru": (torch.nn.GRU, {}),
    "rnn_tanh": (torch.nn.RNN, {"nonlinearity": "tanh"}),
    "rnn_relu": (torch.nn.RNN, {"nonlinearity": "relu"}),
}
_LOSSES = {
    "cross_entropy": torch.nn.CrossEntropyLoss,
    "squared_error": torch.nn.MSELoss,
    "absolute_error": torch.nn.L1Loss,
    "huber": torch.nn.HuberLoss,
}
# Time steps of one batch in inference.
_INFERENCE_STEPS = 2**16


def _dropped(x: Any, rate: float, training: bool) -> Any:
    """Dropout of a tensor or of the time steps of a PackedSequence."""
    if isinstance(x, PackedSequence):
        return x._replace(data=functional.dropout(x.data, rate, training))
    return functional.dropout(x, rate, training)


def _added(x: Any, y: Any) -> Any:
    """The sum of two tensors or of two PackedSequences of the same sequences."""
    return x._replace(data=x.data + y.data) if isinstance(x, PackedSequence) else x + y


def _mask(lengths: torch.Tensor, n_timesteps: int) -> torch.Tensor:
    return torch.arange(n_timesteps) < lengths[:, None]


class TorchNetwork(torch.nn.Module):
    """The PyTorch module that computes the same as a `Network`, with its parameters.

    Embeddings, convolutions, a recurrent stack, pooling over time and a dense readout. Layers of one size are one
    module of `torch.nn`; of different sizes, or with residual connections, one module each.

    Parameters
    ----------
    network : Network
        Copied.

    Attributes
    ----------
    by_name : dict of str to Parameter
        The parameters by our names.
    decaying : set of str
        Names of those that the penalty of the weights is for.

    Raises
    ------
    ValueError
        If PyTorch has no such thing: dropout of the recurrent state, a conditional random field, some losses.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        if network.recurrent_dropout:
            raise ValueError("PyTorch's recurrent layers have no dropout of the recurrent state")
        if network.loss_name not in _LOSSES:
            raise ValueError(f"PyTorch has no loss {network.loss_name!r}")
        values = {name: torch.from_numpy(value.copy()) for name, value in network.parameters.items()}
        self.pooling = network.pooling
        self.directions = 2 if network.bidirectional else 1
        self.dropout = network.dropout
        self.input_dropout = network.input_dropout
        self.output_dropout = network.output_dropout
        self.residual = network.residual
        self.columns = [column for column, _, _ in network.embeddings]
        self.embeddings = torch.nn.ModuleList(
            torch.nn.Embedding.from_pretrained(values[f"embedding_{place}"], freeze=False)
            for place in range(len(self.columns))
        )
        self.convolutions = torch.nn.ModuleList(
            _convolution(stage["kind"], values[f"conv_weight_{place}"], values[f"conv_bias_{place}"])
            for place, stage in enumerate(network.convolutions)
        )
        self.pool_sizes = [stage["pool_size"] for stage in network.convolutions]
        self.layers = self._recurrent(network.cell, network.hidden_sizes, values)
        if self.pooling == "attention":
            for name in ("attention_weight", "attention_bias", "attention_vector"):
                setattr(self, name, torch.nn.Parameter(values[name]))
        n_outputs, n_features = values["weight_out"].shape
        self.readout = torch.nn.Linear(n_features, n_outputs, dtype=values["weight_out"].dtype)
        self.readout.load_state_dict({"weight": values["weight_out"], "bias": values["bias_out"]})
        # Our name of each parameter, and which of them decay.
        self.by_name = self._by_name()
        decaying = set(network.weight_spans[0].tolist())
        self.decaying = {name for name in self.by_name if network.parameters.span(name).start in decaying}

    def _by_name(self) -> dict[str, torch.nn.Parameter]:
        names: dict[str, torch.nn.Parameter] = {}
        for place, embedding in enumerate(self.embeddings):
            names[f"embedding_{place}"] = embedding.weight
        for place, convolution in enumerate(self.convolutions):
            names[f"conv_weight_{place}"], names[f"conv_bias_{place}"] = convolution.weight, convolution.bias
        first = 0
        for layer in self.layers:
            for name, parameter in layer.named_parameters():
                array, _, rest = name.partition("_l")
                inside, _, suffix = rest.partition("_")
                names[f"{array}_l{first + int(inside)}{'_' * bool(suffix)}{suffix}"] = parameter
            first += layer.num_layers
        names.update({name: value for name, value in self.named_parameters() if name.startswith("attention")})
        return {**names, "weight_out": self.readout.weight, "bias_out": self.readout.bias}

    def _recurrent(self, cell: str, sizes: tuple[int, ...], values: dict[str, torch.Tensor]) -> torch.nn.ModuleList:
        kind, options = _RECURRENT[cell]
        one_module = len(set(sizes)) == 1 and not self.residual
        groups = [list(range(len(sizes)))] if one_module else [[place] for place in range(len(sizes))]
        layers = torch.nn.ModuleList()
        for group in groups:
            weight = values[f"weight_ih_l{group[0]}"]
            layer = kind(
                weight.shape[1],
                sizes[group[0]],
                len(group),
                batch_first=True,
                bidirectional=self.directions == 2,
                dropout=self.dropout if len(group) > 1 else 0.0,
                dtype=weight.dtype,
                **options,
            )
            layer.load_state_dict(
                {
                    f"{array}_l{inside}{suffix}": values[f"{array}_l{place}{suffix}"]
                    for inside, place in enumerate(group)
                    for array in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                    for suffix in ("", "_reverse")[: self.directions]
                }
            )
            layers.append(layer)
        return layers

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Raw outputs.

        Parameters
        ----------
        x : Tensor of shape (n_sequences, n_timesteps, n_features)
        lengths : Tensor of int64, shape (n_sequences,), default=None
            None if all time steps of all sequences count.

        Returns
        -------
        Tensor of shape (n_sequences, n_outputs), or (sum of lengths, n_outputs) where the network does not pool
        """
        x = self._embedded(x)
        if len(self.convolutions):
            x, lengths = self._convolved(x, lengths)
        x = functional.dropout(x, self.input_dropout, self.training)
        steps: Any = x
        if lengths is not None:
            steps = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        state: Any = None
        for place, layer in enumerate(self.layers):
            below = steps
            if place:
                below = _dropped(steps, self.dropout, self.training)
            steps, state = layer(below)
            if place and self.residual and layer.input_size == self.directions * layer.hidden_size:
                steps = _added(steps, below)
        features = functional.dropout(self._pooled(steps, state, lengths), self.output_dropout, self.training)
        return self.readout(features)

    def _embedded(self, x: torch.Tensor) -> torch.Tensor:
        if not self.columns:
            return x
        parts = [layer(x[..., column].long()) for layer, column in zip(self.embeddings, self.columns, strict=True)]
        numeric = [column for column in range(x.shape[-1]) if column not in self.columns]
        return torch.cat([*parts, x[..., numeric]], dim=-1) if numeric or len(parts) > 1 else parts[0]

    def _convolved(self, x: torch.Tensor, lengths: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        for layer, pool_size in zip(self.convolutions, self.pool_sizes, strict=True):
            if lengths is not None:
                x = x * _mask(lengths, x.shape[1])[..., None]
            if isinstance(layer, torch.nn.Conv1d):
                x = functional.relu(layer(x.transpose(1, 2)))
                if lengths is not None:
                    x = x * _mask(lengths, x.shape[2])[:, None]
                x = functional.max_pool1d(x, pool_size, ceil_mode=True).transpose(1, 2)
            else:
                image = x.unflatten(2, (-1, layer.in_channels)).permute(0, 3, 1, 2)
                image = functional.relu(layer(image))
                if lengths is not None:
                    image = image * _mask(lengths, image.shape[2])[:, None, :, None]
                image = functional.max_pool2d(image, pool_size, ceil_mode=True)
                x = image.permute(0, 2, 3, 1).flatten(2)
            if lengths is not None:
                lengths = (lengths + pool_size - 1) // pool_size
        return x.contiguous(), lengths

    def _pooled(self, steps: Any, state: Any, lengths: torch.Tensor | None) -> torch.Tensor:
        if self.pooling == "last" and not self.residual:
            last = (state[0] if isinstance(state, tuple) else state)[-self.directions :]
            return last.transpose(0, 1).flatten(1)
        y = pad_packed_sequence(steps, batch_first=True)[0] if isinstance(steps, PackedSequence) else steps
        mask = None if lengths is None else _mask(lengths, y.shape[1])
        if self.pooling is None:
            return y.flatten(0, 1) if mask is None else y[mask]
        if self.pooling == "last":
            size = y.shape[2] // self.directions
            last = y[:, -1] if lengths is None else y[torch.arange(len(y)), lengths - 1]
            return last if self.directions == 1 else torch.cat([last[:, :size], y[:, 0, size:]], dim=1)
        if self.pooling == "mean":
            return y.mean(1) if lengths is None else y.sum(1) / lengths[:, None].to(y.dtype)
        if self.pooling == "max":
            return y.amax(1) if mask is None else y.masked_fill(~mask[..., None], -math.inf).amax(1)
        scores = torch.tanh(functional.linear(y, self.attention_weight, self.attention_bias)) @ self.attention_vector
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf)
        return (torch.softmax(scores, dim=1)[:, None] @ y)[:, 0]


def _convolution(name: str, weight: torch.Tensor, bias: torch.Tensor) -> torch.nn.Module:
    kind = torch.nn.Conv1d if name == "1d" else torch.nn.Conv2d
    layer = kind(weight.shape[1], weight.shape[0], weight.shape[2], padding="same", dtype=weight.dtype)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained, in the terms of our estimators.

    Attributes
    ----------
    loss : {"cross_entropy", "squared_error", "absolute_error", "huber"}
    solver : {"adam", "adamw", "sgd", "rmsprop"}
    learning_rate : callable
        Epoch, from 0 -> learning rate.
    batch_size : int
    n_epochs : int
    alpha : float, default=0.0
        Penalty of the weights, or decay for "adamw".
    max_grad_norm : float or None, default=1.0
    shuffle : bool, default=True
    label_smoothing : float, default=0.0
    """

    loss: str
    solver: str
    learning_rate: Callable[[int], float]
    batch_size: int
    n_epochs: int
    alpha: float = 0.0
    max_grad_norm: float | None = 1.0
    shuffle: bool = True
    label_smoothing: float = 0.0


class _Batches:
    """Sequences and targets as tensors, cut into padded minibatches."""

    def __init__(self, sequences: Sequences, targets: NDArray | None, per_step: bool) -> None:
        self.values = torch.from_numpy(np.ascontiguousarray(sequences.values))
        self.starts = torch.from_numpy(np.array(sequences.starts, dtype=np.int64))
        self.lengths = torch.from_numpy(np.array(sequences.lengths, dtype=np.int64))
        self.targets = None if targets is None else torch.from_numpy(np.ascontiguousarray(targets))
        self.row_starts = self.lengths.cumsum(0) - self.lengths if per_step else None
        self.equal = bool((self.lengths == self.lengths[0]).all())
        length = int(self.lengths[0])
        places = torch.arange(len(self.lengths)) * length
        # Sequences of one length that lie one after the other are a cube: no index is needed for their time steps.
        self.cube = (
            self.values.view(-1, length, self.values.shape[1])
            if self.equal and len(self.values) == len(places) * length and bool((self.starts == places).all())
            else None
        )

    def take(self, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Padded sequences and their lengths, None if there is no padding."""
        if self.cube is not None:
            return self.cube[numbers], None
        lengths = self.lengths[numbers]
        steps = torch.arange(int(lengths.max()))
        # Past the end of a sequence its last time step is repeated: what is there is never looked at.
        rows = self.starts[numbers][:, None] + torch.minimum(steps, lengths[:, None] - 1)
        return self.values[rows], None if self.equal else lengths

    def targets_of(self, numbers: torch.Tensor) -> torch.Tensor:
        assert self.targets is not None
        if self.row_starts is None:
            return self.targets[numbers]
        lengths = self.lengths[numbers]
        steps = torch.arange(int(lengths.max()))
        return self.targets[(self.row_starts[numbers][:, None] + steps)[_mask(lengths, len(steps))]]


def _loss(settings: TrainingSettings) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    if settings.loss == "cross_entropy":
        return torch.nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    return _LOSSES[settings.loss]()


def _solver(network: TorchNetwork, settings: TrainingSettings) -> torch.optim.Optimizer:
    """The optimiser of that name; what decays in ours decays here."""
    weights = [parameter for name, parameter in network.by_name.items() if name in network.decaying]
    others = [parameter for name, parameter in network.by_name.items() if name not in network.decaying]
    # The penalty of ours is divided by the number of samples in the minibatch, like the loss.
    decay = settings.alpha if settings.solver == "adamw" else settings.alpha / settings.batch_size
    groups = [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    rate = settings.learning_rate(0)
    if settings.solver == "adam":
        return torch.optim.Adam(groups, lr=rate, fused=True)
    if settings.solver == "adamw":
        return torch.optim.AdamW(groups, lr=rate, fused=True)
    if settings.solver == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
    if settings.solver == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate)
    raise ValueError(f"there is no loop of minibatches for the solver {settings.solver!r}")


def _minibatches(batches: _Batches, settings: TrainingSettings, rng: np.random.RandomState) -> Iterator[torch.Tensor]:
    """Numbers of the sequences of each minibatch of an epoch, divided as ours are."""
    lengths = batches.lengths.numpy()
    order, bounds = divide(lengths, settings.batch_size, shuffle=settings.shuffle, rng=rng)
    numbers = torch.arange(len(lengths)) if order is None else torch.from_numpy(order)
    for begin, end in bounds:
        yield numbers[begin:end]


def train(
    network: TorchNetwork,
    sequences: Sequences,
    targets: NDArray,
    settings: TrainingSettings,
    rng: np.random.RandomState,
    *,
    most_batches: int | None = None,
) -> list[float]:
    """Train a network in place.

    Parameters
    ----------
    network : TorchNetwork
    sequences : Sequences
    targets : ndarray
        Class numbers, or values (n_rows, n_outputs); rows are sequences, or time steps, sequence after sequence.
    settings : TrainingSettings
    rng : RandomState
        Shuffles.
    most_batches : int or None, default=None
        Stop an epoch after so many minibatches: to see how long they take.

    Returns
    -------
    list of float
        Seconds of every epoch.
    """
    batches = _Batches(sequences, targets, network.pooling is None)
    loss_function = _loss(settings)
    solver = _solver(network, settings)
    network.train()
    seconds = []
    for epoch in range(settings.n_epochs):
        begin = perf_counter()
        for group in solver.param_groups:
            group["lr"] = settings.learning_rate(epoch)
        total = torch.zeros(())
        for place, numbers in enumerate(_minibatches(batches, settings, rng)):
            if place == most_batches:
                break
            solver.zero_grad(set_to_none=True)
            loss = loss_function(network(*batches.take(numbers)), batches.targets_of(numbers))
            loss.backward()
            if settings.max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(network.parameters(), settings.max_grad_norm)
            solver.step()
            total += loss.detach() * len(numbers)
        if not math.isfinite(total.item()):
            raise FloatingPointError(f"the loss of PyTorch's network is not finite in epoch {epoch + 1}")
        seconds.append(perf_counter() - begin)
    return seconds


def outputs_of(network: TorchNetwork, sequences: Sequences) -> NDArray:
    """Raw outputs for all sequences, in batches of similar lengths."""
    per_step = network.pooling is None
    batches = _Batches(sequences, None, per_step)
    lengths = batches.lengths.numpy()
    order = np.argsort(lengths, kind="stable")
    n_rows = int(lengths.sum()) if per_step else len(lengths)
    result: NDArray | None = None
    network.eval()
    with torch.inference_mode():
        begin = 0
        while begin < len(order):
            n_sequences = max(_INFERENCE_STEPS // int(lengths[order[begin]]), 1)
            numbers = order[begin : begin + n_sequences]
            outputs = network(*batches.take(torch.from_numpy(numbers))).numpy()
            if result is None:
                result = np.empty((n_rows, outputs.shape[1]), dtype=outputs.dtype)
            if batches.row_starts is None:
                result[numbers] = outputs
            else:
                first = batches.row_starts.numpy()[numbers]
                result[np.concatenate([np.arange(a, a + n) for a, n in zip(first, lengths[numbers], strict=True)])] = (
                    outputs
                )
            begin += len(numbers)
    assert result is not None
    return result


def fastest_thread_count(
    network: Network,
    sequences: Sequences,
    targets: NDArray,
    settings: TrainingSettings,
    thread_counts: Sequence[int],
    *,
    n_batches: int = 4,
) -> int:
    """With how many threads PyTorch trains this network fastest: some minibatches are timed with each number.

    PyTorch is left with that number.
    """

    def seconds(count: int) -> float:
        torch.set_num_threads(count)
        twin = TorchNetwork(network)
        one = TrainingSettings(**{**vars(settings), "n_epochs": 1})
        train(twin, sequences, targets, one, np.random.RandomState(0), most_batches=1)
        return train(twin, sequences, targets, one, np.random.RandomState(0), most_batches=n_batches)[0]

    # Also if there is only one number: PyTorch is warm then, as ours is, before anything is timed.
    best = min(dict.fromkeys(thread_counts), key=seconds)
    torch.set_num_threads(best)
    return best
