"""The sections of benchmarks/gpu.py: what each of them checks or times, and returns.

Layers are one layer of LSTM, GRU and tanh RNN, forward and in training (forward and backward with all gradients), by
events on the device, warm, as medians, against `torch.nn` on the same card in float32 (cuDNN; without TF32, as here).
FlashRNN computes the recurrence of an LSTM alone, without the product of the input. What the device does at best is
measured in the same run (benchmarks/gpu_floors.py), and every time of a layer is given as a share of it.
"""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

CELLS = {"lstm": ("LSTM", {}), "gru": ("GRU", {}), "rnn_tanh": ("RNN", {"nonlinearity": "tanh"})}
CELL_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1}
BATCHES, STEPS, SIZES = (1, 32, 128, 512), (28, 100, 1000), (32, 64, 128, 256, 512, 1024)


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


def _fit_seconds(model: Any, x: Any, y: Any) -> dict[str, float]:
    """Seconds of a fit on either device; on the CPU last, which is where the model stays."""
    seconds = {}
    # The first one on each compiles.
    for device in ("cuda", "cuda", "cpu", "cpu"):
        model.set_params(device=device)
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(x, y)
        seconds[device] = time.perf_counter() - begin
    return seconds


def time_fit(torch: Any, dry: bool) -> dict[str, Any]:
    """Seconds of the epochs of a classifier, on the device, the CPU, and in a loop of PyTorch."""
    import numrnn

    n, t, n_inputs, size, batch, epochs = (6, 3, 2, 2, 3, 1) if dry else (8192, 50, 8, 64, 128, 3)
    rng = np.random.default_rng(4)
    x = rng.standard_normal((n, t, n_inputs), dtype=np.float32)
    y = (x[:, :, 0].sum(axis=1) > 0).astype(np.int64)
    results: dict[str, Any] = {"shape": [n, t, n_inputs], "hidden": size, "batch": batch, "epochs": epochs}
    model = numrnn.RNNClassifier((size,), batch_size=batch, max_iter=epochs, random_state=0)
    results |= _fit_seconds(model, x, y)
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
    model = numrnn.RNNSeq2Seq((size,), **options)
    results |= _fit_seconds(model, x, y)
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


def _shapes(dry: bool, quick: bool) -> list[tuple[int, int, int]]:
    """(n, t, size), the most telling ones first, should the time not be enough for all."""
    if dry:
        return [(n, 2, 2) for n in (1, 2)]
    steps = (100,) if quick else sorted(STEPS, key=lambda t: abs(t - 100))
    return [(n, t, size) for t in steps for n in ((128, 1) if quick else (128, 1, 32, 512)) for size in SIZES]


def time_layers(
    torch: Any, dry: bool, quick: bool, floors: Any, entries: list[dict[str, Any]], keep: Callable[[], None]
) -> list[dict[str, Any]]:
    """An entry for each cell and shape that has none yet, added to `entries`; `keep` writes these down.

    What fails leaves an entry that says why, and ends the section: after an error of the device the process cannot use
    it any more. An entry that was begun and never ended is the shape at which an earlier process died.
    """
    for entry in entries:
        if entry.pop("unfinished", False):
            entry["failed"] = "the process did not come back"
    known = {(entry["cell"], entry["N"], entry["T"], entry["H"]) for entry in entries}
    for n, t, size in _shapes(dry, quick):
        for cell in CELLS:
            if (cell, n, t, size) in known:
                continue
            entry = {"cell": cell, "N": n, "T": t, "H": size, "D": 2 if dry else size, "unfinished": True}
            entries.append(entry)
            keep()
            try:
                _time_layer(entry, torch, dry, floors)
            except Exception as error:
                entry["failed"] = f"{type(error).__name__}: {error}"[:500]
                raise
            finally:
                del entry["unfinished"]
                keep()
    return entries


def _time_layer(entry: dict[str, Any], torch: Any, dry: bool, floors: Any) -> None:
    from benchmarks.gpu_floors import fraction_of_floor

    cell, n, t, size, n_inputs = (entry[key] for key in ("cell", "N", "T", "H", "D"))
    repeats = 3 if t == 1000 else 7
    begin = time.perf_counter()
    forward, training, queue = our_calls(cell, n, t, size, n_inputs)
    entry["geometry"] = [geometry_of(cell, backward, n, size) for backward in (False, True)]
    training()
    queue.synchronize()
    # With the compilation of what has not been compiled yet.
    entry["first_call"] = time.perf_counter() - begin
    entry["forward"] = event_seconds(forward, queue, repeats, dry)
    entry["training"] = event_seconds(training, queue, repeats, dry)
    entry["forward_us_per_step"] = entry["forward"] / t * 1e6
    told = ""
    if torch is not None:
        theirs = torch_calls(torch, cell, n, t, size, n_inputs)
        entry["cudnn_forward"] = torch_seconds(torch, theirs[0], repeats)
        entry["cudnn_training"] = torch_seconds(torch, theirs[1], repeats)
        ratios = [entry[f"cudnn_{kind}"] / entry[kind] for kind in ("forward", "training")]
        told = f"  cuDNN takes {ratios[0]:5.2f} x and {ratios[1]:5.2f} x as long"
    if floors is not None:
        entry["floors"] = {
            kind: fraction_of_floor(floors, entry[kind], CELL_GATES[cell], n, t, size, n_inputs, kind == "training")
            for kind in ("forward", "training")
        }
        shares = [100 * entry["floors"][kind]["fraction"] for kind in ("forward", "training")]
        told += f"  {shares[0]:.0f}% and {shares[1]:.0f}% of the floor"
    print(
        f"{cell:9s} N={n:<4d} T={t:<5d} H={size:<5d} forward {entry['forward'] * 1e3:9.3f} ms  training "
        f"{entry['training'] * 1e3:9.3f} ms{told}",
        flush=True,
    )
    flash = flash_calls(torch, n, t, size) if torch is not None and cell == "lstm" else None
    if flash is not None:
        try:
            entry["flashrnn_forward"] = torch_seconds(torch, flash[0], repeats)
            entry["flashrnn_training"] = torch_seconds(torch, flash[1], repeats)
        except Exception as error:
            entry["flashrnn"] = f"{type(error).__name__}: {error}"[:200]


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
