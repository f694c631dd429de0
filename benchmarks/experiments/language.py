"""A character model of tiny Shakespeare, beside the same network in a plain PyTorch loop.

    python -m benchmarks.experiments.language [--data DIR] [--network small|large] [--epochs N] [--peer]

The first 90 % of the text is learned, the last 10 % judged: nats per character, the state carried through. One line per
epoch, and the speed of writing at the end.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments.data import data_folder, folder_of
from benchmarks.suite.machine import describe
from numrnn import RNNLanguageModel

RESULTS = Path(__file__).resolve().parents[1] / "results" / "experiments"
# Units of the layers, dropout, epochs.
NETWORKS = {"small": ((128,), 0.0, 12), "large": ((256, 256), 0.2, 4)}
_STREAMS, _STEPS, _EMBEDDING, _RATE = 64, 100, 64, 2e-3


def read_text(data: Path) -> tuple[str, str]:
    """What is learned, and what is judged."""
    with gzip.open(folder_of(data, "tinyshakespeare") / "input.txt.gz", "rt", encoding="utf-8") as file:
        text = file.read()
    cut = int(0.9 * len(text))
    return text[:cut], text[cut:]


def ours(training: str, held_out: str, network: str, epochs: int, n_jobs: int | None) -> dict[str, Any]:
    units, dropout, _ = NETWORKS[network]
    model = RNNLanguageModel(
        units,
        embedding_dim=_EMBEDDING,
        dropout=dropout,
        batch_size=_STREAMS,
        bptt_steps=_STEPS,
        learning_rate_init=_RATE,
        max_grad_norm=5.0,
        random_state=0,
        n_jobs=n_jobs,
    )
    # Compilation is not part of an epoch.
    RNNLanguageModel(**{**model.get_params(), "max_iter": 1}).partial_fit(training[:20_000])
    rows = []
    for epoch in range(epochs):
        begin = time.perf_counter()
        model.partial_fit(training)
        seconds = time.perf_counter() - begin
        rows.append(_row("numrnn", epoch, model.loss_curve_[-1], -model.score(held_out), len(training) / seconds))
    model.generate("ROMEO:", 100)
    begin = time.perf_counter()
    model.generate("ROMEO:", 100_000, random_state=0)
    rate = 100_000 / (time.perf_counter() - begin)
    print(f"numrnn writes {rate:,.0f} characters/s")
    return {"epochs": rows, "written_per_second": rate, "sample": model.generate("ROMEO:", 300, random_state=0)}


def peer(training: str, held_out: str, network: str, epochs: int, n_threads: int) -> dict[str, Any]:
    """The same network in PyTorch: embedding, nn.LSTM, dense layer, Adam, clipping, the state carried."""
    import torch
    from torch import nn

    torch.set_num_threads(n_threads)
    torch.manual_seed(0)
    units, dropout, _ = NETWORKS[network]
    symbols = sorted(set(training + held_out))
    index = {symbol: number for number, symbol in enumerate(symbols)}
    ids, others = (torch.tensor([index[symbol] for symbol in part]) for part in (training, held_out))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(len(symbols), _EMBEDDING)
            self.lstm = nn.LSTM(_EMBEDDING, units[0], len(units), dropout=dropout, batch_first=True)
            self.out = nn.Linear(units[-1], len(symbols))

        def forward(self, x: Any, state: Any = None) -> Any:
            hidden, state = self.lstm(self.embedding(x), state)
            return self.out(hidden), state

    model, loss_of = Model(), nn.CrossEntropyLoss()
    solver = torch.optim.Adam(model.parameters(), _RATE)
    length = (len(ids) - 1) // _STREAMS
    x, y = (ids[i : i + _STREAMS * length].view(_STREAMS, length) for i in (0, 1))
    rows = []
    for epoch in range(epochs):
        begin, state, losses = time.perf_counter(), None, []
        model.train()
        for t in range(0, length, _STEPS):
            logits, state = model(x[:, t : t + _STEPS], state)
            state = tuple(part.detach() for part in state)
            loss = loss_of(logits.reshape(-1, len(symbols)), y[:, t : t + _STEPS].reshape(-1))
            solver.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            solver.step()
            losses.append(loss.item())
        seconds = time.perf_counter() - begin
        model.eval()
        with torch.inference_mode():
            logits, _ = model(others[None, :-1])
            judged = loss_of(logits[0], others[1:]).item()
        rows.append(_row("PyTorch", epoch, float(np.mean(losses)), judged, len(training) / seconds))
    torch.set_num_threads(1)
    with torch.inference_mode():
        symbol, state = torch.tensor([[0]]), None
        begin = time.perf_counter()
        for _ in range(2000):
            logits, state = model(symbol, state)
            symbol = torch.multinomial(torch.softmax(logits[0], dim=-1), 1)
        rate = 2000 / (time.perf_counter() - begin)
    print(f"PyTorch writes {rate:,.0f} characters/s")
    return {"epochs": rows, "written_per_second": rate}


def _row(who: str, epoch: int, loss: float, judged: float, rate: float) -> dict[str, float]:
    print(f"{who}, epoch {epoch + 1}: loss {loss:.4f}, validation {judged:.4f}, {rate:,.0f} characters/s", flush=True)
    return {"loss": loss, "validation": judged, "characters_per_second": rate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--network", choices=NETWORKS, default="small")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--n-jobs", type=int)
    parser.add_argument("--peer", action="store_true", help="train PyTorch's, too, with two threads")
    parser.add_argument("--peer-epochs", type=int)
    parser.add_argument("--write", action="store_true", help="write the results to benchmarks/results/experiments")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    training, held_out = read_text(data_folder(chosen.data))
    epochs = chosen.epochs or NETWORKS[chosen.network][2]
    record: dict[str, Any] = {
        "name": f"language_{chosen.network}",
        "machine": describe(),
        "numrnn": ours(training, held_out, chosen.network, epochs, chosen.n_jobs),
    }
    if chosen.peer:
        n_threads = chosen.n_jobs or 2
        record["pytorch"] = peer(training, held_out, chosen.network, chosen.peer_epochs or epochs, n_threads)
    if chosen.write:
        RESULTS.mkdir(parents=True, exist_ok=True)
        path = RESULTS / f"language_{chosen.network}.json"
        path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
