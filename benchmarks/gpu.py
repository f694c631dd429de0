"""On a machine with a CUDA device: check the kernels, time them against cuDNN, and write what was found.

    python -m benchmarks.gpu                checks and times everything, in under 8 minutes
    python -m benchmarks.gpu --quick        fewer sizes
    python -m benchmarks.gpu --write-rule   also writes from which work on device="auto" takes the device
    python -m benchmarks.gpu --dry-run      the same steps with tiny shapes in Numba's simulator, without PyTorch

Checked: the tests of the device (tests/cuda), layers against those of the CPU in float32, the same bits in every run,
and with compute-sanitizer, where it is installed, that nothing is read or written out of bounds.
Timed, by events on the device, warm, as medians: LSTM, GRU and tanh RNN of one layer, forward and in training (forward
and backward with all gradients), against `torch.nn` on the same card in float32 (cuDNN; without TF32, as here), and the
fit of a classifier against a loop in PyTorch. Without PyTorch for CUDA the comparison is left out, and the result says
so; so is that with FlashRNN, which computes the recurrence of an LSTM alone, without the product of the input. What the
device does at best is measured in the same run (benchmarks/gpu_floors.py), and every time is given as a share of it.
Large products are timed in each arithmetic that NUMRNN_CUDA_PRODUCTS offers, and the work from which on a device is
faster than the CPU is looked for. Everything is written to benchmarks/results/gpu.json. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

if "--dry-run" in sys.argv:
    # Before Numba is imported, which the functions below do.
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "gpu.json"
CELLS = {"lstm": ("LSTM", {}), "gru": ("GRU", {}), "rnn_tanh": ("RNN", {"nonlinearity": "tanh"})}
CELL_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1}
BATCHES, STEPS, SIZES = (1, 32, 128, 512), (28, 100, 1000), (32, 64, 128, 256, 512, 1024)
# Stop timing after so many seconds, whatever is left; say what is.
LIMIT = 420.0


class Clock:
    """Seconds since the start."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.begin


def event_seconds(call: Any, stream: Any, repeats: int, dry: bool) -> float:
    """Median seconds of a call that only launches, between two events on its stream."""
    from numba import cuda

    call()
    if dry:
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin
    stream.synchronize()
    seconds = []
    for _ in range(repeats):
        start, end = cuda.event(), cuda.event()
        start.record(stream)
        call()
        end.record(stream)
        end.synchronize()
        seconds.append(cuda.event_elapsed_time(start, end) / 1e3)
    return median(seconds)


def our_calls(cell: str, n: int, t: int, size: int, n_inputs: int, step_by_step: bool = False) -> tuple[Any, Any, Any]:
    """Forward, training, and the stream of one layer whose data is on the device."""
    from numrnn.cuda.batches import Plans
    from numrnn.cuda.stack import DeviceStack
    from numrnn.kernels.cuda.arrays import DeviceArrays, new_queue, upload
    from numrnn.parameters import Parameters
    from numrnn.stack import RecurrentStack
    from numrnn.workers import Workers

    stack = RecurrentStack(cell, n_inputs, (size,), workers=Workers(1))
    parameters = Parameters(stack.parameter_shapes(), stack.dtype)
    stack.initialize(parameters, np.random.RandomState(0))
    queue = new_queue()
    device = DeviceStack(stack, parameters, DeviceArrays(), queue)
    device.step_by_step = step_by_step
    plan = Plans().of(np.full(n, t, dtype=np.int64), queue)
    rng = np.random.default_rng(0)
    x = upload(rng.standard_normal(n * t * n_inputs, dtype=np.float32), queue)
    d_y = upload(rng.standard_normal(n * t * size, dtype=np.float32), queue)
    flat, gradient = upload(parameters.flat, queue), upload(np.zeros_like(parameters.flat), queue)

    def forward() -> Any:
        return device.forward(x, plan, parameters=flat)

    def training() -> None:
        run = device.forward(x, plan, parameters=flat, training=True)
        device.backward(run, flat, d_y, gradient, need_input=True)

    return forward, training, queue


