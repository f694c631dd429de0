"""Whether layer normalisation earns its place in an LSTM: ``python -m benchmarks.layer_normalisation``.

An LSTM with the normalisation of Ba, Kiros and Hinton (2016, arXiv:1607.06450, equations 20 to 22: of the input
product, of the recurrent product and of the cell state before its tanh) beside the same loop without it, both written
in PyTorch, on training data alone: part of it is held out, several times.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.experiments.data import data_folder, read_mnist, read_splice, read_ucr_uea
from benchmarks.suite.machine import describe

_RESULT = Path(__file__).parent / "results" / "layer_normalisation.json"
_HELD_OUT = 0.2

Samples = tuple[list[np.ndarray], np.ndarray]


class Direction(torch.nn.Module):
    """An LSTM through time, written out, with or without layer normalisation."""

    def __init__(self, input_size: int, hidden_size: int, normalised: bool) -> None:
        super().__init__()
        bound = hidden_size**-0.5
        self.weight_ih = torch.nn.Parameter(torch.empty(input_size, 4 * hidden_size).uniform_(-bound, bound))
        self.weight_hh = torch.nn.Parameter(torch.empty(hidden_size, 4 * hidden_size).uniform_(-bound, bound))
        self.bias = torch.nn.Parameter(torch.zeros(4 * hidden_size))
        with torch.no_grad():
            self.bias[hidden_size : 2 * hidden_size] = 1.0
        self.normalised = normalised
        self.hidden_size = hidden_size
        if normalised:
            self.input_norm = torch.nn.LayerNorm(4 * hidden_size)
            self.hidden_norm = torch.nn.LayerNorm(4 * hidden_size)
            self.cell_norm = torch.nn.LayerNorm(hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Hidden states (n_timesteps, n_sequences, hidden_size) of x (n_timesteps, n_sequences, input_size)."""
        projected = x @ self.weight_ih
        if self.normalised:
            projected = self.input_norm(projected)
        h = c = x.new_zeros(x.shape[1], self.hidden_size)
        states = []
        for z in projected:
            recurrent = h @ self.weight_hh
            if self.normalised:
                recurrent = self.hidden_norm(recurrent)
            i, f, g, o = (z + recurrent + self.bias).chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(self.cell_norm(c) if self.normalised else c)
            states.append(h)
        return torch.stack(states)


class Classifier(torch.nn.Module):
    """Both directions, the maximum over a sequence's time steps, a dense readout."""

    def __init__(self, input_size: int, hidden_size: int, n_classes: int, normalised: bool) -> None:
        super().__init__()
        self.forth = Direction(input_size, hidden_size, normalised)
        self.back = Direction(input_size, hidden_size, normalised)
        self.readout = torch.nn.Linear(2 * hidden_size, n_classes)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        n_timesteps = x.shape[0]
        steps = torch.arange(n_timesteps)[:, None]
        # Where a sequence read backwards has its time steps; what is behind its end stays there.
        reverse = torch.where(steps < lengths, lengths - 1 - steps, steps)
        columns = torch.arange(x.shape[1])[None]
        hidden = torch.cat([self.forth(x), self.back(x[reverse, columns])[reverse, columns]], dim=2)
        inside = (steps < lengths)[:, :, None]
        return self.readout(hidden.masked_fill(~inside, -1.0).amax(dim=0))


def _batch(sequences: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(x) for x in sequences])
    padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(x) for x in sequences])
    return padded, lengths


def _held_out_accuracy(samples: Samples, seed: int, normalised: bool, settings: dict[str, Any]) -> tuple[float, float]:
    """Accuracy on what is held out after training, and the seconds of an epoch."""
    X, y = samples
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(X))
    test, train = np.split(order, [round(_HELD_OUT * len(X))])
    torch.manual_seed(seed)
    model = Classifier(X[0].shape[1], settings["units"], int(y.max()) + 1, normalised)
    size, epochs = settings["batch_size"], settings["epochs"]
    optimizer = torch.optim.Adam(model.parameters(), lr=settings["learning_rate"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    begin = perf_counter()
    for _ in range(epochs):
        order = rng.permutation(train)
        for first in range(0, len(order), size):
            rows = order[first : first + size]
            loss = functional.cross_entropy(model(*_batch([X[row] for row in rows])), torch.from_numpy(y[rows]))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        schedule.step()
    seconds = (perf_counter() - begin) / epochs
    with torch.no_grad():
        found = model(*_batch([X[row] for row in test])).argmax(dim=1).numpy()
    return float(np.mean(found == y[test])), seconds


def _classes(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _series(data: Path) -> Samples:
    X, y, _, _ = read_ucr_uea(data, "JapaneseVowels")
    steps = np.concatenate(X)
    return [((x - steps.mean(axis=0)) / steps.std(axis=0)).astype(np.float32) for x in X], _classes(y)


def _images(data: Path) -> Samples:
    X, y, _, _ = read_mnist(data)
    few = slice(0, 6000)
    return list(X[few]), y[few]


def _bases(data: Path) -> Samples:
    texts, labels = read_splice(data)
    letters = sorted(set("".join(texts)))
    one_hot = np.eye(len(letters), dtype=np.float32)
    return [one_hot[[letters.index(letter) for letter in text]] for text in texts], _classes(labels)


_TASKS: dict[str, tuple[Callable[[Path], Samples], dict[str, Any]]] = {
    "JapaneseVowels": (_series, {"units": 64, "batch_size": 16, "epochs": 30, "learning_rate": 5e-3}),
    "MNIST rows, 6,000 images": (_images, {"units": 64, "batch_size": 64, "epochs": 8, "learning_rate": 5e-3}),
    "splice junctions": (_bases, {"units": 32, "batch_size": 64, "epochs": 60, "learning_rate": 5e-3}),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all tasks, print a table, write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layer_normalisation", description=__doc__)
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the data sets; default: $NUMRNN_DATA")
    parser.add_argument("--seeds", type=int, default=5, help="how many times part of the data is held out; default 5")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    record: dict[str, Any] = {"machine": describe(), "seeds": options.seeds, "tasks": {}}
    print("| task | plain | normalised | epoch, times as long |\n| --- | --- | --- | --- |")
    for name, (read, settings) in _TASKS.items():
        samples = read(data_folder(options.data))
        runs = {
            kind: [_held_out_accuracy(samples, seed, kind == "normalised", settings) for seed in range(options.seeds)]
            for kind in ("plain", "normalised")
        }
        record["tasks"][name] = {
            "settings": settings,
            **{kind: {"accuracy": [a for a, _ in run], "seconds": [s for _, s in run]} for kind, run in runs.items()},
        }
        cells = [
            f"{np.mean([a for a, _ in run]):.4f} ({min(a for a, _ in run):.4f} to {max(a for a, _ in run):.4f})"
            for run in runs.values()
        ]
        ratio = np.median([s for _, s in runs["normalised"]]) / np.median([s for _, s in runs["plain"]])
        print(f"| {name} | {' | '.join(cells)} | {ratio:.2f} |", flush=True)
    _RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
