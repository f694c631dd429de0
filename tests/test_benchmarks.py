"""The benchmarks are found, can be set up, and measure something; how fast they are is not asserted anywhere."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

import numrnn

ROOT = Path(__file__).parent.parent
SUITE = [path.stem for path in sorted((ROOT / "benchmarks" / "suite").glob("*.py")) if path.stem != "__init__"]


@pytest.fixture(autouse=True)
def _sources_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.parametrize("name", SUITE)
def test_modules_of_the_suite_can_be_imported(name):
    module = importlib.import_module(f"benchmarks.suite.{name}")
    assert module.__doc__


def test_every_benchmark_has_as_many_parameters_as_names():
    seen = 0
    for name in SUITE:
        for benchmark in vars(importlib.import_module(f"benchmarks.suite.{name}")).values():
            if isinstance(benchmark, type) and hasattr(benchmark, "params"):
                parameters = benchmark.params
                single = not isinstance(parameters[0], (tuple, list))
                assert (1 if single else len(parameters)) == len(benchmark.param_names), benchmark
                seen += 1
    assert seen >= 8


def test_a_device_without_engine_skips_itself():
    layers = importlib.import_module("benchmarks.suite.layers")
    with pytest.raises(NotImplementedError, match="cuda"):
        layers.Forward().setup("cuda", "lstm", "(1, 1, 16, 32)")


def test_rates_are_positive_and_finite():
    machine = importlib.import_module("benchmarks.suite.machine")
    assert 0 < machine.fma_peak(1, repeats=1) < math.inf
    layers = importlib.import_module("benchmarks.suite.layers")
    benchmark = layers.Throughput()
    benchmark.setup(1e9, "cpu", "rnn", "(1, 100, 64, 64)", "forward")
    assert 0 < benchmark.track_gflops(1e9, "cpu", "rnn", "(1, 100, 64, 64)", "forward") < math.inf


def test_contestants_take_turns_and_the_median_counts():
    timing = importlib.import_module("benchmarks.peers.timing")
    turns: list[str] = []
    field = [timing.Contestant(name, lambda: None, lambda name=name: turns.append(name)) for name in "ab"]
    times = timing.compare(field, rounds=2, seconds=0.001)
    assert turns == ["a", "b", "b", "a"]
    assert all(0 < time < 1 for time in times.values())
    assert sys.modules["benchmarks.peers.timing"] is timing


def test_instructions_of_innermost_loops_are_counted():
    assembly = importlib.import_module("benchmarks.assembly")
    text = """
