"""From which work on a CUDA device is faster than the CPU: what ``device="auto"`` goes by."""

from __future__ import annotations

import json
import os
import platform
import time
import warnings
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np

__all__ = ["crossing", "find_rule", "write_rule"]

RULE = Path(__file__).parent.parent / "numrnn" / "worth_a_device.json"


def crossing(entries: list[dict[str, float]]) -> float | None:
    """The work from which on the device is the faster one; None if it never is.

    Between the last work that the CPU does sooner and the next one, in the geometric mean: from there on the device
    wins at every size that was measured.
    """
    ordered = sorted(entries, key=lambda entry: entry["flops"])
    lost = [number for number, entry in enumerate(ordered) if entry["cpu"] <= entry["cuda"]]
    first = lost[-1] + 1 if lost else 0
    if first == len(ordered):
        return None
    works = [entry["flops"] for entry in ordered[max(first - 1, 0) : first + 1]]
    return float(geometric_mean(works)) if first else float(works[0])


def find_rule(dry: bool) -> dict[str, Any]:
    """Seconds of a training epoch of one minibatch, and of inference, on both, over the work that they are."""
    import numrnn
    from numrnn.devices import _flops

    shapes = (
        [(2, 2, 2)]
        if dry
        else [(8, 20, 16), (32, 20, 32), (32, 50, 64), (64, 100, 64), (128, 100, 128), (256, 100, 256)]
    )
    found: dict[str, Any] = {"training": [], "inference": []}
    rng = np.random.default_rng(6)
    for n, t, size in shapes:
        x = rng.standard_normal((n, t, 8), dtype=np.float32)
        y = rng.standard_normal(n)
        entries: dict[str, dict[str, float]] = {"training": {}, "inference": {}}
        for device in ("cpu", "cuda"):
            epochs = 1 if dry else 20
            model = numrnn.RNNRegressor((size,), batch_size=n, max_iter=epochs, tol=0.0, device=device, random_state=0)
            seconds: dict[str, list[float]] = {"training": [], "inference": []}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # The first one compiles.
                for _ in range(1 if dry else 3):
                    begin = time.perf_counter()
                    model.fit(x, y)
                    seconds["training"].append((time.perf_counter() - begin) / epochs)
                    begin = time.perf_counter()
                    model.predict(x)
                    seconds["inference"].append(time.perf_counter() - begin)
            for work, times in seconds.items():
                entries[work][device] = min(times)
        flops = _flops(model._network, float(n * t))
        for work, factor in (("training", 3), ("inference", 1)):
            found[work].append({"shape": [n, t, size], "flops": factor * flops, **entries[work]})
    return found | {"rule": {work: crossing(found[work]) for work in ("training", "inference")}}


def write_rule(found: dict[str, Any], about: dict[str, Any]) -> str:
    """The file that the package reads."""
    if None in found["rule"].values():
        return "not written: the device never was the faster one"
    rule = found["rule"] | {"measured_on": f"{about['device']} and {os.cpu_count()} processors ({platform.machine()})"}
    RULE.write_text(json.dumps(rule, indent=2) + "\n", encoding="utf-8")
    return f"written to {RULE}"
