"""The encoder and decoder of ours in PyTorch, and a plain loop around them: padded minibatches, a step at a time.

The module is built from the parameters of an `EncoderDecoder`: GRU layers of `torch.nn` for the encoder, cells for the
decoder, additive or multiplicative attention in a few lines, as such programs are usually written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from numrnn.estimators.base import automatic_batch_size
from numrnn.packing import Sequences
from numrnn.seq2seq import EncoderDecoder
from numrnn.training.batches import divide
from numrnn.training.schedules import make_schedule

__all__ = [
    "TorchEncoderDecoder",
    "TorchVectorDecoder",
    "beam",
    "greedy",
    "log_likelihood",
    "run_peer",
    "run_vector_peer",
    "train",
]

_INFERENCE_BATCH = 64
# States of the encoder, the keys that attention makes of them, and which of them are no padding.
Memory = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
# What fills a row past the end of its target.
_NOTHING = -100


def padded(sequences: Sequences, numbers: NDArray) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of some sequences, and their lengths."""
    rows = [torch.from_numpy(np.ascontiguousarray(part[:, 0]).astype(np.int64)) for part in sequences.take(numbers)]
    return pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


def _linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return layer


class TorchEncoderDecoder(nn.Module):
    """The PyTorch module that computes the same as an `EncoderDecoder`, with its parameters.

    Parameters
    ----------
    network : EncoderDecoder
        Ids to ids, GRU, one layer on each side, additive attention with input feeding. Copied.
    """

    def __init__(self, network: EncoderDecoder) -> None:
        super().__init__()
        form = network._form()
        values = {name: torch.from_numpy(value.copy()) for name, value in network.parameters.items()}
        wanted = {"cell": "gru", "source": "ids", "target": "ids", "attention": "additive", "input_feeding": True}
        if any(form[name] != value for name, value in wanted.items()) or form["tied_embeddings"]:
            raise ValueError(f"the module is that of a network with {wanted} and embeddings that are not tied")
        if len(form["encoder_sizes"]) != 1 or len(form["decoder_sizes"]) != 1:
            raise ValueError("the module has one layer on each side")
        self.end_id = network.end_id
        self.input_dropout, self.output_dropout = form["input_dropout"], form["output_dropout"]
        self.source_embedding = nn.Embedding.from_pretrained(values["embedding_0"], freeze=False)
        self.target_embedding = nn.Embedding.from_pretrained(values["target_embedding_0"], freeze=False)
        size, width = values["decoder_weight_hh_l0"].shape[1], values["embedding_0"].shape[1]
        self.encoder = nn.GRU(width, form["encoder_sizes"][0], batch_first=True, bidirectional=form["bidirectional"])
        self.encoder.load_state_dict({name: values[name] for name in self.encoder.state_dict()})
        self.bridge = _linear(values["bridge_weight_l0"], values["bridge_bias_l0"])
        into = torch.cat([values["decoder_weight_ih_l0"], values["decoder_weight_context"]], dim=1)
        self.cell = nn.GRUCell(into.shape[1], size)
        self.cell.load_state_dict(
            {
                "weight_ih": into,
                **{name: values[f"decoder_{name}_l0"] for name in ("weight_hh", "bias_ih", "bias_hh")},
            }
        )
        self.key = _linear(values["attention_key_weight"], values["attention_key_bias"])
        self.query = _linear(values["attention_query_weight"])
        self.score = _linear(values["attention_vector"][None])
        readout = [values[f"readout_weight_{part}"] for part in ("state", "context", "input")]
        self.readout = _linear(torch.cat(readout, dim=1), values["readout_bias"])
        self.out = _linear(values["weight_out"], values["bias_out"])

    @staticmethod
    def read(sources: Sequences, numbers: NDArray) -> tuple[torch.Tensor, torch.Tensor]:
        """What `forward` wants of some sources: padded ids, and their lengths."""
        return padded(sources, numbers)

    def encode(self, sources: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """States of all steps, the keys made of them, and the first state of the decoder."""
        x = functional.dropout(self.source_embedding(sources), self.input_dropout, self.training)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        steps, last = self.encoder(packed)
        states, _ = pad_packed_sequence(steps, batch_first=True)
        first = torch.tanh(self.bridge(last.transpose(0, 1).flatten(1)))
        return states, self.key(states), first

    def step(
        self, x: torch.Tensor, state: torch.Tensor, context: torch.Tensor, memory: Memory
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """State and context after one step."""
        states, keys, mask = memory
        state = self.cell(torch.cat([x, context], dim=1), state)
        scores = self.score(torch.tanh(keys + self.query(state)[:, None]))[..., 0]
        weights = torch.softmax(scores.masked_fill(~mask, -math.inf), dim=1)
        return state, (weights[:, None] @ states)[:, 0]

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Vectors of target tokens."""
        return functional.dropout(self.target_embedding(ids), self.input_dropout, self.training)

    def outputs(self, x: torch.Tensor, state: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Logits from what a step knows."""
        readout = torch.tanh(self.readout(torch.cat([state, context, x], dim=-1)))
        return self.out(functional.dropout(readout, self.output_dropout, self.training))

    def forward(self, sources: torch.Tensor, source_lengths: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Logits (n, n_steps, n_outputs) of the targets (n, n_steps - 1), each with the true one before it."""
        states, keys, state = self.encode(sources, source_lengths)
        steps = torch.arange(states.shape[1], device=states.device)
        memory = states, keys, steps < source_lengths[:, None].to(states.device)
        context = states.new_zeros(len(states), states.shape[2])
        x = self.embed(torch.cat([targets.new_full((len(targets), 1), self.end_id), targets], dim=1))
        all_states, all_contexts = [], []
        for t in range(x.shape[1]):
            state, context = self.step(x[:, t], state, context, memory)
            all_states.append(state)
            all_contexts.append(context)
        return self.outputs(x, torch.stack(all_states, dim=1), torch.stack(all_contexts, dim=1))


class TorchVectorDecoder(nn.Module):
    """The PyTorch module that computes the same as an `EncoderDecoder` without an encoder, with its parameters.

    As the inputs of all steps are given, and there is no attention, `torch.nn.GRU` walks through them in one call.

    Parameters
    ----------
    network : EncoderDecoder
        A vector to ids, GRU, one layer. Copied.
    """

    def __init__(self, network: EncoderDecoder) -> None:
        super().__init__()
        form = network._form()
        values = {name: torch.from_numpy(value.copy()) for name, value in network.parameters.items()}
        wanted = {"cell": "gru", "source": "vector", "target": "ids", "tied_embeddings": False}
        if any(form[name] != value for name, value in wanted.items()) or len(form["decoder_sizes"]) != 1:
            raise ValueError(f"the module is that of a network with {wanted} and one layer")
        self.end_id = network.end_id
        self.input_dropout, self.output_dropout = form["input_dropout"], form["output_dropout"]
        self.target_embedding = nn.Embedding.from_pretrained(values["target_embedding_0"], freeze=False)
        size, width = values["decoder_weight_hh_l0"].shape[1], values["decoder_weight_ih_l0"].shape[1]
        self.bridge = _linear(values["bridge_weight_l0"], values["bridge_bias_l0"])
        self.layer = nn.GRU(width, size, batch_first=True)
        self.layer.load_state_dict({name: values[f"decoder_{name}"] for name in self.layer.state_dict()})
        readout = [values[f"readout_weight_{part}"] for part in ("state", "input")]
        self.readout = _linear(torch.cat(readout, dim=1), values["readout_bias"])
        self.out = _linear(values["weight_out"], values["bias_out"])

    @staticmethod
    def read(sources: Sequences, numbers: NDArray) -> tuple[torch.Tensor, torch.Tensor]:
        """What `forward` wants of some sources: their vectors, and their lengths, which are 1."""
        return torch.from_numpy(sources.values[sources.starts[numbers]]), torch.ones(len(numbers), dtype=torch.int64)

    def forward(self, sources: torch.Tensor, source_lengths: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Logits (n, n_steps, n_outputs) of the targets (n, n_steps - 1), each with the true one before it."""
        ids = torch.cat([torch.full((len(targets), 1), self.end_id), targets], dim=1)
        x = functional.dropout(self.target_embedding(ids), self.input_dropout, self.training)
        states, _ = self.layer(x, torch.tanh(self.bridge(sources))[None])
        readout = torch.tanh(self.readout(torch.cat([states, x], dim=-1)))
        return self.out(functional.dropout(readout, self.output_dropout, self.training))


def _minibatch(
    network: Any, sources: Sequences, targets: Sequences, numbers: NDArray
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Logits of some pairs, what is expected, and the number of tokens, ends included."""
    x, x_lengths = network.read(sources, numbers)
    y, y_lengths = padded(targets, numbers)
    expected = torch.cat([y, torch.zeros(len(y), 1, dtype=torch.int64)], dim=1)
    steps = torch.arange(expected.shape[1])
    expected[steps == y_lengths[:, None]] = network.end_id
    expected[steps > y_lengths[:, None]] = _NOTHING
    return network(x, x_lengths, y).flatten(0, 1), expected.flatten(), int(y_lengths.sum()) + len(y)


def train(
    network: TorchEncoderDecoder | TorchVectorDecoder,
    sources: Sequences,
    targets: Sequences,
    *,
    batch_size: int,
    n_epochs: int,
    learning_rate: Any,
    label_smoothing: float,
    max_grad_norm: float | None,
    rng: np.random.RandomState,
    most_batches: int | None = None,
) -> list[float]:
    """Train in place, with Adam; the mean loss of every epoch, in nats for a token."""
    solver = torch.optim.Adam(network.parameters(), lr=learning_rate(0), fused=True)
    lengths = sources.lengths + targets.lengths
    losses = []
    network.train()
    for epoch in range(n_epochs):
        for group in solver.param_groups:
            group["lr"] = learning_rate(epoch)
        order, bounds = divide(lengths, batch_size, shuffle=True, rng=rng)
        order = np.arange(len(lengths)) if order is None else order
        total, n_tokens = 0.0, 0
        for begin, end in bounds[:most_batches]:
            numbers = order[begin:end]
            solver.zero_grad(set_to_none=True)
            logits, expected, n = _minibatch(network, sources, targets, numbers)
            loss = functional.cross_entropy(logits, expected, ignore_index=_NOTHING, label_smoothing=label_smoothing)
            loss.backward()
            if max_grad_norm is not None:
                nn.utils.clip_grad_norm_(network.parameters(), max_grad_norm)
            solver.step()
            total, n_tokens = total + loss.item() * n, n_tokens + n
        losses.append(total / n_tokens)
    return losses


@torch.inference_mode()
def log_likelihood(network: TorchEncoderDecoder | TorchVectorDecoder, sources: Sequences, targets: Sequences) -> float:
    """Of all targets together, their ends included, in nats."""
    network.eval()
    total = 0.0
    for numbers in _batches(targets):
        logits, expected, _ = _minibatch(network, sources, targets, numbers)
        total -= float(functional.cross_entropy(logits, expected, ignore_index=_NOTHING, reduction="sum"))
    return total


def _memory(network: TorchEncoderDecoder, sources: Sequences, numbers: NDArray) -> tuple[Any, torch.Tensor]:
    x, lengths = padded(sources, numbers)
    states, keys, first = network.encode(x, lengths)
    return (states, keys, torch.arange(states.shape[1]) < lengths[:, None]), first


def _batches(sources: Sequences) -> list[NDArray]:
    order = np.argsort(sources.lengths, kind="stable")
    return [order[begin : begin + _INFERENCE_BATCH] for begin in range(0, len(order), _INFERENCE_BATCH)]


@torch.inference_mode()
def greedy(network: TorchEncoderDecoder, sources: Sequences, longest: int) -> list[list[int]]:
    """The most probable token at every step, until all sentences of a batch have ended."""
    network.eval()
    found: list[list[int]] = [[] for _ in range(len(sources))]
    for numbers in _batches(sources):
        memory, state = _memory(network, sources, numbers)
        context = memory[0].new_zeros(len(numbers), memory[0].shape[2])
        ids = torch.full((len(numbers),), network.end_id)
        ended = torch.zeros(len(numbers), dtype=torch.bool)
        written = []
        for _ in range(longest):
            x = network.embed(ids)
            state, context = network.step(x, state, context, memory)
            logits = network.outputs(x, state, context)
            logits[:, 0] = -math.inf
            ids = logits.argmax(dim=1)
            ended |= ids == network.end_id
            written.append(torch.where(ended, network.end_id, ids))
            if bool(ended.all()):
                break
        for number, row in zip(numbers, torch.stack(written, dim=1).tolist(), strict=True):
            found[number] = row[: row.index(network.end_id)] if network.end_id in row else row
    return found


@torch.inference_mode()
def beam(network: TorchEncoderDecoder, sources: Sequences, longest: int, width: int) -> list[list[int]]:
    """A beam for all sentences of a batch at once; hypotheses are ranked by their mean log-likelihood for a token.

    A sentence is done when as many hypotheses have ended as the beam is wide.
    """
    network.eval()
    found: list[list[int]] = [[] for _ in range(len(sources))]
    for numbers in _batches(sources):
        n = len(numbers)
        once, state = _memory(network, sources, numbers)
        states, keys, mask = (part.repeat_interleave(width, dim=0) for part in once)
        state = state.repeat_interleave(width, dim=0)
        context = states.new_zeros(n * width, states.shape[2])
        ids = torch.full((n * width,), network.end_id)
        scores = torch.full((n, width), -math.inf)
        scores[:, 0] = 0.0
        tokens = torch.zeros(n, width, 0, dtype=torch.int64)
        best: list[tuple[float, list[int]]] = [(-math.inf, [])] * n
        n_ended = torch.zeros(n, dtype=torch.int64)
        first = torch.arange(n)[:, None] * width
        for t in range(longest + 1):
            x = network.embed(ids)
            state, context = network.step(x, state, context, (states, keys, mask))
            steps = torch.log_softmax(network.outputs(x, state, context), dim=1).view(n, width, -1)
            steps[..., 0] = -math.inf
            if t == longest:
                steps[..., : network.end_id] = -math.inf
            n_ids = steps.shape[2]
            values, places = (steps + scores[..., None]).flatten(1).topk(min(2 * width, width * n_ids), dim=1)
            parents, symbols = places // n_ids, places % n_ids
            ends = (symbols == network.end_id) & (values > -math.inf)
            for i, j in ends[:, :width].nonzero().tolist():
                score = float(values[i, j]) / (t + 1)
                if n_ended[i] < width:
                    n_ended[i] += 1
                    if score > best[i][0]:
                        best[i] = (score, tokens[i, parents[i, j]].tolist())
            if bool((n_ended >= width).all()):
                break
            scores, order = values.masked_fill(ends, -math.inf).topk(width, dim=1)
            parents, symbols = parents.gather(1, order), symbols.gather(1, order)
            tokens = torch.cat([tokens.gather(1, parents[..., None].expand(-1, -1, t)), symbols[..., None]], dim=2)
            rows = (first + parents).flatten()
            state, context, ids = state[rows], context[rows], symbols.flatten()
        for number, (_, row) in zip(numbers, best, strict=True):
            found[number] = row
    return found


def run_peer(
    model: Any,
    X: Sequence[Any],
    y: Sequence[Any],
    X_test: Sequence[Any],
    n_epochs: int,
    seed: int,
    n_jobs: int,
    width: int,
) -> dict[str, Any]:
    """Train the network of a fitted `RNNSeq2Seq` anew in PyTorch, and write with it.

    Returns
    -------
    dict
        fit_seconds, threads, losses, predictions (by the decoding that the model uses), greedy and beam (sources per
        second).
    """
    twin, fitted = _train_anew(TorchEncoderDecoder, model, X, y, n_epochs, seed, n_jobs)
    test, longest = model._sources(X_test, model._network.dtype), model.max_length_
    written, per_second = {}, {}
    for name, write in (
        ("greedy", lambda: greedy(twin, test, longest)),
        ("beam", lambda: beam(twin, test, longest, width)),
    ):
        begin = perf_counter()
        written[name] = write()
        per_second[name] = len(X_test) / (perf_counter() - begin)
    ids = written["greedy" if model.beam_width == 1 else "beam"]
    by_id = model._target.by_id
    return {
        **fitted,
        "predictions": [model._target.join([by_id[i] for i in row]) for row in ids],
        **per_second,
    }


def run_vector_peer(
    model: Any,
    X: NDArray,
    y: Sequence[str],
    X_test: NDArray,
    y_test: Sequence[str],
    n_epochs: int,
    seed: int,
    n_jobs: int,
) -> dict[str, Any]:
    """Train the network of a fitted `RNNSeq2Seq` of vectors anew in PyTorch.

    Returns
    -------
    dict
        fit_seconds, threads, losses, log_likelihood (of all test targets together).
    """
    twin, fitted = _train_anew(TorchVectorDecoder, model, X, y, n_epochs, seed, n_jobs)
    dtype = model._network.dtype
    return {
        **fitted,
        "log_likelihood": log_likelihood(twin, model._sources(X_test, dtype), model._targets(y_test, dtype)),
    }


def _train_anew(
    make: Any, model: Any, X: Any, y: Sequence[Any], n_epochs: int, seed: int, n_jobs: int
) -> tuple[Any, dict[str, Any]]:
    """The module, trained from our first parameters with the model's settings; and fit_seconds, threads, losses."""
    network = model._network.with_dtype(model._network.dtype)
    rng = check_random_state(seed)
    network.initialize(rng)
    sources, targets = model._sources(X, network.dtype), model._targets(y, network.dtype)
    size = automatic_batch_size(len(X)) if isinstance(model.batch_size, str) else int(model.batch_size)
    settings = {
        "batch_size": size,
        "learning_rate": make_schedule(model.learning_rate, float(model.learning_rate_init), int(model.max_iter)),
        "label_smoothing": network.label_smoothing,
        "max_grad_norm": model.max_grad_norm,
    }
    threads = _fastest(partial(make, network), sources, targets, settings, sorted({1, n_jobs}))
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    twin = make(network)
    begin = perf_counter()
    losses = train(twin, sources, targets, n_epochs=n_epochs, rng=rng, **settings)
    return twin, {"fit_seconds": perf_counter() - begin, "threads": threads, "losses": losses}


def _fastest(
    make: Callable[[], Any], sources: Sequences, targets: Sequences, settings: dict[str, Any], counts: Sequence[int]
) -> int:
    """The number of threads with which a few minibatches take the least time."""
    seconds = {}
    for count in counts:
        torch.set_num_threads(count)
        twin = make()
        for n_batches in (1, 5):
            begin = perf_counter()
            rng = np.random.RandomState(0)
            train(twin, sources, targets, n_epochs=1, rng=rng, most_batches=n_batches, **settings)
            seconds[count] = perf_counter() - begin
    return min(seconds, key=lambda count: seconds[count])
