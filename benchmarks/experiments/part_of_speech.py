"""Universal part-of-speech tags of English: the English Web Treebank of Universal Dependencies."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.experiments.data import folder_of, read_conllu
from benchmarks.experiments.experiment import Experiment, Split, token_accuracy
from numrnn import RNNTagger

__all__ = ["EXPERIMENTS"]


def _splits(data: Path, seed: int) -> list[Split]:
    """Training and test part of the official split. The settings below were chosen on the third, development part."""
    folder = folder_of(data, "ud_ewt")
    parts = [read_conllu(folder / f"en_ewt-ud-{part}.conllu.gz") for part in ("train", "test")]
    return [Split(*parts[0], *parts[1])]


EXPERIMENTS = (
    Experiment(
        name="part_of_speech",
        task="UD English EWT: 17 part-of-speech tags of words (12,544 sentences, T = 1 to 159)",
        network="words, affixes and shapes embedded, bidirectional LSTM, 128 units, no pretrained vectors",
        literature="goal 0.935",
        goal=0.935,
        metric="token accuracy",
        score=token_accuracy,
        splits=_splits,
        estimator=partial(
            RNNTagger,
            hidden_layer_sizes=(128,),
            bidirectional=True,
            embedding_dim=100,
            word_feature_dim=16,
            input_dropout=0.3,
            output_dropout=0.3,
            learning_rate_init=2e-3,
            learning_rate="cosine",
            batch_size=32,
            max_iter=8,
            tol=0.0,
            n_iter_no_change=1000,
        ),
    ),
)
