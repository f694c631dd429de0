"""German to English: captions of Multi30k, tokenised and in lower case, judged by BLEU on the test set of 2016.

The official validation part chooses the epoch; all else was chosen on it as well.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.experiments.data import read_multi30k
from benchmarks.experiments.encoder_decoder import BEAM, bleu, peer, speeds_and_samples
from benchmarks.experiments.experiment import Experiment, Split
from numrnn import RNNSeq2Seq

__all__ = ["EXPERIMENTS"]


def _splits(data: Path, seed: int) -> list[Split]:
    (X_train, y_train), (X_val, y_val), (X_test, y_test) = (
        [read_multi30k(data, part, language) for language in ("de", "en")]
        for part in ("train", "val", "test_2016_flickr")
    )
    return [Split(X_train, y_train, X_test, y_test, X_val, y_val)]


def _details(model: Any, split: Split) -> dict[str, Any]:
    greedy = bleu(split.y_test, model.set_params(beam_width=1).predict(split.X_test))
    model.set_params(beam_width=BEAM)
    on_validation = bleu(split.y_val, model.predict(split.X_val))
    return {"greedy_bleu": greedy, "validation_bleu": on_validation, **speeds_and_samples(model, split)}


EXPERIMENTS = (
    Experiment(
        name="multi30k",
        task="Multi30k, German to English (29,000 captions; words seen in at least 2 of them)",
        network="embeddings of 256, bidirectional GRU, 512 units, GRU, 512 units, additive attention",
        literature="goal 32 with a beam of 5",
        goal=32.0,
        metric="BLEU",
        score=bleu,
        splits=_splits,
        estimator=partial(
            RNNSeq2Seq,
            (512,),
            analyzer="split",
            min_df=2,
            embedding_dim=256,
            input_dropout=0.5,
            output_dropout=0.3,
            label_smoothing=0.1,
            batch_size=64,
            learning_rate_init=1e-3,
            learning_rate="cosine",
            max_iter=8,
            tol=0.0,
            early_stopping=True,
            beam_width=BEAM,
            max_length=60,
        ),
        peer_epochs=1,
        peer=peer,
        details=_details,
    ),
)