def torch_calls(torch: Any, cell: str, n: int, t: int, size: int, n_inputs: int) -> tuple[Any, Any]:
    """The same of torch.nn, that is of cuDNN."""
    name, options = CELLS[cell]
    layer = getattr(torch.nn, name)(n_inputs, size, **options).cuda()
    x = torch.randn(t, n, n_inputs, device="cuda", requires_grad=True)
    d_y = torch.randn(t, n, size, device="cuda")

    def forward() -> None:
        with torch.no_grad():
            layer(x)

    def training() -> None:
        layer.zero_grad(set_to_none=True)
        x.grad = None
        layer(x)[0].backward(d_y)

    return forward, training


def torch_seconds(torch: Any, call: Any, repeats: int) -> float:
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    seconds = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3)
    return median(seconds)


def find_torch() -> Any:
    """PyTorch if it has a device, with float32 arithmetic in float32."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch


def check_layers(dry: bool) -> dict[str, float]:
    """Errors of layers in float32, relative to the largest number of each result; two runs must be the same bits."""
    import numrnn

    shape = (2, 2, 2, 2) if dry else (37, 25, 20, 100)
    n, t, n_inputs, size = shape
    rng = np.random.default_rng(3)
    x = rng.standard_normal((n, t, n_inputs), dtype=np.float32)
    lengths = rng.integers(1, t + 1, n)
    errors = {}
    for kind in ("LSTM", "GRU", "RNN"):
        results = []
        for device in ("cpu", "cuda", "cuda"):
            layer = getattr(numrnn, kind)(n_inputs, size, bidirectional=not dry, random_state=0, device=device)
            y, _ = layer.forward(x, lengths=lengths, training=True)
            d_x, _ = layer.backward(y)
            results.append([y, d_x, *layer.gradients.values()])
        errors[kind] = max(
            float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)) for a, b in zip(*results[:2], strict=True)
        )
        if not all(np.array_equal(a, b) for a, b in zip(*results[1:], strict=True)):
            raise AssertionError(f"{kind}: two runs on the device differ")
        if errors[kind] > 1e-4:
            raise AssertionError(f"{kind}: error {errors[kind]:.1e} relative to the CPU")
    return errors


def time_fit(torch: Any, dry: bool) -> dict[str, Any]:
    """Seconds of the epochs of a classifier, on the device, the CPU, and in a loop of PyTorch."""
    import numrnn

    n, t, n_inputs, size, batch, epochs = (6, 3, 2, 2, 3, 1) if dry else (8192, 50, 8, 64, 128, 3)
    rng = np.random.default_rng(4)
    x = rng.standard_normal((n, t, n_inputs), dtype=np.float32)
    y = (x[:, :, 0].sum(axis=1) > 0).astype(np.int64)
    results: dict[str, Any] = {"shape": [n, t, n_inputs], "hidden": size, "batch": batch, "epochs": epochs}
    for device in ("cuda", "cuda", "cpu"):
        model = numrnn.RNNClassifier((size,), batch_size=batch, max_iter=epochs, device=device, random_state=0)
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(x, y)
        # The first one on the device compiles.
        results[device] = time.perf_counter() - begin
    if torch is not None:
        layer = torch.nn.GRU(n_inputs, size, batch_first=True).cuda()
        head = torch.nn.Linear(size, 2).cuda()
        solver = torch.optim.Adam([*layer.parameters(), *head.parameters()])
        data, targets = torch.from_numpy(x).cuda(), torch.from_numpy(y).cuda()
        for _ in range(2):
            torch.cuda.synchronize()
            begin = time.perf_counter()
            for _ in range(epochs):
                for rows in torch.randperm(n, device="cuda").split(batch):
                    solver.zero_grad(set_to_none=True)
                    hidden = layer(data[rows])[0][:, -1]
                    torch.nn.functional.cross_entropy(head(hidden), targets[rows]).backward()
                    solver.step()
            torch.cuda.synchronize()
            results["torch"] = time.perf_counter() - begin
    return results


def time_pairs(torch: Any, dry: bool) -> dict[str, Any]:
    """Seconds of the epochs of an encoder and decoder with attention, on the device, the CPU, and in PyTorch."""
    import numrnn

    n, t, n_ids, size, batch, epochs = (4, 2, 3, 2, 2, 1) if dry else (2048, 20, 200, 256, 64, 2)
    rng = np.random.default_rng(5)
    x = [rng.integers(1, n_ids, rng.integers(1, t + 1)) for _ in range(n)]
    y = [ids[::-1].copy() for ids in x]
    results: dict[str, Any] = {"pairs": n, "longest": t, "hidden": size, "batch": batch, "epochs": epochs}
    options: dict[str, Any] = {"embedding_dim": size, "batch_size": batch, "max_iter": epochs, "random_state": 0}
    for device in ("cuda", "cuda", "cpu"):
        model = numrnn.RNNSeq2Seq((size,), device=device, **options)
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(x, y)
        # The first one on the device compiles.
        results[device] = time.perf_counter() - begin
    if torch is not None:
        from benchmarks.peers.pytorch_seq2seq import TorchEncoderDecoder, padded
        from numrnn.training.batches import divide

        peer = TorchEncoderDecoder(model._network).cuda()
        solver, shuffler = torch.optim.Adam(peer.parameters(), fused=True), np.random.RandomState(0)
        sources, targets = (model._sources(x, np.float32), model._targets(y, np.float32))
        for _ in range(2):
            torch.cuda.synchronize()
            begin = time.perf_counter()
            for _ in range(epochs):
                order, bounds = divide(sources.lengths + targets.lengths, batch, shuffle=True, rng=shuffler)
                order = np.arange(n) if order is None else order
                for first, end in bounds:
                    solver.zero_grad(set_to_none=True)
                    ids, lengths = padded(sources, order[first:end])
                    wanted, steps = padded(targets, order[first:end])
                    expected = torch.cat([wanted, torch.zeros(len(wanted), 1, dtype=torch.int64)], dim=1)
                    places = torch.arange(expected.shape[1])
                    expected[places == steps[:, None]] = peer.end_id
                    expected[places > steps[:, None]] = -100
                    logits = peer(ids.cuda(), lengths, wanted.cuda())
                    torch.nn.functional.cross_entropy(logits.flatten(0, 1), expected.flatten().cuda()).backward()
                    torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
                    solver.step()
            torch.cuda.synchronize()
            results["torch"] = time.perf_counter() - begin
    return results


def flash_calls(torch: Any, n: int, t: int, size: int) -> tuple[Any, Any] | None:
    """The recurrence of an LSTM by FlashRNN, in float32; None where it is not installed."""
    try:
        from flashrnn import flashrnn
    except ImportError:
        return None
    wx = torch.randn([n, t, 4, 1, size], device="cuda", requires_grad=True)
    r = torch.randn([4, 1, size, size], device="cuda", requires_grad=True)
    b = torch.zeros([4, 1, size], device="cuda", requires_grad=True)
    d_y = torch.randn([n, t, 1, size], device="cuda")

    def run() -> Any:
        return flashrnn(wx, r, b, function="lstm", backend="cuda_fused")[0][0]

    def forward() -> None:
        with torch.no_grad():
            run()

    def training() -> None:
        wx.grad = r.grad = b.grad = None
        run().backward(d_y)

    return forward, training


def sanitize(dry: bool) -> str:
    """Layers under compute-sanitizer's memcheck, in a process of its own."""
    tool = shutil.which("compute-sanitizer")
    if dry or tool is None:
        return "not in a dry run" if dry else "compute-sanitizer is not installed"
    command = [
        tool,
        "--tool",
        "memcheck",
        "--error-exitcode",
        "9",
        sys.executable,
        "-m",
        "benchmarks.gpu",
        "--only-layers",
    ]
    try:
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=90)
    except subprocess.TimeoutExpired:
        return "not finished within 90 s"
    if process.returncode:
        print((process.stdout + process.stderr)[-6000:])
        return f"FAILED with status {process.returncode}"
    return "clean"


