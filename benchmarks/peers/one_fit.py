"""One fit in its own process: its processor time, and the most memory that the process held.

``python -m benchmarks.peers.one_fit FILE`` trains the network of PyTorch that `benchmarks.experiments.fit_costs` wrote.
This module loads no compiler, so that what the process holds is Python, NumPy, PyTorch and the training.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

__all__ = ["measured", "resident"]

_STATUS = Path("/proc/self/status")


def resident() -> tuple[float, float]:
    """Resident memory of this process in MiB: now, and the most so far.

    Where the system does not tell, the first is the second. `resource` alone would count what the parent process held
    before this one began.
    """
    if _STATUS.exists():
        fields = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="utf-8").splitlines())
        now, most = (int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return now, most
    unit = 2**20 if sys.platform == "darwin" else 2**10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return most, most


def measured(call: Callable[[], Any]) -> dict[str, float]:
    """Processor seconds of a call, and resident memory before it and at most, in MiB."""
    before, _ = resident()
    begin = process_time()
    call()
    seconds = process_time() - begin
    return {"seconds": seconds, "memory_before": before, "memory": resident()[1]}


def main(path: str) -> int:
    """Train what is in the file, and print what it took as JSON."""
    from dataclasses import replace

    import numpy as np
    import torch

    from benchmarks.peers.pytorch_training import TrainingSettings, train
    from numrnn.packing import Sequences

    torch.set_num_threads(1)
    kept: dict[str, Any] = torch.load(path, weights_only=False)
    network, rates = kept["network"], kept["rates"]
    sequences, targets = Sequences(*kept["sequences"]), kept["targets"]
    settings = TrainingSettings(learning_rate=lambda epoch: rates[epoch], **kept["settings"])
    some = kept["settings"]["batch_size"]
    few = Sequences(sequences.values, sequences.starts[:some], sequences.lengths[:some])
    still = replace(settings, learning_rate=lambda epoch: 0.0, n_epochs=1)
    train(network, few, targets[:some], still, np.random.RandomState(0))  # libraries are loaded before anything counts
    print(json.dumps(measured(lambda: train(network, sequences, targets, settings, np.random.RandomState(0)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
