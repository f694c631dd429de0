"""Characters of tiny Shakespeare: three networks, two of them beside the same one in a plain PyTorch loop.

The first 90 % of the text is learned, the last 10 % judged, in nats per character, the state carried through. Settings
were chosen by that last part, as others do with this text.
"""

from __future__ import annotations

import gzip
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments.data import folder_of
from benchmarks.experiments.language.report import epoch_row, say
from numrnn import RNNLanguageModel

__all__ = ["NETWORKS", "best", "ours", "peer", "read_text"]

# Those that PyTorch trains, too: units of the layers, dropout, epochs.
NETWORKS = {"small": ((128,), 0.0, 12), "large": ((256, 256), 0.2, 4)}
_STREAMS, _STEPS, _EMBEDDING, _RATE = 64, 100, 64, 2e-3
# The best one that was found for minutes of training. Short windows of few streams make many updates.
BEST: dict[str, Any] = {
    "hidden_layer_sizes": (384, 384),
    "embedding_dim": 64,
    "dropout": 0.35,
    "output_dropout": 0.35,
    "recurrent_dropout": 0.15,
    "batch_size": 32,
    "bptt_steps": 128,
    "learning_rate_init": 3e-3,
    "learning_rate": "cosine",
}
# Part of the time that is planned for, and of the text by which the speed is found; more epochs do not pay.
_PLANNED, _TRIED, _MOST_EPOCHS = 0.93, 0.04, 40
# Symbols by which the speed of judging is found, and epochs from one judgement to the next.
_TRIED_READING, _JUDGED_EVERY = 2000, 5
_WRITTEN = 100_000


def read_text(data: Path, quick: bool = False) -> tuple[str, str]:
    """What is learned, and what is judged; quickly, a part of the same."""
    with gzip.open(folder_of(data, "tinyshakespeare") / "input.txt.gz", "rt", encoding="utf-8") as file:
        text = file.read()
    cut = int(0.9 * len(text))
    return (text[:20_000], text[:2_000]) if quick else (text[:cut], text[cut:])


def _train(
    model: RNNLanguageModel,
    training: str,
    held_out: str,
    epochs: int,
    seconds: float = np.inf,
    judged_every: int = 1,
) -> list[dict[str, Any]]:
    """Epoch by epoch, as long as the next one, and a judgement, can be expected to end in time.

    To judge is to read the held-out text symbol by symbol, which takes long for large networks: it is done every few
    epochs, and at the end.
    """
    rows: list[dict[str, Any]] = []
    begin = time.perf_counter()
    longest = judging = 0.0
    for epoch in range(epochs):
        start = time.perf_counter()
        if rows and start - begin + longest + judging > seconds:
            break
        model.partial_fit(training)
        taken = time.perf_counter() - start
        longest = max(longest, taken)
        judged = None
        if (epoch + 1) % judged_every == 0 or epoch + 1 == epochs:
            judged = -model.score(held_out)
            judging = time.perf_counter() - start - taken
        rows.append(epoch_row("numrnn", epoch, model.loss_curve_[-1], judged, len(training) / taken))
    if rows[-1]["validation"] is None:
        rows[-1]["validation"] = -model.score(held_out)
    return rows


def _written(model: RNNLanguageModel, n_symbols: int) -> dict[str, Any]:
    """How fast it writes, and what."""
    model.generate("ROMEO:", 100)
    begin = time.perf_counter()
    model.generate("ROMEO:", n_symbols, random_state=0)
    rate = n_symbols / (time.perf_counter() - begin)
    say(f"numrnn writes {rate:,.0f} characters/s")
    return {"written_per_second": rate, "sample": model.generate("ROMEO:", 300, temperature=0.8, random_state=0)}


def ours(
    training: str, held_out: str, network: str, epochs: int, n_jobs: int | None, n_written: int = _WRITTEN
) -> dict[str, Any]:
    """One of `NETWORKS`."""
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
    RNNLanguageModel(**model.get_params()).partial_fit(training[:20_000])
    return {"epochs": _train(model, training, held_out, epochs), **_written(model, n_written)}


def best(
    training: str, held_out: str, minutes: float, epochs: int | None, n_jobs: int | None, n_written: int = _WRITTEN
) -> dict[str, Any]:
    """As many epochs of `BEST` as fit into some minutes, unless a number of them is given."""
    begin = time.perf_counter()
    trial = RNNLanguageModel(**BEST, random_state=0, n_jobs=n_jobs)
    tried = training[: max(int(_TRIED * len(training)), 10_000)]
    trial.partial_fit(tried)  # compiles
    start = time.perf_counter()
    trial.partial_fit(tried)
    each = (time.perf_counter() - start) / len(tried) * len(training)
    start = time.perf_counter()
    read = held_out[:_TRIED_READING]
    trial.score("".join(symbol for symbol in read if symbol in trial.symbols_))
    judging = (time.perf_counter() - start) / len(read) * len(held_out)
    left = 60 * minutes - (time.perf_counter() - begin)
    planned = epochs or int(np.clip((_PLANNED * left - judging) / (each + judging / _JUDGED_EVERY), 1, _MOST_EPOCHS))
    say(f"{planned} epochs of about {each:.1f} s in {minutes:g} minutes")
    model = RNNLanguageModel(**BEST, max_iter=planned, random_state=0, n_jobs=n_jobs)
    rows = _train(model, training, held_out, planned, left, _JUDGED_EVERY)
    total = time.perf_counter() - begin
    say(f"{model.n_parameters_:,} parameters, {total / 60:.1f} minutes, validation {rows[-1]['validation']:.4f}")
    return {
        "settings": {**BEST, "max_iter": planned},
        "n_parameters": model.n_parameters_,
        "seconds": total,
        "epochs": rows,
        **_written(model, n_written),
    }


def peer(
    training: str, held_out: str, network: str, epochs: int, n_threads: int, n_written: int = 2000
) -> dict[str, Any]:
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
        rows.append(epoch_row("PyTorch", epoch, float(np.mean(losses)), judged, len(training) / seconds))
    torch.set_num_threads(1)
    with torch.inference_mode():
        symbol, state = torch.tensor([[0]]), None
        begin = time.perf_counter()
        for _ in range(n_written):
            logits, state = model(symbol, state)
            symbol = torch.multinomial(torch.softmax(logits[0], dim=-1), 1)
        rate = n_written / (time.perf_counter() - begin)
    say(f"PyTorch writes {rate:,.0f} characters/s")
    return {"epochs": rows, "written_per_second": rate}
