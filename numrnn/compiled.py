"""Trained networks inside other compiled code, and one time step at a time.

`compile_model` lays a network out as arrays that Numba takes, beside compiled functions that take them. `Stream` walks
such a network from Python.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numrnn.bfloat16 import check_weights, in_bfloat16, with_rounded_matrices
from numrnn.buffers import aligned_zeros, laid_out, read_only
from numrnn.checks import finite_array
from numrnn.direction import Direction
from numrnn.kernels import stream_layout
from numrnn.kernels.cpu import callbacks, streaming
from numrnn.kernels.cpu.matmul import multiply_kernel, pack_columns
from numrnn.kernels.jit import VECTOR_BITS
from numrnn.kernels.simd import lane_count
from numrnn.parameters import Parameters

__all__ = ["CompiledNetwork", "Stream", "affine_map", "compile_estimator", "compile_layer", "compile_network"]

_BIDIRECTIONAL = "a bidirectional {} cannot be compiled for steps: its outputs depend on time steps yet to come"
# Elements of a table of pre-activations, at most: 16 MiB in float32.
_MOST_PROJECTED = 2**22
# Affine maps are recognised to this relative accuracy.
_AFFINE_TOLERANCE = 1e-9


class CompiledNetwork:
    """A trained network for compiled code. Made by the `compile` method of layers and estimators.

    The parameters are a named tuple of arrays, the functions are compiled by Numba: both can be used in your own
    ``@njit`` functions, in ``prange`` loops too. Nothing in them allocates memory, and nothing is checked: arrays of
    wrong shapes are read and written out of bounds, as everywhere in such code. (An id that has no row in its table
    counts as unknown, which is row 0.)

    It is a copy: training that goes on does not change it.

    Attributes
    ----------
    parameters : StreamParameters
        A named tuple of contiguous arrays.
    step : function (parameters, state, x, out)
        Take the features of the next time step, `x` (n_features,), and write the output to `out` (n_outputs,).
    predict : function (parameters, x, out)
        Walk a whole sequence, `x` (n_timesteps, n_features), and write the last output to `out` (n_outputs,), or all
        outputs to `out` (n_timesteps, n_outputs). Its state is on the stack.
    cuda_step : device function (parameters, state, x, out)
        The step for ``@cuda.jit`` kernels, see there.
    n_features, n_outputs : int
        An estimator's outputs are its predictions in the units of y, or the probabilities of the classes in their
        order; a layer's are the hidden states of the top layer.
    dtype : dtype
        Of states, sums, and weights other than bfloat16. x and out may be of any floating-point type.
    weights : {"float32", "float64", "bfloat16"}
        The type of the weight matrices.

    Examples
    --------
    A million steps of a network that reads its own output, without leaving compiled code:

    >>> import numpy as np, numrnn
    >>> from numba import njit
    >>> compiled = numrnn.GRU(3, 3, random_state=0).compile()
    >>> step, parameters = compiled.step, compiled.parameters
    >>> @njit
    ... def run(parameters, state, x, n_steps):
    ...     for _ in range(n_steps):
    ...         step(parameters, state, x, x)
    >>> state, x = compiled.initial_state(), np.ones(3, dtype=np.float32)
    >>> run(parameters, state, x, 1_000_000)
    >>> bool(np.isfinite(x).all())
    True
    """

    def __init__(
        self, cell: str, parameters: stream_layout.StreamParameters, n_features: int, n_outputs: int, dtype: np.dtype
    ) -> None:
        self.cell = cell
        self.parameters = parameters
        self.step = streaming.STREAMING[cell].step
        self.predict = streaming.STREAMING[cell].predict
        self.n_features = n_features
        self.n_outputs = n_outputs
        self.dtype = np.dtype(dtype)
        self.weights = "bfloat16" if parameters.weights.dtype == np.uint16 else self.dtype.name
        self._description: NDArray[np.int64] | None = None

    def __reduce__(self) -> Any:
        arguments = (self.cell, self.parameters, self.n_features, self.n_outputs, self.dtype)
        return _unpickled, (VECTOR_BITS, *arguments)

    def __repr__(self) -> str:
        sizes = f"n_features={self.n_features}, n_outputs={self.n_outputs}"
        return f"CompiledNetwork(cell={self.cell!r}, {sizes}, weights={self.weights!r})"

    @property
    def state_size(self) -> int:
        """Elements of the state of one stream, scratch included."""
        return int(self.parameters.layout[stream_layout.STATE_SIZE])

    def initial_state(self, n_streams: int | None = None) -> NDArray:
        """The state at the beginning of a sequence: zeros.

        Parameters
        ----------
        n_streams : int, default=None
            For so many independent streams, one row each.

        Returns
        -------
        state : ndarray of shape (state_size,) or (n_streams, state_size)
            Copy it to branch a stream, write it to a file to go on later, fill it with zeros to begin again.
        """
        if n_streams is None:
            return aligned_zeros(self.state_size, self.dtype)
        if isinstance(n_streams, bool) or not isinstance(n_streams, (int, np.integer)) or n_streams < 1:
            raise ValueError(f"n_streams must be a positive integer or None, got {n_streams!r}")
        return aligned_zeros(n_streams * self.state_size, self.dtype).reshape(n_streams, self.state_size)

    # ------------------------------------------------------------------------------------------------- CUDA kernels
    @property
    def cuda_step(self) -> Any:
        """The step as a device function (parameters, state, x, out), called from your own ``@cuda.jit`` kernels.

        One thread takes the step of one stream. The arguments are those of `step`: parameters as `cuda_parameters`
        returns them, a state of `state_size` elements that is zero at the beginning, features and outputs. It is meant
        for small networks in very many threads: each reads all weights at every step, which the caches must hold.
        States that are the columns of a matrix (``states[:, stream]``) are read and written by neighbouring threads
        side by side. No number is computed in float64 where the network, x and out are float32.

        Raises
        ------
        ImportError
            If numba-cuda is not installed. No device is needed before a kernel is launched.
        ValueError
            If the weights are bfloat16.

        Examples
        --------
        See the page :doc:`/gpu`.
        """
        self._refuse_bfloat16()
        from numrnn.kernels.cuda.availability import require_package

        require_package()
        from numrnn.kernels.cuda.streaming import device_step

        return device_step(self.cell, self.dtype)

    def cuda_parameters(self) -> stream_layout.StreamParameters:
        """The parameters on the CUDA device, for `cuda_step`.

        Returns
        -------
        parameters : StreamParameters
            A named tuple of Numba's device arrays, to be an argument of your kernels.

        Raises
        ------
        RuntimeError
            If there is no CUDA device, or no package to use it.
        ValueError
            If the weights are bfloat16.
        """
        self._refuse_bfloat16()
        from numrnn.kernels.cuda.availability import refusal, why_unavailable

        problem = why_unavailable()
        if problem is not None:
            raise refusal(problem)
        from numrnn.kernels.cuda.streaming import to_device

        return to_device(self.parameters)

    def _refuse_bfloat16(self) -> None:
        if self.weights == "bfloat16":
            raise ValueError("weights in bfloat16 are for steps on the CPU: compile without them for CUDA kernels")

    # ------------------------------------------------------------------------------------------------ functions of C
    @property
    def c_network(self) -> int:
        """The address by which functions of C know this network; valid as long as this object lives."""
        if self._description is None:
            self._description = callbacks.describe(self.parameters, self.state_size, self.n_features)
        return int(self._description.ctypes.data)

    def c_step(self) -> Any:
        """The step as a function of C, for ctypes, cffi or any foreign program.

        Returns
        -------
        function : ctypes function
            ``void step(const int64_t *network, T *state, const T *x, T *out)``, where `network` is `c_network`, `state`
            has `state_size` elements that are zero at the beginning, and T is float or double as `dtype` says. Its
            address is ``ctypes.cast(function, ctypes.c_void_p).value``.

        Examples
        --------
        >>> import ctypes, numpy as np, numrnn
        >>> layer = numrnn.LSTM(2, 3, random_state=0)
        >>> compiled = layer.compile()
        >>> step = compiled.c_step()
        >>> x, out = np.array([1, -1], dtype=np.float32), np.empty(3, dtype=np.float32)
        >>> state = compiled.initial_state()
        >>> def pointer(array):
        ...     return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        >>> network = ctypes.cast(compiled.c_network, ctypes.POINTER(ctypes.c_int64))
        >>> step(network, pointer(state), pointer(x), pointer(out))
        >>> bool((out == layer.step(x[None])[0][0]).all())
        True
        """
        return callbacks.callback("step", self.cell, self.dtype, self.parameters.weights.dtype).ctypes

    def low_level_callable(self, kind: str) -> Any:
        """The network as a `scipy.LowLevelCallable`, called by SciPy without Python in between.

        Parameters
        ----------
        kind : {"integrand", "window", "line"}
            "integrand": the first output for one time step, for `scipy.integrate.quad` (and `nquad`), where the
            variables are the features. "window": the first output after a window of univariate time steps, for
            `scipy.ndimage.generic_filter`. "line": the first outputs along a whole line, for
            `scipy.ndimage.generic_filter1d`; with ``filter_size=k, origin=(k - 1) // 2`` and odd k the network begins
            k - 1 steps before the line and sees no later step.

        Returns
        -------
        callable : scipy.LowLevelCallable
            Valid as long as this object lives.

        Examples
        --------
        >>> import numpy as np, numrnn
        >>> from scipy import ndimage
        >>> compiled = numrnn.LSTM(1, 4, random_state=0).compile()
        >>> signal = np.sin(np.arange(100.0))
        >>> window = compiled.low_level_callable("window")
        >>> ndimage.generic_filter(signal, window, size=5).shape
        (100,)
        """
        from scipy import LowLevelCallable

        kinds = [name for name in callbacks.CALLBACKS if name != "step"]
        if kind not in kinds:
            raise ValueError(f"kind must be one of {kinds}, got {kind!r}")
        if kind != "integrand" and self.n_features != 1:
            raise ValueError(f"the kind {kind!r} is for networks of 1 feature, this one has {self.n_features}")
        function = callbacks.callback(kind, self.cell, self.dtype, self.parameters.weights.dtype)
        return LowLevelCallable(function.ctypes, ctypes.c_void_p(self.c_network))


def _unpickled(vector_bits: int, *arguments: Any) -> CompiledNetwork:
    return laid_out(vector_bits, VECTOR_BITS, CompiledNetwork, *arguments)


class Stream:
    """A network that is given its sequence one time step at a time. Made by the `stream` methods.

    What `update` returns after some time steps is what the model predicts for the sequence of these steps.

    Attributes
    ----------
    state : ndarray of shape (state_size,), or (n_streams, state_size)
        All that is known of the steps so far. Reading gives a copy; setting it goes on from there, in this stream or in
        another of the same model.
    n_streams : int or None
    """

    def __init__(self, compiled: CompiledNetwork, n_streams: int | None = None, result: Any = None) -> None:
        self.compiled = compiled
        self.n_streams = n_streams
        self._states = compiled.initial_state(1 if n_streams is None else n_streams)
        self._step_many = streaming.STREAMING[compiled.cell].step_many
        # From the outputs of the network to what the user wants to know, if that is something else.
        self._result = result

    def update(self, x_t: ArrayLike) -> Any:
        """Take the next time step.

        Parameters
        ----------
        x_t : array-like of shape (n_features,), or (n_streams, n_features)

        Returns
        -------
        y_t : ndarray of shape (n_outputs,), or (n_streams, n_outputs); of an estimator what `predict` returns
            For the steps so far.

        Raises
        ------
        ValueError
            If the shape is another one, or a number is not finite; the state is then as it was.
        """
        x = finite_array(x_t, "x_t", self.compiled.dtype)
        expected = (self.compiled.n_features,) if self.n_streams is None else (self.n_streams, self.compiled.n_features)
        if x.shape != expected:
            raise ValueError(f"x_t must have the shape {expected}, got {x.shape}")
        n_outputs = self.compiled.n_outputs
        out = np.empty((len(self._states), n_outputs), dtype=np.float64 if self._result else self.compiled.dtype)
        self._step_many(self.compiled.parameters, self._states, x.reshape(-1, self.compiled.n_features), out)
        made = out if self._result is None else self._result(out)
        return made[0] if self.n_streams is None else made

    def reset(self) -> None:
        """Begin a new sequence."""
        self._states[...] = 0

    @property
    def state(self) -> NDArray:
        kept = self._states[:, : int(self.compiled.parameters.layout[stream_layout.REMEMBERED])].copy()
        return kept[0] if self.n_streams is None else kept

    @state.setter
    def state(self, state: ArrayLike) -> None:
        remembered = int(self.compiled.parameters.layout[stream_layout.REMEMBERED])
        given = finite_array(state, "state", self.compiled.dtype)
        expected = (remembered,) if self.n_streams is None else (self.n_streams, remembered)
        if given.shape != expected:
            raise ValueError(f"state must have the shape {expected}, as this model's streams have, got {given.shape}")
        self._states[:, :remembered] = given


def compile_network(
    cell: str,
    input_size: int,
    hidden_sizes: tuple[int, ...],
    parameters: Parameters,
    *,
    residual: bool = False,
    pooling: str = "last",
    head: str = "none",
    embeddings: tuple[tuple[int, int, int], ...] = (),
    units: ArrayLike | None = None,
    input_map: tuple[NDArray, NDArray] | None = None,
    weights: str | None = None,
) -> CompiledNetwork:
    """Lay out a network for `streaming`.

    Parameters
    ----------
    cell : str
    input_size : int
        Of the first recurrent layer.
    hidden_sizes : tuple of int
        The layers are of one direction.
    parameters : Parameters
        Of the layers, of the embeddings, and with a head `weight_out` and `bias_out`.
    residual : bool, default=False
    pooling : {"last", "mean", "max"}, default="last"
    head : {"none", "linear", "softmax"}, default="none"
    embeddings : tuple of (column, n_rows, size), default=()
        The features that are ids, in the order of their columns; their tables are the parameters `embedding_0`, ...
    units : array-like of shape (2, n_outputs), default=None
        Factor and summand for each output of a linear head.
    input_map : pair of arrays (n_features, input_size) and (input_size,), default=None
        The network is to see ``x @ matrix + offset``: what a pipeline does before it, folded into the input weights.
    weights : {None, "bfloat16"}, default=None
        The type of the matrices; None is that of the parameters.

    Raises
    ------
    ValueError
        If `weights` is another one, or the parameters are not float32 where it is bfloat16.
    """
    narrow = check_weights(weights, parameters.dtype)
    dtype, lanes = parameters.dtype, lane_count(parameters.dtype)
    arrays: Mapping[str, NDArray] = parameters
    if input_map is not None:
        arrays, input_size = _with_input_map(parameters, *input_map), len(input_map[0])
    if narrow:
        arrays = with_rounded_matrices(arrays)
    identity = np.arange(256, dtype=np.int64)

    def pad(size: int) -> int:
        return -(-size // lanes) * lanes

    sizes = pairwise((input_size, *hidden_sizes))
    directions = [Direction(cell, layer, False, *pair, dtype) for layer, pair in enumerate(sizes)]
    output_size, n_states = hidden_sizes[-1], directions[0].cell.n_states
    n_outputs = output_size if head == "none" else len(arrays["bias_out"])
    n_features = input_size - sum(size for _, _, size in embeddings) + len(embeddings)
    ids = stream_layout.HEADER + stream_layout.PER_LAYER * len(directions)
    layout = np.zeros(ids + stream_layout.PER_ID * len(embeddings), dtype=np.int64)
    layers = layout[stream_layout.HEADER : ids].reshape(-1, stream_layout.PER_LAYER)
    tables = layout[ids:].reshape(-1, stream_layout.PER_ID)
    n_weights = remembered = 0
    for row, direction in zip(layers, directions, strict=True):
        row[:] = direction.input_size, direction.hidden_size, direction.padded, n_weights, remembered
        n_weights += pad(direction.packed_size(direction.padded))
        remembered += n_states * direction.padded
    for row, (column, n_rows, size) in zip(tables, embeddings, strict=True):
        row[:] = column, n_rows, size, n_weights
        n_weights += pad(n_rows * size)
    pooled = remembered
    if pooling != "last":
        remembered += pad((3 if pooling == "mean" else 1) * output_size + 1)
    readout = n_weights
    if head != "none":
        n_weights += pad(n_outputs) * (output_size + 1)
    widest = max(direction.padded for direction in directions)
    pre_activations = remembered + pad(input_size)
    sums = pre_activations + max(direction.slots for direction in directions)
    outputs = sums + 2 * widest
    for place, number in {
        stream_layout.N_FEATURES: n_features,
        stream_layout.N_IDS: len(embeddings),
        stream_layout.N_LAYERS: len(directions),
        stream_layout.N_OUTPUTS: n_outputs,
        stream_layout.POOLING: stream_layout.POOLINGS[pooling],
        stream_layout.HEAD: stream_layout.HEADS[head],
        stream_layout.RESIDUAL: residual,
        stream_layout.READOUT: readout,
        stream_layout.INPUT: remembered,
        stream_layout.PRE_ACTIVATIONS: pre_activations,
        stream_layout.SUMS: sums,
        stream_layout.OUTPUTS: outputs,
        stream_layout.POOLED: pooled,
        stream_layout.REMEMBERED: remembered,
        stream_layout.STATE_SIZE: outputs + pad(n_outputs),
    }.items():
        layout[place] = number

    # Where an id is all there is to a time step, its part of the first layer is computed once for all.
    first = directions[0]
    projects = n_features == 1 and len(embeddings) == 1 and embeddings[0][1] * first.slots <= _MOST_PROJECTED
    if projects:
        layout[stream_layout.PROJECTED] = n_weights
        n_weights += embeddings[0][1] * first.slots

    packed = aligned_zeros(n_weights, dtype)
    for row, direction in zip(layers, directions, strict=True):
        size = direction.packed_size(direction.padded)
        direction.pack(arrays, 0, direction.padded, identity, packed[row[3] : row[3] + size])
    for number, row in enumerate(tables):
        packed[row[3] : row[3] + row[1] * row[2]] = arrays[f"embedding_{number}"].reshape(-1)
    if head != "none":
        panels = pad(n_outputs) * output_size
        gates = np.zeros(1, dtype=np.int64)
        weight = np.ascontiguousarray(arrays["weight_out"])
        pack_columns(weight, gates, n_outputs, 0, pad(n_outputs), identity, packed[readout : readout + panels])
        packed[readout + panels :][:n_outputs] = arrays["bias_out"]
    if projects:
        _project(packed, layers[0], tables[0], first, packed[layout[stream_layout.PROJECTED] :])
    scale = np.stack([np.ones(n_outputs), np.zeros(n_outputs)]) if units is None else np.array(units, dtype=np.float64)
    made = stream_layout.StreamParameters(packed, layout, np.ascontiguousarray(scale))
    if narrow:
        made = in_bfloat16(made, cell)
    return CompiledNetwork(cell, made, n_features, n_outputs, dtype)


def _project(weights: NDArray, layer: NDArray, table: NDArray, direction: Direction, projected: NDArray) -> None:
    """Write the pre-activations of every row of an embedding, in the same order of operations as step by step."""
    slots, columns, begin = direction.slots, direction.input_columns, int(layer[3])
    n_rows, size = int(table[1]), int(table[2])
    bias = begin + columns * size + direction.hidden_columns * direction.hidden_size
    rows = np.arange(n_rows, dtype=np.int64)
    projected.reshape(n_rows, slots)[:, columns:] = weights[bias + columns : bias + slots]
    source = weights[table[3] : table[3] + n_rows * size].copy()
    matrix = weights, begin, size, columns, weights, bias, 0
    multiply_kernel(read_only(source), 0, rows, 0, n_rows, size, *matrix, projected, 0, slots)


def _with_input_map(parameters: Parameters, matrix: NDArray, offset: NDArray) -> dict[str, NDArray]:
    """The arrays of a network that reads x as the given one reads ``x @ matrix + offset``."""
    weight, bias = parameters["weight_ih_l0"].astype(np.float64), parameters["bias_ih_l0"].astype(np.float64)
    return {
        **parameters,
        "weight_ih_l0": np.ascontiguousarray(weight @ matrix.T, dtype=parameters.dtype),
        "bias_ih_l0": (bias + weight @ offset).astype(parameters.dtype),
    }


def affine_map(transform: Any, n_features: int, what: str) -> tuple[NDArray, NDArray]:
    """The matrix and the offset of a transform of rows that is affine, found by trying it.

    Parameters
    ----------
    transform : callable
        From (n_rows, n_features) to (n_rows, n_transformed).
    n_features : int
    what : str
        The transform's name, for the error.

    Returns
    -------
    matrix : ndarray of shape (n_features, n_transformed)
    offset : ndarray of shape (n_transformed,)

    Raises
    ------
    ValueError
        If it is not ``x @ matrix + offset`` for any of several x of different sizes.
    """
    offset = np.asarray(transform(np.zeros((1, n_features))), dtype=np.float64)[0]
    matrix = np.asarray(transform(np.eye(n_features)), dtype=np.float64) - offset
    rng = np.random.RandomState(0)
    probes = rng.standard_normal((64, n_features)) * np.repeat([0.1, 1.0, 10.0, 1000.0], 16)[:, np.newaxis]
    made, expected = np.asarray(transform(probes), dtype=np.float64), probes @ matrix + offset
    bound = _AFFINE_TOLERANCE * (np.abs(probes) @ np.abs(matrix) + np.abs(offset) + 1e-300)
    # Differences are lost where an offset is large; so many digits the map itself cannot have.
    bound += 1e-12 * np.abs(offset) * np.abs(probes).max(axis=1, keepdims=True)
    if not (np.abs(made - expected) <= bound).all():
        raise ValueError(
            f"{what} cannot be folded into the network: only maps x @ matrix + offset can, such as StandardScaler, "
            "MinMaxScaler without clipping, or PCA"
        )
    return matrix, offset


def compile_layer(layer: Any, weights: str | None = None) -> CompiledNetwork:
    """What `layer.compile()` returns: the hidden states of the top layer, step by step."""
    if layer.bidirectional:
        raise ValueError(_BIDIRECTIONAL.format("layer"))
    return compile_network(layer._cell, layer.input_size, layer.hidden_sizes, layer._parameters, weights=weights)


def compile_estimator(
    model: Any, input_map: tuple[NDArray, NDArray] | None = None, weights: str | None = None
) -> CompiledNetwork:
    """What `model.compile()` returns: predictions in the units of y, or probabilities, step by step."""
    model._check_fitted()
    network, name = model._network, type(model).__name__
    if network.bidirectional:
        raise ValueError(_BIDIRECTIONAL.format(name))
    if network.pooling == "attention":
        raise ValueError(
            f"a {name} with pooling='attention' weighs all steps anew at every step and cannot be compiled"
        )
    if network.convolutions:
        raise ValueError(f"a {name} with a convolution reads later time steps and cannot be compiled for steps")
    if network.loss_name == "crf":
        raise ValueError(
            f"a {name} with output='crf' chooses labels by later time steps and cannot be compiled for steps"
        )
    if getattr(model, "_words", None) is not None:
        raise ValueError(f"a {name} of words cannot be compiled for steps: its time steps are strings")
    classifies = network.loss_name == "cross_entropy"
    return compile_network(
        network.cell,
        network.stack.input_size,
        network.hidden_sizes,
        network.parameters,
        residual=network.residual,
        pooling=network.pooling or "last",
        head="softmax" if classifies else "linear",
        embeddings=network.embeddings,
        units=None if classifies else np.stack([model.target_scale_, model.target_mean_]),
        input_map=input_map,
        weights=weights,
    )
