"""What an LSTM costs against time steps, sequences, hidden units and threads: ``python -m benchmarks.scaling``.

Measured are `layer.forward` and forward followed by `layer.backward`, varying one size at a time around a layer of 128
inputs and 128 units on 32 sequences of 100 steps. Beside it stands a model with five constants, none of them fitted to
what it is compared with: the peak of fused multiply-adds, the rates of sigmoid and tanh in the first cache, and the
fixed costs of a call and of a step, which are those of the smallest layers on one sequence.

Written are `benchmarks/results/scaling.json` and `docs/images/scaling.png`; a quick run writes what it is told to.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.timing import Contestant, compare
from benchmarks.suite.activations import Activations
from benchmarks.suite.machine import describe, fma_peak
from benchmarks.suite.workloads import Size, flops, make_input, make_layer

__all__ = ["CENTRE", "Costs", "main", "measure", "measure_costs", "save_plot"]

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "scaling.json"
IMAGE = ROOT / "docs" / "images" / "scaling.png"

CENTRE = Size(32, 100, 128, 128)
VALUES = {
    "n_timesteps": (1, 3, 10, 30, 100, 300, 1000),
    "n_sequences": (1, 2, 4, 8, 16, 32, 64, 128),
    "hidden_size": (8, 16, 32, 64, 128, 256, 512),
}
_QUICK_CENTRE = Size(2, 5, 16, 16)
_QUICK_VALUES = {"n_timesteps": (1, 5), "n_sequences": (1, 2), "hidden_size": (8, 16)}
_LETTERS = {"n_timesteps": "T, time steps", "n_sequences": "N, sequences", "hidden_size": "H, hidden units"}
MODES = {"forward": "forward", "training": "forward and backward"}
_THREADS = (1, 2)
_TINY = Size(1, 1, 16, 16)
_TINY_STEPS = 1000


@dataclass(frozen=True)
class Costs:
    """The constants of the model.

    Attributes
    ----------
    peak : float
        Floating-point operations per second of one thread.
    unit : float
        Seconds of the activations of one LSTM unit in one step: three sigmoids, two hyperbolic tangents.
    call, step : dict of str to float
        Seconds that a call, and that a step of it, costs beside its arithmetic, for "forward" and "training".
    """

    peak: float
    unit: float
    call: dict[str, float]
    step: dict[str, float]

    def arithmetic(self, size: Size, mode: str, n_threads: int = 1) -> float:
        """Seconds of the products at the peak, and of the activations.

        Activations are counted once in training, too: backward reads what forward has kept.
        """
        products = flops("lstm", size, training=mode == "training") / self.peak
        units = size.n_sequences * size.n_timesteps * size.hidden_size
        return (products + units * self.unit) / n_threads

    def seconds(self, size: Size, mode: str, n_threads: int = 1) -> float:
        """What the model says that a call takes."""
        return self.arithmetic(size, mode, n_threads) + self.call[mode] + size.n_timesteps * self.step[mode]


def _contestants(size: Size, threads: Sequence[int]) -> Iterator[Contestant]:
    """Forward, and forward and backward, with every number of threads; named "forward 1" and the like."""
    x = make_input(size)
    d_y = np.ones((size.n_sequences, size.n_timesteps, size.hidden_size), dtype=np.float32)
    for count in threads:
        layer = make_layer("lstm", size, n_jobs=count)

        def train(layer: Any = layer) -> None:
            layer.forward(x, training=True)
            layer.backward(d_y)

        yield Contestant(f"forward {count}", lambda layer=layer: layer.forward(x))  # type: ignore[misc]
        yield Contestant(f"training {count}", train)


def measure_costs(*, rounds: int, seconds: float) -> Costs:
    """The constants, on this machine."""
    rates = {}
    for name in ("sigmoid", "tanh"):
        benchmark = Activations()
        benchmark.setup(name, "float32")
        rates[name] = 1e9 * benchmark.track_throughput(name, "float32")
    unit = 3 / rates["sigmoid"] + 2 / rates["tanh"]
    bare = Costs(1e9 * fma_peak(1), unit, {}, {})
    long = _TINY._replace(n_timesteps=_TINY_STEPS)
    times = {size: compare(list(_contestants(size, (1,))), rounds=rounds, seconds=seconds) for size in (_TINY, long)}
    call, step = {}, {}
    for mode in MODES:
        one, many = (times[size][f"{mode} 1"] / 1e3 - bare.arithmetic(size, mode) for size in (_TINY, long))
        step[mode] = max(0.0, (many - one) / (_TINY_STEPS - 1))
        call[mode] = max(0.0, one - step[mode])
    return Costs(bare.peak, unit, call, step)


def measure(
    costs: Costs, centre: Size, values: dict[str, Sequence[int]], *, rounds: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """Times and the model's, in milliseconds: one row for each size, mode and number of threads."""
    for varied, numbers in values.items():
        for number in numbers:
            size = centre._replace(**{varied: number})
            times = compare(list(_contestants(size, _THREADS)), rounds=rounds, seconds=seconds)
            for name, time in times.items():
                mode, count = name.split()
                model = 1e3 * costs.seconds(size, mode, int(count))
                yield {
                    "varied": varied,
                    "size": list(size),
                    "mode": mode,
                    "threads": int(count),
                    "measured_ms": time,
                    "model_ms": model,
                }