def time_products(dry: bool) -> dict[str, dict[str, float]]:
    """Seconds of a large product, and its error relative to the largest number, in every arithmetic there is."""
    from numrnn.kernels.cuda.arrays import DeviceArrays, download, new_queue, upload
    from numrnn.kernels.cuda.availability import PRODUCTS
    from numrnn.kernels.cuda.blas import has_blas, multiply_by_blas
    from numrnn.kernels.cuda.matrices import multiply

    m, n, k = (8, 6, 5) if dry else (8192, 1024, 512)
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((m, k), dtype=np.float32), rng.standard_normal((k, n), dtype=np.float32)
    exact = a[:64].astype(np.float64) @ b
    queue, arrays = new_queue(), DeviceArrays()
    left, right, out = (
        upload(a.reshape(-1), queue),
        upload(b.reshape(-1), queue),
        upload(np.zeros(m * n, np.float32), queue),
    )
    found = {}
    for arithmetic in PRODUCTS if has_blas() else PRODUCTS[:1]:

        def product(arithmetic: str = arithmetic) -> None:
            if has_blas():
                multiply_by_blas(
                    queue, (left, 0, False), k, (right, 0, False), n, (out, 0), n, (m, n, k), False, arithmetic
                )
            else:
                multiply(queue, arrays, (left, 0, False), (right, 0, False), (out, 0), (m, n, k))

        seconds = event_seconds(product, queue, 7, dry)
        made = download(out, queue).reshape(m, n)[:64]
        error = float(np.abs(made - exact).max() / np.abs(exact).max())
        found[arithmetic] = {"seconds": seconds, "operations_per_second": 2.0 * m * n * k / seconds, "error": error}
    return found


