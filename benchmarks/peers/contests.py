"""The contests: what is compared at each point of the grid. Results are compared before times are."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.timing import OURS, Contestant
from benchmarks.suite.workloads import GRID, RAGGED, Size, flops, make_input, make_layer, ragged_lengths
from numrnn.workers import effective_n_jobs

__all__ = ["MODES", "Contest", "contests", "is_installed", "thread_counts"]


# By how much of the largest number results may differ where both sides round to bfloat16, each in its own places.
_NARROW_ERROR = 0.1


@dataclass(frozen=True)
class Contest:
    """One line of the table.

    Attributes
    ----------
    mode, cell, size : str
    contestants : list of Contestant
        Ours is the first.
    flops : float or None
        Operations of our matrix products, where they say something.
    losses : callable or None
        After the timing: the loss that each contestant reached.
    turn_seconds : float or None
        Length of a turn, where it is not the usual one.
    """

    mode: str
    cell: str
    size: str
    contestants: list[Contestant]
    flops: float | None = None
    losses: Callable[[], dict[str, float]] | None = None
    turn_seconds: float | None = None


def is_installed(*packages: str) -> bool:
    """Whether all of them could be imported."""
    return all(importlib.util.find_spec(package) is not None for package in packages)


def thread_counts() -> tuple[int, ...]:
    """What peers may choose from: one thread, or as many as we use by default."""
    return tuple(sorted({1, effective_n_jobs(None)}))


def _agree(ours: NDArray, theirs: NDArray, what: str, tolerance: float = 1e-4) -> None:
    scale = max(1e-6, float(np.abs(ours).max()))
    error = float(np.abs(ours - theirs).max()) / scale
    if not error < tolerance:
        raise RuntimeError(f"{what}: the results differ by {error:.1e} of the largest number; times would say nothing")


def _inference(cell: str, size: Size) -> Contest:
    layer, x = make_layer(cell, size), make_input(size)
    field_ = [Contestant(OURS, lambda: layer.forward(x))]
    expected = layer.forward(x)[0]
    if is_installed("torch"):
        from benchmarks.peers import pytorch

        call = pytorch.forward(pytorch.torch_layer(layer, cell), x)
        _agree(expected, call(), f"PyTorch {cell} {size}")
        field_ += pytorch.contestants("PyTorch", call, thread_counts())
    if cell in ("lstm", "gru") and is_installed("onnxruntime", "onnx"):
        from benchmarks.peers import onnx_runtime

        for count in thread_counts():
            session = onnx_runtime.forward(layer, cell, x, count)
            _agree(expected, session(), f"ONNX Runtime {cell} {size}")
            field_.append(Contestant(f"ONNX Runtime, {count} thread{'s'[: count > 1]}", session))
    return Contest("inference", cell, str(size), field_, flops(cell, size))


def _train(layer: Any, x: NDArray, d_y: NDArray, lengths: NDArray | None) -> NDArray:
    layer.forward(x, lengths=lengths, training=True)
    return layer.backward(d_y)[0]


def _training_field(
    layer: Any, cell: str, x: NDArray, d_y: NDArray, lengths: NDArray | None, name: str, what: str
) -> list[Contestant]:
    field_ = [Contestant(OURS, lambda: _train(layer, x, d_y, lengths))]
    if is_installed("torch"):
        from benchmarks.peers import pytorch

        call = pytorch.training(pytorch.torch_layer(layer, cell), x, d_y, lengths)
        theirs = call()
        _agree(_train(layer, x, d_y, lengths), theirs.pop("x"), f"{name} {what}, gradient of the input")
        for parameter, gradient in layer.gradients.items():
            _agree(gradient, theirs[parameter], f"{name} {what}, gradient of {parameter}")
        field_ += pytorch.contestants(name, call, thread_counts())
    return field_


def _training(cell: str, size: Size) -> Contest:
    layer, x = make_layer(cell, size), make_input(size)
    d_y = np.random.default_rng(2).standard_normal((*size[:2], size.hidden_size), dtype=np.float32)
    field_ = _training_field(layer, cell, x, d_y, None, "PyTorch", f"{cell} {size}")
    return Contest("training", cell, str(size), field_, flops(cell, size, training=True))


def _narrow(cell: str, size: Size, training: bool) -> Contest:
    """Products in bfloat16, beside peers that compute in it, and beside those that do not."""
    layer, x = make_layer(cell, size, matmul_precision="bfloat16"), make_input(size)
    d_y = np.random.default_rng(2).standard_normal((*size[:2], size.hidden_size), dtype=np.float32)

    def ours() -> NDArray:
        return _train(layer, x, d_y, None) if training else layer.forward(x)[0]

    field_ = [Contestant(OURS, ours)]
    if is_installed("torch"):
        from benchmarks.peers import pytorch

        twin = pytorch.torch_layer(layer, cell)
        for name, precision in pytorch.PRECISIONS.items():
            call = pytorch.training(twin, x, d_y, **precision) if training else pytorch.forward(twin, x, **precision)
            result = call()
            _agree(ours(), result["x"] if isinstance(result, dict) else result, f"{name} {cell} {size}", _NARROW_ERROR)
            field_ += pytorch.contestants(name, call, thread_counts())
    mode = f"bfloat16 {'training' if training else 'inference'}"
    return Contest(mode, cell, str(size), field_, flops(cell, size, training=training))


def _ragged(size: Size, bidirectional: bool, training: bool) -> Contest:
    layer, x, lengths = make_layer("lstm", size, bidirectional=bidirectional), make_input(size), ragged_lengths(size)
    directions = 1 + bidirectional
    what = f"lstm {size} ragged"
    if training:
        shape = (*size[:2], size.hidden_size * directions)
        d_y = np.random.default_rng(2).standard_normal(shape, dtype=np.float32)
        field_ = _training_field(layer, "lstm", x, d_y, lengths, "PackedSequence", what)
    else:
        field_ = [Contestant(OURS, lambda: layer.forward(x, lengths=lengths))]
        if is_installed("torch"):
            from benchmarks.peers import pytorch

            twin = pytorch.torch_layer(layer, "lstm")
            call = pytorch.forward(twin, x, lengths)
            _agree(layer.forward(x, lengths=lengths)[0], call(), f"PackedSequence {what}")
            field_ += pytorch.contestants("PackedSequence", call, thread_counts())
            field_ += pytorch.contestants("PyTorch padded", pytorch.padded_forward(twin, x), thread_counts())
    work = flops("lstm", size, training=training, n_rows=int(lengths.sum()), n_directions=directions)
    label = f"{size}, {directions} direction{'s'[:bidirectional]}"
    return Contest(f"ragged {'training' if training else 'inference'}", "lstm", label, field_, work)


def _step(cell: str) -> Contest:
    size = Size(1, 1, 16, 32)
    layer = make_layer(cell, size)
    x_t = make_input(size)[:, 0].copy()
    state: Any = None

    def ours() -> NDArray:
        nonlocal state
        y, state = layer.step(x_t, state)
        return y

    field_ = [Contestant(OURS, ours)]
    expected = [ours() for _ in range(3)]
    others: list[tuple[str, Callable[[], NDArray], list[Contestant]]] = []
    if is_installed("torch"):
        from benchmarks.peers import pytorch

        call = pytorch.step(pytorch.torch_layer(layer, cell), x_t)
        others.append(("PyTorch", call, pytorch.contestants("PyTorch", call, thread_counts())))
    if cell in ("lstm", "gru") and is_installed("onnxruntime", "onnx"):
        from benchmarks.peers import onnx_runtime

        for count in thread_counts():
            session = onnx_runtime.step(layer, cell, x_t, count)
            name = f"ONNX Runtime, {count} thread{'s'[: count > 1]}"
            others.append((name, session, [Contestant(name, session)]))
    for name, call, theirs in others:
        for number, y in enumerate(expected):
            _agree(y, call(), f"{name} {cell}, step {number}")
        field_ += theirs
    return Contest("step", cell, "(1, 1, 16, 32)", field_)


def contests(
    modes: tuple[str, ...],
    cells: tuple[str, ...],
    *,
    quick: bool = False,
    sizes: Sequence[Size] = GRID,
) -> Iterator[Contest]:
    """The contests of these modes, made when their turn comes.

    Parameters
    ----------
    modes : tuple of str
        Of `MODES`.
    cells : tuple of {"lstm", "gru", "rnn"}
        Ragged batches are compared for the LSTM alone.
    quick : bool, default=False
        One epoch of the fits instead of ten, and no sizes above 256 units.
    sizes : sequence of Size, default=GRID
        Of inference and training.
    """
    grid = [size for size in sizes if not (quick and size.hidden_size > 256)]
    if "inference" in modes:
        yield from (_inference(cell, size) for cell in cells for size in grid)
    if "training" in modes:
        yield from (_training(cell, size) for cell in cells for size in grid)
    if "bfloat16" in modes:
        for training in (False, True):
            yield from (_narrow(cell, size, training) for cell in cells for size in grid)
    if "ragged" in modes and "lstm" in cells:
        for training in (False, True):
            yield from (_ragged(size, both, training) for both in (False, True) for size in RAGGED)
    if "step" in modes:
        yield from (_step(cell) for cell in cells)
    if "fit" in modes:
        from benchmarks.peers.fits import fit_contest

        for cell in cells:
            yield from (fit_contest(cell, name, 1 if quick else 10) for name in ("digits", "pollution"))


MODES = ("inference", "training", "bfloat16", "ragged", "step", "fit")