def save_plot(results: dict[str, Any], path: str | Path) -> None:
    """Draw what was written as JSON: dots are measured, lines are the model."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fields = Size._fields
    figure, axes = plt.subplots(len(MODES), len(_LETTERS), figsize=(10, 6), sharey="row", layout="constrained")
    colors = dict(zip(_THREADS, ("#3b7dd8", "#d8703b"), strict=True))
    for line, (mode, title) in zip(axes, MODES.items(), strict=True):
        for axis, (varied, letter) in zip(line, _LETTERS.items(), strict=True):
            for count, color in colors.items():
                rows = [
                    row
                    for row in results["rows"]
                    if (row["varied"], row["mode"], row["threads"]) == (varied, mode, count)
                ]
                numbers = [row["size"][fields.index(varied)] for row in rows]
                name = f"{count} thread{'s' * (count > 1)}"
                axis.plot(numbers, [row["measured_ms"] for row in rows], "o", color=color, ms=5, label=name)
                axis.plot(numbers, [row["model_ms"] for row in rows], color=color, lw=1.2, label=f"{name}, model")
            axis.set(xscale="log", yscale="log", xlabel=letter)
            axis.set_xticks(numbers, [str(number) for number in numbers])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
        line[0].set_ylabel(f"{title}, ms")
    axes[0, 0].legend(fontsize=8)
    centre = Size(*results["centre"])
    figure.suptitle(
        f"An LSTM around N = {centre.n_sequences}, T = {centre.n_timesteps}, D = {centre.input_size}, "
        f"H = {centre.hidden_size}, float32, {results['machine']['processor']}",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _print(results: dict[str, Any]) -> None:
    costs = results["costs"]
    print(f"FMA peak of a thread {costs['peak'] / 1e9:.0f} GFLOP/s, activations of a unit {1e9 * costs['unit']:.2f} ns")
    for mode, title in MODES.items():
        print(f"{title}: {1e6 * costs['call'][mode]:.1f} us a call, {1e9 * costs['step'][mode]:.0f} ns a step")
    print(
        "\n| (N, T, D, H) | mode | threads | measured, ms | model, ms | measured / model |\n|---|---|---|---|---|---|"
    )
    for row in results["rows"]:
        measured, model = row["measured_ms"], row["model_ms"]
        print(
            f"| {Size(*row['size'])} | {MODES[row['mode']]} | {row['threads']} "
            f"| {measured:.4g} | {model:.4g} | {measured / model:.2f} |"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the result and the figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few tiny sizes: to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"default: {RESULT.relative_to(ROOT)}")
    parser.add_argument("--plot", type=Path, metavar="FILE", help=f"default: {IMAGE.relative_to(ROOT)}")
    options = parser.parse_args(arguments)
    effort: dict[str, Any] = {"rounds": 1, "seconds": 0.002} if options.quick else {"rounds": 3, "seconds": 0.1}
    centre, values = (_QUICK_CENTRE, _QUICK_VALUES) if options.quick else (CENTRE, VALUES)
    machine = describe()
    costs = measure_costs(**effort)
    results = {
        "machine": machine,
        "centre": list(centre),
        "costs": asdict(costs),
        "rows": list(measure(costs, centre, values, **effort)),
    }
    _print(results)
    record = options.json or (None if options.quick else RESULT)
    image = options.plot or (None if options.quick else IMAGE)
    if record:
        record.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if image:
        save_plot(results, image)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