def geometry_of(cell: str, backward: bool, n: int, size: int) -> str:
    from numrnn.kernels.cuda.geometry import choose_geometry
    from numrnn.kernels.cuda.recurrent import this_device

    choice = choose_geometry(cell, backward, size, 4, n, 1, this_device())
    return "step by step" if choice is None else choice[0].label


def time_layers(torch: Any, dry: bool, quick: bool, clock: Clock, floors: Any) -> tuple[list[dict[str, Any]], int]:
    """One entry for each shape, and how many were left out for lack of time."""
    from benchmarks.gpu_floors import fraction_of_floor

    batches, steps, sizes = (BATCHES, STEPS, SIZES) if not quick else ((1, 128), (100,), SIZES)
    if dry:
        batches, steps, sizes = (1, 2), (2,), (2,)
    entries, left_out = [], 0
    # The most telling ones first, should the time not be enough for all.
    shapes = [(n, t, size) for t in sorted(steps, key=lambda t: abs(t - 100)) for size in sizes for n in batches]
    for n, t, size in shapes:
        for cell in CELLS:
            if clock.seconds > LIMIT:
                left_out += 1
                continue
            n_inputs = 2 if dry else size
            repeats = 3 if t == 1000 else 7
            forward, training, queue = our_calls(cell, n, t, size, n_inputs)
            entry: dict[str, Any] = {"cell": cell, "N": n, "T": t, "H": size, "D": n_inputs}
            entry["geometry"] = [geometry_of(cell, backward, n, size) for backward in (False, True)]
            entry["forward"] = event_seconds(forward, queue, repeats, dry)
            entry["training"] = event_seconds(training, queue, repeats, dry)
            entry["forward_us_per_step"] = entry["forward"] / t * 1e6
            if floors is not None:
                n_gates = CELL_GATES[cell]
                entry["floors"] = {
                    kind: fraction_of_floor(floors, entry[kind], n_gates, n, t, size, n_inputs, kind == "training")
                    for kind in ("forward", "training")
                }
            if torch is not None:
                theirs = torch_calls(torch, cell, n, t, size, n_inputs)
                entry["cudnn_forward"] = torch_seconds(torch, theirs[0], repeats)
                entry["cudnn_training"] = torch_seconds(torch, theirs[1], repeats)
                flash = flash_calls(torch, n, t, size) if cell == "lstm" else None
                if flash is not None:
                    try:
                        entry["flashrnn_forward"] = torch_seconds(torch, flash[0], repeats)
                        entry["flashrnn_training"] = torch_seconds(torch, flash[1], repeats)
                    except Exception as error:
                        entry["flashrnn"] = f"{type(error).__name__}: {error}"[:200]
            entries.append(entry)
            ratio = ""
            if torch is not None:
                ratios = [entry[f"cudnn_{kind}"] / entry[kind] for kind in ("forward", "training")]
                ratio = f"  cuDNN takes {ratios[0]:5.2f} x and {ratios[1]:5.2f} x as long"
            if floors is not None:
                shares = [entry["floors"][kind]["fraction"] for kind in ("forward", "training")]
                ratio += f"  {100 * shares[0]:.0f}% and {100 * shares[1]:.0f}% of the floor"
            print(
                f"{cell:9s} N={n:<4d} T={t:<5d} H={size:<5d} forward {entry['forward'] * 1e3:9.3f} ms  training "
                f"{entry['training'] * 1e3:9.3f} ms{ratio}",
                flush=True,
            )
    return entries, left_out