kernel:
\txorl\t%eax, %eax
.LBB0_1:
\tvmovups\t(%rdi), %zmm0
.LBB0_2:
\tvbroadcastss\t(%rsi,%rax,4), %zmm1
\tvfmadd231ps\t%zmm0, %zmm1, %zmm2
\tvfmadd231ps\t64(%rdi), %zmm1, %zmm3
\tvdivps\t%zmm2, %zmm3, %zmm4
\tvaddps\t%zmm2, %zmm3, %zmm4
\tvmovups\t%zmm4, (%rdx)
\tincq\t%rax
\tjne\t.LBB0_2
\tdecq\t%rcx
\tjne\t.LBB0_1
\tretq
"""
    (loop,) = assembly.innermost_loops(text)
    assert loop == assembly.Loop(".LBB0_2", 8, fma=2, arithmetic=1, divisions=1, estimates=0, reads=2, writes=1)


def test_scaling_is_measured_beside_a_model_and_drawn(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    scaling = importlib.import_module("benchmarks.scaling")
    record, image = tmp_path / "scaling.json", tmp_path / "scaling.png"
    assert scaling.main(["--quick", "--json", str(record), "--plot", str(image)]) == 0
    results = json.loads(record.read_text())
    # Three sizes with two values each, two modes, two numbers of threads.
    assert len(results["rows"]) == 24 == capsys.readouterr().out.count("\n| (") - 1
    assert all(0 < row["measured_ms"] < math.inf and 0 < row["model_ms"] < math.inf for row in results["rows"])
    assert image.read_bytes().startswith(b"\x89PNG")


def test_steps_with_weights_in_bfloat16_are_timed_beside_float32():
    bfloat16 = importlib.import_module("benchmarks.bfloat16")
    (row,) = bfloat16.step_times(("rnn",), bfloat16.SIZES[:1], rounds=1, seconds=0.001)
    assert (row["cell"], row["inputs"], row["units"]) == ("rnn", 16, 32)
    assert row["bfloat16_us"] > 0
    assert row["ratio"] == pytest.approx(row["float32_us"] / row["bfloat16_us"])
    assert bfloat16.table_of_times([row]).splitlines()[-1].startswith("| RNN 16, 32 | ")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_losses_of_bfloat16_are_those_of_other_predictions():
    bfloat16 = importlib.import_module("benchmarks.bfloat16")
    X = np.random.default_rng(0).normal(size=(9, 5, 2)).astype(np.float32)
    model = numrnn.RNNClassifier((4,), max_iter=1, random_state=0).fit(X, X[:, 0, 0] > 0)
    np.testing.assert_allclose(bfloat16.outputs_of(model.compile(), X), model.predict_proba(X), rtol=1e-12)
    rows = [bfloat16.row_of(*found) for found in bfloat16.digits(quick=True)]
    assert {row["measure"] for row in rows} == {"accuracy", "log loss"}
    loss = next(row for row in rows if row["measure"] == "log loss")
    assert loss["float32"] != loss["bfloat16"] == pytest.approx(loss["float32"], abs=0.05)
    assert 0 <= loss["moved"] < 0.2
    assert bfloat16.table_of_losses(rows).count("digits, ") == len(rows)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_trainings_in_bfloat16_are_compared_with_those_in_float32(monkeypatch):
    bfloat16 = importlib.import_module("benchmarks.bfloat16")
    X, y = np.random.default_rng(0).normal(size=(12, 3, 2)).astype(np.float32), np.arange(12) % 2
    seen = []

    def make(**options):
        seen.append((options["random_state"], options["matmul_precision"]))
        return numrnn.RNNClassifier((3,), max_iter=2, **options)

    task = ("a network", "log loss", make, (X, y), lambda model: float(model.predict_proba(X)[0, 0]))
    monkeypatch.setattr(bfloat16, "_training_tasks", lambda data, quick: [task])
    (row,) = bfloat16.trainings(None, seeds=(3, 4))
    assert seen == [(3, None), (3, "bfloat16"), (4, None), (4, "bfloat16")]
    assert row["float32"] != row["bfloat16"] == pytest.approx(row["float32"], abs=0.05)
    assert row["spread"] > 0
    assert min(row["float32_s"], row["bfloat16_s"]) > 0
    assert bfloat16.table_of_trainings([row]).splitlines()[-1].startswith("| a network | log loss | 0.")


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_products_in_bfloat16_are_timed_beside_peers_that_compute_the_same(training):
    pytest.importorskip("torch")
    contests = importlib.import_module("benchmarks.peers.contests")
    runs = importlib.import_module("benchmarks.peers.runs")
    size = contests.Size(3, 4, 5, 6)
    found = list(contests.contests(("bfloat16",), ("gru",), sizes=[size]))
    assert [contest.mode for contest in found] == list(runs._NARROW_MODES)
    contest = found[training]
    names = {contestant.name.partition(",")[0] for contestant in contest.contestants}
    assert names == {"numrnn", "PyTorch", "PyTorch autocast", "PyTorch bfloat16"}
    results = [contestant.call() for contestant in contest.contestants]
    results = [result["x"] if isinstance(result, dict) else result for result in results]
    for theirs in results[1:]:
        assert theirs.dtype == np.float32
        np.testing.assert_allclose(theirs, results[0], atol=0.1 * np.abs(results[0]).max())


def test_model_of_the_cost_adds_products_activations_calls_and_steps():
    scaling = importlib.import_module("benchmarks.scaling")
    workloads = importlib.import_module("benchmarks.suite.workloads")
    costs = scaling.Costs(1e9, 1e-9, {"forward": 1e-6, "training": 2e-6}, {"forward": 1e-7, "training": 3e-7})
    size = workloads.Size(2, 10, 3, 5)
    products, units = 2 * 2 * 10 * 4 * 5 * (3 + 5), 2 * 10 * 5
    assert costs.seconds(size, "forward") == pytest.approx((products + units) * 1e-9 + 1e-6 + 10e-7)
    assert costs.seconds(size, "training", 2) == pytest.approx((3 * products + units) / 2 * 1e-9 + 2e-6 + 30e-7)


def test_the_page_names_every_command_and_every_module_of_the_suite():
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    folder = ROOT / "benchmarks"
    scripts = [path for path in folder.rglob("*.py") if '__name__ == "__main__"' in path.read_text(encoding="utf-8")]
    assert len(scripts) >= 8
    for path in scripts:
        parts = path.relative_to(ROOT).with_suffix("").parts
        assert f"python -m {'.'.join(part for part in parts if part != '__main__')}" in page, path
    for name in set(SUITE) - {"machine", "workloads"}:
        assert f"| `{name}` |" in page


def test_the_rule_of_auto_is_where_the_device_begins_to_win():
    from benchmarks.gpu_rule import crossing

    def entries(*winners):
        return [{"flops": 10.0**i, "cpu": 1.0, "cuda": 0.5 if won else 2.0} for i, won in enumerate(winners)]

    assert crossing(entries(False, False, True, True)) == pytest.approx(10**1.5)
    # A size at which the CPU wins after all is not below the rule.
    assert crossing(entries(False, True, False, True)) == pytest.approx(10**2.5)
    assert crossing(entries(True, True)) == 1.0
    assert crossing(entries(True, False)) is None


@pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed")
def test_shares_of_floors():
    from benchmarks.gpu_floors import Floors, fraction_of_floor

    floors = Floors(1e12, 1e13, 1e-7, 1e-9)
    assert floors.step_seconds(65) == pytest.approx(1e-7 + 3e-9)
    # A short layer of few units waits for its time steps, one of very many computes.
    slow = fraction_of_floor(floors, 1e-3, 4, 1, 100, 32, 32, False)
    assert slow["fraction"] == slow["steps"] / 1e-3 > slow["operations"] / 1e-3
    assert slow["steps"] == pytest.approx(100 * 1.01e-7)
    large = fraction_of_floor(floors, 1.0, 4, 512, 100, 1024, 1024, True)
    assert large["fraction"] == large["operations"] == pytest.approx(3 * 2 * 51200 * 4 * 1024 * 2048 / 1e13)
    # Rows of inputs and outputs, and the weights.
    assert slow["bytes"] == pytest.approx(4 * (100 * 64 + 4 * 32 * 64) / 1e12)


def test_the_rule_is_read_from_the_file():
    from numrnn import devices

    rule = json.loads((ROOT / "numrnn" / "worth_a_device.json").read_text(encoding="utf-8"))
    assert set(rule) == {"training", "inference", "measured_on"}
    assert {work: rule[work] for work in devices.WORTH_A_DEVICE} == devices.WORTH_A_DEVICE
    assert min(devices.WORTH_A_DEVICE.values()) > 0


def test_some_rows_of_the_table_of_kernels_are_renewed():
    from benchmarks.gpu_kernels import renewed

    head = "| kernel | types |\n|---|---|"
    old = f"{head}\n| crf: best | f4 |\n| steps: one | f4 |\n| recurrent: forward_gru_float32_1 | float32 |"
    new = f"{head}\n| crf: other | f8 |"
    assert renewed(old, new, "crf") == (
        f"{head}\n| crf: other | f8 |\n| steps: one | f4 |\n| recurrent: forward_gru_float32_1 | float32 |"
    )


def _run_of_peers(path, ratio, processor="A"):
    def row(mode, size, share):
        peers = {"PyTorch, 1 thread": ratio * 2.0, "PyTorch, 2 threads": ratio * 3.0}
        return {
            "mode": mode, "cell": "gru", "size": size, "numrnn_ms": 2.0, "peers_ms": peers,
            "fastest_peer": "PyTorch, 1 thread", "ratio": ratio, "fraction_of_peak": share,
        }  # fmt: skip

    rows = [
        row("inference", "(1, 1, 16, 32)", 0.1),
        row("inference", "(32, 100, 16, 64)", 0.5),
        row("fit", "digits (9, 8, 8), 64 units", None),
    ]
    machine = {"processor": processor, "vector_bits": 512, "versions": {"torch": "2.13"}}
    results = {"machine": machine, "fma_peak_gflops": {"1": 100.0 * ratio}, "rows": rows}
    path.write_text(json.dumps(results), encoding="utf-8")
    return path


def test_several_runs_beside_peers_are_one_table(tmp_path, capsys):
    from benchmarks.peers.runs import main, tables

    paths = [_run_of_peers(tmp_path / f"{ratio}.json", ratio) for ratio in (1.5, 3.0, 1.0)]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- peers: begin -->\nold\n<!-- peers: end -->\nafter\n", encoding="utf-8")
    assert main([*map(str, paths), "--write", "--page", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- peers: begin -->\n") and text.endswith("<!-- peers: end -->\nafter\n")
    assert "old" not in text and text.count(capsys.readouterr().out.strip()) == 1
    assert "| 1, 1, 16, 32 | **1.50** (1.00-3.00) |" in text
    assert "| 32, 100, 16, 64 | **1.50** (1.00-3.00, 50 %) |" in text
    assert "| geometric mean | 1.50 |" in text
    assert "| fit, GRU, digits (9, 8, 8), 64 units | 2 | PyTorch, 1 thread | 3 | **1.50** (1.00-3.00) |" in text
    assert "\nA, vectors of 512 bits" in text and "by threads: 150 with 1" in text
    assert tables(paths, "Two cores of an A").startswith("Two cores of an A, vectors")
    with pytest.raises(ValueError, match="of one machine, they are of A, B"):
        tables([paths[0], _run_of_peers(tmp_path / "other.json", 1.0, "B")])
