"""`numrnn text`: train a language model on a file, judge a file by it, write text with it."""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from numrnn.commands.arguments import add_command, positive, rate, share

__all__ = ["add", "run"]

_EXAMPLES = """examples:
  numrnn text train book.txt --save book.model
  numrnn text train book.txt --units 256 256 --dropout 0.2 --epochs 20 --sample 200 --save book.model
  numrnn text train book.txt --resume book.latest --checkpoint book.latest --save book.model
  numrnn text score book.model other.txt
  numrnn text sample book.model --prompt "It was " --length 500 --temperature 0.8
"""


# Characters of the text in which its first symbol is looked for.
_FIRST = 200


def add(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = add_command(
        commands, "text", "train a language model on a text file, judge text by it, write text with it", _EXAMPLES
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")

    train = actions.add_parser("train", help="train a model on a file; the best epoch's is written to --save")
    train.add_argument("file", type=Path, metavar="FILE", help="UTF-8 text")
    train.add_argument(
        "--save", "--output", dest="output", type=Path, required=True, metavar="MODEL", help="where to write the model"
    )
    train.add_argument("--lines", action="store_true", help="every line is a text by itself, such as a name")
    train.add_argument("--analyzer", choices=("char", "word"), default="char", help="symbols (default: %(default)s)")
    train.add_argument("--max-symbols", type=positive, metavar="N", help="size of the vocabulary; others are unknown")
    train.add_argument("--cell", choices=("lstm", "gru", "rnn"), default="lstm", help="(default: %(default)s)")
    train.add_argument(
        "--units", type=positive, nargs="+", default=[128], metavar="N", help="of each layer (default: 128)"
    )
    train.add_argument("--embedding", type=positive, default=64, metavar="N", help="(default: %(default)s)")
    train.add_argument("--tied", action="store_true", help="the readout's weights are the embedding's")
    train.add_argument(
        "--sampled-softmax", type=positive, metavar="N", help="train with N drawn outputs, for large vocabularies"
    )
    train.add_argument("--dropout", type=share, default=0.0, metavar="P", help="(default: %(default)s)")
    train.add_argument("--batch-size", type=positive, default=64, metavar="N", help="streams (default: %(default)s)")
    train.add_argument(
        "--bptt-steps", type=positive, default=100, metavar="N", help="symbols of a window (default: %(default)s)"
    )
    train.add_argument("--epochs", type=positive, default=10, metavar="N", help="(default: %(default)s)")
    train.add_argument("--learning-rate", type=rate, default=2e-3, metavar="R", help="(default: %(default)s)")
    train.add_argument(
        "--schedule",
        choices=("constant", "step", "cosine"),
        default="cosine",
        help="of the learning rate (default: %(default)s)",
    )
    train.add_argument(
        "--validation", type=share, default=0.1, metavar="P", help="share of the text held out (default: %(default)s)"
    )
    train.add_argument("--sample", type=positive, metavar="N", help="show N symbols that the model writes, every epoch")
    train.add_argument("--checkpoint", type=Path, metavar="MODEL", help="write the newest state here after every epoch")
    train.add_argument("--resume", type=Path, metavar="MODEL", help="go on from a checkpoint, with its settings")
    train.add_argument("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    train.add_argument("--threads", type=int, metavar="N", help="(default: all)")

    score = actions.add_parser("score", help="print how well a model foretells a file, as JSON")
    score.add_argument("model", type=Path, metavar="MODEL")
    score.add_argument("file", type=Path, metavar="FILE", help="UTF-8 text")

    sample = actions.add_parser("sample", help="write text to the standard output")
    sample.add_argument("model", type=Path, metavar="MODEL")
    sample.add_argument("--prompt", default="", metavar="TEXT", help="the beginning; it is not repeated")
    sample.add_argument("--length", type=positive, default=500, metavar="N", help="symbols (default: %(default)s)")
    sample.add_argument("--temperature", type=float, default=1.0, metavar="T", help="(default: %(default)s)")
    sample.add_argument("--top-k", type=positive, metavar="N", help="draw among the N most probable symbols")
    sample.add_argument("--top-p", type=float, metavar="P", help="draw among the most probable with the share P")
    sample.add_argument("--stop", metavar="TEXT", help="end before this string")
    sample.add_argument("--number", type=positive, default=1, metavar="N", help="texts to write (default: %(default)s)")
    sample.add_argument("--seed", type=int, metavar="N", help="write the same text again")


def run(chosen: argparse.Namespace) -> int:
    """Do what the arguments say; the exit status."""
    return {"train": _train, "score": _score, "sample": _sample}[chosen.action](chosen)


def _read(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if not text.strip():
        raise ValueError(f"{str(path)!r} has no text in it")
    return text


def _train(chosen: argparse.Namespace) -> int:
    import numrnn

    text = _read(chosen.file)
    texts: Any = [line for line in text.splitlines() if line] if chosen.lines else text
    kept = len(texts) - math.ceil(len(texts) * chosen.validation)
    training, held_out = texts[:kept], texts[kept:]
    if len(training) < 2:
        raise ValueError(f"--validation {chosen.validation} leaves nothing of {str(chosen.file)!r} to learn from")
    if chosen.resume is not None:
        model = numrnn.load(chosen.resume)
        if not isinstance(model, numrnn.RNNLanguageModel):
            raise ValueError(f"{str(chosen.resume)!r} is a {type(model).__name__}, not a language model")
    else:
        model = numrnn.RNNLanguageModel(
            tuple(chosen.units),
            analyzer=chosen.analyzer,
            max_features=chosen.max_symbols,
            cell=chosen.cell,
            embedding_dim=chosen.embedding,
            tied_weights=chosen.tied,
            sampled_softmax=chosen.sampled_softmax,
            dropout=chosen.dropout if len(chosen.units) > 1 else 0.0,
            output_dropout=chosen.dropout,
            batch_size=chosen.batch_size,
            bptt_steps=chosen.bptt_steps,
            max_iter=chosen.epochs,
            learning_rate_init=chosen.learning_rate,
            learning_rate=chosen.schedule,
            random_state=chosen.seed,
            n_jobs=chosen.threads,
        )
    done = len(getattr(model, "loss_curve_", []))
    total = max(int(model.max_iter), done + 1) if chosen.resume is None else max(chosen.epochs, done + 1)
    n_characters = sum(map(len, training)) if chosen.lines else len(training)
    best = -math.inf
    begin = time.perf_counter()
    print(f"{n_characters:,} characters to learn from, {len(text) - n_characters:,} others", file=sys.stderr)
    try:
        for epoch in range(done, total):
            start = time.perf_counter()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model.partial_fit(training)
            seconds = time.perf_counter() - start
            if any("interrupted" in str(warning.message) for warning in caught):
                raise KeyboardInterrupt
            if epoch == done:
                print(f"{model.n_parameters_:,} parameters, {len(model.symbols_)} symbols", file=sys.stderr)
            judged = model.score(held_out) if held_out else None
            left = (time.perf_counter() - begin) / (epoch + 1 - done) * (total - epoch - 1)
            print(_line(epoch + 1, total, model.loss_curve_[-1], judged, n_characters / seconds, left), file=sys.stderr)
            if chosen.checkpoint is not None:
                model.save(chosen.checkpoint)
            if judged is None or judged > best:
                best = best if judged is None else judged
                model.save(chosen.output)
            if chosen.sample:
                shown = training[0] if chosen.lines else training
                words = model._vocabulary
                prompt = "" if chosen.lines else words.text_of(words.ids_of(shown[:_FIRST])[:1])
                print(prompt + model.generate(prompt, chosen.sample, random_state=chosen.seed), file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted; the best model so far has been kept", file=sys.stderr)
        return 130
    return 0


def _line(epoch: int, total: int, loss: float, judged: float | None, rate: float, left: float) -> str:
    parts = [f"epoch {epoch}/{total}", f"loss {loss:.4f}"]
    if judged is not None:
        parts.append(f"validation {-judged:.4f} ({-judged / math.log(2):.3f} bits)")
    return ", ".join([*parts, f"{rate:,.0f} characters/s", f"{left:.0f} s left"])


def _load(path: Path) -> Any:
    import numrnn

    model = numrnn.load(path)
    if not isinstance(model, numrnn.RNNLanguageModel):
        raise ValueError(f"{str(path)!r} is a {type(model).__name__}, not a language model")
    return model


def _score(chosen: argparse.Namespace) -> int:
    import json

    model, text = _load(chosen.model), _read(chosen.file)
    texts: Any = [line for line in text.splitlines() if line] if model._several else text
    score = model.score(texts)
    result = {
        "log_likelihood_per_symbol": score,
        "perplexity": math.exp(-score),
        "bits_per_character": model.bits_per_character(texts),
    }
    print(json.dumps(result))
    return 0


def _sample(chosen: argparse.Namespace) -> int:
    import numpy as np

    model, rng = _load(chosen.model), np.random.RandomState(chosen.seed)
    for _ in range(chosen.number):
        for piece in model.iterate(
            chosen.prompt,
            chosen.length,
            temperature=chosen.temperature,
            top_k=chosen.top_k,
            top_p=chosen.top_p,
            random_state=rng,
            stop=chosen.stop,
        ):
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
    return 0
