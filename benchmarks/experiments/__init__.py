"""Accuracy on real data and on the classic synthetic tasks, beside the same networks in PyTorch.

``python -m benchmarks.experiments NAME --data DIR`` runs a script, or one experiment of it; ``--help`` says the rest.
The data is not part of the repository: DIR (or the environment variable NUMRNN_DATA) is a folder that holds one folder
for each data set, under the names and in the formats that `benchmarks.experiments.data` reads.

To add an experiment
--------------------
Write a module ``benchmarks/experiments/NAME.py`` with a tuple ``EXPERIMENTS`` of `Experiment`, and add NAME to
`SCRIPTS`.

- `Experiment.splits` gets the data folder and a seed and returns a list of `Split`: one for an official split, as many
  as there are folds for a cross-validation. It reads through a function in `data` (add one for a new format; it calls
  `folder_of` first, so that an absent folder is reported well).
- `Experiment.estimator` returns a new estimator, or a Pipeline that ends in one, without `random_state` and `n_jobs`,
  which are set for every seed. Choose the epochs (`max_iter`) and do not stop early: the peer trains as long.
- Settings are chosen on training data alone: ``python -m benchmarks.experiments NAME --validation --set max_iter=5``
  holds out a part of it, scores on that part and writes nothing.
- The peer needs no code. ``--peer`` reads the network's form and first parameters from the fitted estimator and trains
  the same network in the plain loop of `benchmarks.peers.pytorch_training`. `Experiment.peer_epochs` makes that shorter
  where it would take too long, and the table says so; 0 says that PyTorch has no such network. A network of another
  kind brings its own `Experiment.peer`, a score that is not one of predictions its own `Experiment.judge`, and
  `Experiment.details` adds what else is of interest to the record.
- ``python -m benchmarks.experiments --report`` writes the table of ``docs/results.md`` from the JSON files in
  ``benchmarks/results/experiments``. A test compares the page with the files.
"""

from __future__ import annotations

__all__ = ["SCRIPTS"]

# In the order of the table.
SCRIPTS = (
    "mnist",
    "mnist_pixels",
    "imdb",
    "part_of_speech",
    "multivariate",
    "dna",
    "surnames",
    "long_memory",
    "translation",
    "rewriting",
    "surname_generation",
)
