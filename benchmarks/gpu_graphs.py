"""Whether a minibatch can be recorded as a CUDA graph, and what that saves: a question to the hardware.

numba-cuda launches on the stream it is given, so that the driver can record its launches like any other's, and it
starts what must run together as such, which a graph can hold. CuPy refuses products of cuBLAS within a recording: with
them the recording of a whole pass fails, which this shows; with numrnn's own products it may be had. The gradient that
the graph computes must be that of the plain launches to the last bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

__all__ = ["Recorded", "probe_graphs"]


def _checked(result: tuple[Any, ...]) -> Any:
    status, *values = result
    if int(status) != 0:
        raise RuntimeError(f"the driver says {getattr(status, 'name', status)}")
    return values[0] if values else None


class Recorded:
    """What a call launches on a stream, as a graph.

    Parameters
    ----------
    driver : module
        `cuda.bindings.driver`.
    handle : int
        Of the stream.
    call : callable
        It only launches, and has been called before, so that nothing is compiled and no memory asked for.

    Raises
    ------
    Exception
        Whatever the call raises within the recording, or a RuntimeError of the driver; the recording is ended then.
    """

    def __init__(self, driver: Any, handle: int, call: Callable[[], Any]) -> None:
        self._driver, self._handle = driver, handle
        # Other threads may go on with whatever they do, and this one may look at the state of the device.
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        _checked(driver.cuStreamBeginCapture(handle, mode))
        try:
            call()
        except BaseException:
            with suppress(Exception):
                driver.cuStreamEndCapture(handle)
            raise
        graph = _checked(driver.cuStreamEndCapture(handle))
        self._executable = _checked(driver.cuGraphInstantiate(graph, 0))

    def launch(self) -> None:
        """Do all of it again."""
        _checked(self._driver.cuGraphLaunch(self._executable, self._handle))


def _minibatch(dry: bool) -> tuple[Callable[[], None], Any, Any]:
    """Loss and gradient of one minibatch of a classifier on the device: the call, its stream, and the gradient."""
    from numrnn.cuda.batches import Source
    from numrnn.cuda.network import DeviceNetwork
    from numrnn.network import Network
    from numrnn.packing import Sequences
    from numrnn.training.data import TrainingData

    n, t, n_inputs, size = (3, 2, 2, 2) if dry else (128, 50, 8, 64)
    rng = np.random.default_rng(7)
    network = Network(cell="gru", input_size=n_inputs, hidden_sizes=(size,), n_outputs=2)
    network.initialize(np.random.RandomState(0))
    x = rng.standard_normal((n, t, n_inputs), dtype=np.float32)
    data = TrainingData.of(network, Sequences.from_list(list(x)), rng.integers(0, 2, n), None)
    device = DeviceNetwork(network)
    source = Source(data, device.per_step, None, float("inf"), device.arrays, device.queue)
    batch = source.reorder(None).batch(0, n)
    return lambda: device.accumulate(batch, 1.0 / n), device.queue, device.gradient


def _probe(dry: bool, driver: Any) -> dict[str, Any]:
    from benchmarks.gpu_sections import event_seconds
    from numrnn.kernels.cuda.arrays import download

    call, queue, gradient = _minibatch(dry)
    call()
    call()
    expected = download(gradient, queue)
    found: dict[str, Any] = {"plain_seconds": event_seconds(call, queue, 9, dry), "plain_host": _host(call, queue)}
    if driver is None:
        return found | {"verdict": "not in a dry run"}
    try:
        recorded = Recorded(driver, int(queue.handle), call)
        recorded.launch()
        same = np.array_equal(download(gradient, queue), expected)
    except Exception as error:
        return found | {"verdict": f"failed: {type(error).__name__}: {error}"[:500]}
    found |= {
        "graph_seconds": event_seconds(recorded.launch, queue, 9, dry),
        "graph_host": _host(recorded.launch, queue),
    }
    return found | {"verdict": "recorded" if same else "recorded, but the gradient is another one"}


def _host(call: Callable[[], Any], queue: Any, repeats: int = 20) -> float:
    """Seconds for which the host is busy with one call."""
    queue.synchronize()
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    seconds = time.perf_counter() - begin
    queue.synchronize()
    return seconds / repeats


def probe_graphs(dry: bool, driver: Any = None) -> dict[str, dict[str, Any]]:
    """Record one minibatch with the products of cuBLAS, where it is there, and with numrnn's own; time both ways."""
    from numrnn.kernels.cuda import matrices

    if driver is None and not dry:
        from cuda.bindings import driver
    has_blas, found = matrices.has_blas, {}
    try:
        # The own products first: a recording that breaks off may leave the stream unfit for another one.
        matrices.has_blas = lambda: False
        found["own products"] = _probe(dry, driver)
        matrices.has_blas = has_blas
        if has_blas():
            found["cuBLAS"] = _probe(dry, driver)
    finally:
        matrices.has_blas = has_blas
    return found