def describe() -> dict[str, Any]:
    from importlib.metadata import version

    from numba import cuda

    from numrnn.kernels.cuda.grids import SIMULATED

    about: dict[str, Any] = {"python": platform.python_version()}
    about |= {name: version(name) for name in ("numpy", "numba", "numba-cuda")}
    if SIMULATED:
        return about | {"device": "simulator"}
    device = cuda.get_current_device()
    name = device.name.decode() if isinstance(device.name, bytes) else str(device.name)
    return about | {"device": name, "compute_capability": list(device.compute_capability)}


def run_tests(dry: bool) -> str:
    """The tests of the device, in a process of their own: one line of pytest's."""
    if dry:
        return "not in a dry run"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "tests" / "cuda")]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = process.stdout.strip().splitlines()
    if process.returncode:
        print(process.stdout[-6000:])
    return f"{'passed' if process.returncode == 0 else 'FAILED'}: {lines[-1] if lines else ''}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write-rule", action="store_true", help="write what device='auto' goes by")
    parser.add_argument("--only-layers", action="store_true", help="check layers against the CPU, and nothing else")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    clock, dry = Clock(), options.dry_run
    from benchmarks.gpu_floors import measure_floors
    from benchmarks.gpu_rule import find_rule, write_rule
    from numrnn.kernels.cuda.availability import why_unavailable

    problem = why_unavailable()
    if problem is not None and not dry:
        print(f"there is nothing to measure: {problem}", file=sys.stderr)
        return 2
    if options.only_layers:
        print(check_layers(dry))
        return 0
    torch = None if dry else find_torch()
    results: dict[str, Any] = {"about": describe()}
    print(results["about"], flush=True)
    if torch is None and not dry:
        print("PyTorch for CUDA is not installed: no comparison with cuDNN")
    results["about"]["torch"] = None if torch is None else torch.__version__

    def save() -> None:
        results["seconds"] = clock.seconds
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(results, indent=1), encoding="utf-8")

    def floors() -> dict[str, float]:
        from numrnn.kernels.cuda.arrays import new_queue

        measured.append(measure_floors(lambda call, queue: event_seconds(call, queue, 5, dry), new_queue(), dry))
        return measured[0].plain()

    def rule() -> dict[str, Any]:
        found = find_rule(dry)
        if options.write_rule and not dry:
            found["file"] = write_rule(found, results["about"])
        return found

    measured: list[Any] = []
    # Whatever fails, what was found before is kept, and the rest is tried.
    failed = []
    for name, work in (
        ("errors", lambda: check_layers(dry)),
        ("tests", lambda: run_tests(dry)),
        ("sanitizer", lambda: sanitize(dry)),
        ("floors", floors),
        ("products", lambda: time_products(dry)),
        ("fit", lambda: time_fit(torch, dry)),
        ("pairs", lambda: time_pairs(torch, dry)),
        ("rule", rule),
        ("layers", lambda: time_layers(torch, dry, options.quick, clock, measured[0] if measured else None)),
    ):
        try:
            found = work()
        except Exception as error:
            print(f"{name} FAILED: {type(error).__name__}: {error}", flush=True)
            results[name] = f"failed: {type(error).__name__}: {error}"
            failed.append(name)
        else:
            results[name] = found
            if name in ("tests", "sanitizer") and str(found).startswith("FAILED"):
                failed.append(name)
            if name != "layers":
                print(name, found, flush=True)
        if not dry:
            save()
    if not dry and "layers" not in failed:
        print(f"{results['layers'][1]} shapes left out for lack of time; written to {options.output}")
    print(f"{clock.seconds:.0f} s", f"failed: {failed}" if failed else "")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
