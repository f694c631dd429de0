"""Arrays on the device, and what kernels need to know of the rows of a batch."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from numrnn.kernels.cuda.grids import THREADS, block_grid, block_sum, kernel, matrix_grid, vector_grid

__all__ = [
    "DeviceArrays",
    "Stager",
    "add_columns",
    "add_vector",
    "clear",
    "download",
    "free_bytes",
    "gather_rows",
    "new_queue",
    "scatter_rows",
    "spread",
    "step_rows",
    "upload",
    "window_rows",
]

# So many views of scratch arrays are remembered.
_VIEWS = 256


def new_queue():
    """A queue in which copies and kernels follow one another, without waiting for the host."""
    return cuda.stream()


def upload(array, queue):
    """A copy of an array on the device."""
    return cuda.to_device(np.ascontiguousarray(array), stream=queue)


def download(array, queue, host=None):
    """A copy of an array of the device, in `host` if it is given; waits for all that the queue has to do before."""
    copy = array.copy_to_host(host, stream=queue)
    queue.synchronize()
    return copy


def free_bytes() -> float:
    """Bytes of the device that nobody uses."""
    return cuda.current_context().get_memory_info()[0]


class Stager:
    """Copies arrays to the device from memory that the system does not move, so that the copies need no processor.

    Two buffers take turns: while one is on its way, the next array is written to the other.

    Parameters
    ----------
    arrays : DeviceArrays
        Receives them.
    """

    def __init__(self, arrays: DeviceArrays) -> None:
        self._arrays = arrays
        self._buffers: list[Any] = [None, None]
        self._events = [cuda.event(), cuda.event()]
        self._turn = 0

    def put(self, purpose: Any, matrix: NDArray, rows: NDArray, queue: Any) -> Any:
        """Rows of a matrix of the host, as a one-dimensional array on the device; it lasts until the next but one."""
        self._turn = turn = 1 - self._turn
        n_columns = matrix.shape[1]
        size = len(rows) * n_columns
        if self._buffers[turn] is not None:
            self._events[turn].synchronize()
        if self._buffers[turn] is None or self._buffers[turn].size < size:
            self._buffers[turn] = cuda.pinned_array(max(size, 1), dtype=matrix.dtype)
        buffer = self._buffers[turn][:size]
        np.take(matrix, rows, axis=0, out=buffer.reshape(len(rows), n_columns), mode="clip")
        flat = self._arrays.at_least((purpose, turn), size, matrix.dtype)
        if size:
            flat[:size].copy_to_device(buffer, stream=queue)
        self._events[turn].record(queue)
        return flat


class DeviceArrays:
    """Scratch arrays of the device by purpose, which are used again.

    To give memory back to the device, or to ask for some, may have to wait until all kernels are done; in the steady
    state of training nothing here does.

    Attributes
    ----------
    n_bytes : int
        Of all of them together.
    """

    def __init__(self) -> None:
        self._arrays: dict[Any, Any] = {}
        self._views: dict[Any, Any] = {}

    @property
    def n_bytes(self) -> int:
        return sum(array.size * array.dtype.itemsize for array in self._arrays.values())

    def at_least(self, purpose: Any, size: int, dtype: Any) -> Any:
        """A one-dimensional array of at least so many elements, with whatever it holds."""
        array = self._arrays.get(purpose)
        if array is None or array.size < size or array.dtype != np.dtype(dtype):
            # What is too small is given back first.
            self._arrays.pop(purpose, None)
            self._views = {key: view for key, view in self._views.items() if key[0] != purpose}
            del array
            array = self._arrays[purpose] = cuda.device_array(max(size, 1), dtype)
        return array

    def zeros(self, purpose: Any, size: int, dtype: Any, queue: Any) -> Any:
        """An array of that size that was zero when it was made."""
        array = self._arrays.get(purpose)
        if array is None or array.size != size or array.dtype != np.dtype(dtype):
            array = self._arrays[purpose] = upload(np.zeros(size, dtype=dtype), queue)
        return array

    def matrix(self, purpose: Any, n_rows: int, n_columns: int, dtype: Any) -> Any:
        """At least so many elements as a matrix."""
        flat = self.at_least(purpose, n_rows * n_columns, dtype)
        return self._view(flat, purpose, (n_rows, n_columns))

    def put(self, purpose: Any, array: NDArray, queue: Any) -> Any:
        """Copy a small array to the device; its memory may be used for something else at once."""
        flat = self.at_least(purpose, array.size, array.dtype)
        if array.size:
            self._view(flat, purpose, array.shape).copy_to_device(np.ascontiguousarray(array), stream=queue)
        return flat

    def _view(self, flat: Any, purpose: Any, shape: tuple[int, ...]) -> Any:
        # Views take a while to make.
        view = self._views.get((purpose, shape))
        if view is None:
            if len(self._views) >= _VIEWS:
                self._views.clear()
            view = self._views[purpose, shape] = flat[: int(np.prod(shape))].reshape(shape)
        return view


@kernel
def _clear(vector, begin, end):
    for i in range(begin + cuda.grid(1), end, cuda.gridsize(1)):
        vector[i] = vector.dtype.type(0)


def clear(queue, vector, begin, end):
    """Zero elements `begin` to `end` of a vector."""
    if end > begin:
        _clear[*vector_grid(end - begin), queue](vector, begin, end)


@kernel
def _add_vector(source, target, size):
    for i in range(cuda.grid(1), size, cuda.gridsize(1)):
        target[i] += source[i]


def add_vector(queue, source, target, size):
    """target[:size] += source[:size]."""
    if size:
        _add_vector[*vector_grid(size), queue](source, target, size)


@kernel
def _step_rows(offsets, n_timesteps, order, starts, first, stride, rows):
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for t in range(begin, n_timesteps, cuda.gridDim.x * cuda.blockDim.y):
        row = offsets[t]
        for n in range(cuda.threadIdx.x, offsets[t + 1] - row, cuda.blockDim.x):
            rows[row + n] = starts[first + order[n]] + t * stride


def step_rows(queue, offsets, n_timesteps, order, starts, first, stride, rows):
    """Where each packed row of a batch lies, if sequence i begins at ``starts[first + i]`` and a step is `stride` rows.

    offsets, order: int64, those of a packing. starts: int64. rows: int64 (n_rows,), written.
    """
    if n_timesteps:
        _step_rows[*matrix_grid(n_timesteps), queue](offsets, n_timesteps, order, starts, first, stride, rows)


@kernel
def _window_rows(offsets, n_timesteps, order, whole_offsets, positions, first, rows):
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for t in range(begin, n_timesteps, cuda.gridDim.x * cuda.blockDim.y):
        row = offsets[t]
        for n in range(cuda.threadIdx.x, offsets[t + 1] - row, cuda.blockDim.x):
            rows[row + n] = whole_offsets[first + t] + positions[order[n]]


def window_rows(queue, offsets, n_timesteps, order, whole_offsets, positions, first, rows):
    """Where each packed row of a window of time, which begins at time step `first`, lies in the whole packed batch.

    positions: int64 (n_sequences,), the position of every sequence in the packing of the batch.
    """
    if n_timesteps:
        _window_rows[*matrix_grid(n_timesteps), queue](
            offsets, n_timesteps, order, whole_offsets, positions, first, rows
        )


@kernel
def _move_rows(source, target, n_rows, n_columns, rows, scattered):
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for row in range(begin, n_rows, cuda.gridDim.x * cuda.blockDim.y):
        there = rows[row] * n_columns
        here = row * n_columns
        for column in range(cuda.threadIdx.x, n_columns, cuda.blockDim.x):
            if scattered:
                target[there + column] = source[here + column]
            else:
                target[here + column] = source[there + column]


def scatter_rows(queue, source, target, n_rows, n_columns, rows):
    """target[rows[i]] = source[i]; no row is written twice."""
    if n_rows:
        _move_rows[*matrix_grid(n_rows), queue](source, target, n_rows, n_columns, rows, True)


def gather_rows(queue, source, target, n_rows, n_columns, rows):
    """target[i] = source[rows[i]]."""
    if n_rows:
        _move_rows[*matrix_grid(n_rows), queue](source, target, n_rows, n_columns, rows, False)


# From so many columns on, a thread for each of them reads whole rows; below, a block works on every column.
_MANY_COLUMNS = 64


@kernel
def _add_many_columns(matrix, n_rows, n_columns, target, first):
    for column in range(cuda.grid(1), n_columns, cuda.gridsize(1)):
        total = matrix.dtype.type(0)
        for row in range(n_rows):
            total += matrix[row * n_columns + column]
        target[first + column] += total


@kernel
def _add_few_columns(matrix, n_rows, n_columns, target, first):
    scratch = cuda.shared.array(THREADS, matrix.dtype)
    for column in range(cuda.blockIdx.x, n_columns, cuda.gridDim.x):
        total = matrix.dtype.type(0)
        for row in range(cuda.threadIdx.x, n_rows, THREADS):
            total += matrix[row * n_columns + column]
        total = block_sum(total, scratch)
        if cuda.threadIdx.x == 0:
            target[first + column] += total


def add_columns(queue, matrix, n_rows, n_columns, target, first):
    """Add the sums of the columns of a matrix to `target`, from element `first` on."""
    if not n_rows:
        return
    if n_columns < _MANY_COLUMNS:
        _add_few_columns[*block_grid(n_columns), queue](matrix, n_rows, n_columns, target, first)
    else:
        _add_many_columns[*vector_grid(n_columns), queue](matrix, n_rows, n_columns, target, first)


@kernel
def _spread(vector, first, n_columns, matrix, n_rows):
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for row in range(begin, n_rows, cuda.gridDim.x * cuda.blockDim.y):
        for column in range(cuda.threadIdx.x, n_columns, cuda.blockDim.x):
            matrix[row * n_columns + column] = vector[first + column]


def spread(queue, vector, first, n_columns, matrix, n_rows):
    """Write elements `first` to `first + n_columns` of a vector to every row of a matrix."""
    if n_rows:
        _spread[*matrix_grid(n_rows), queue](vector, first, n_columns, matrix, n_rows)


def examples():
    """Kernels with the types of their arguments: what a check without a device compiles."""
    for f in ("f4", "f8"):
        v = f"{f}[::1]"
        yield f"clear {f}", _clear, (v, "i8", "i8")
        yield f"add vector {f}", _add_vector, (v, v, "i8")
        yield f"move rows {f}", _move_rows, (v, v, "i8", "i8", "i8[::1]", "b1")
        yield f"spread {f}", _spread, (v, "i8", "i8", v, "i8")
    i = "i8[::1]"
    yield "rows of steps", _step_rows, (i, "i8", i, i, "i8", "i8", i)
    yield "rows of a window", _window_rows, (i, "i8", i, i, i, "i8", i)
