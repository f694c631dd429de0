"""Recurrent layers: arrays in, arrays out.

The middle level of the package, for numeric code that has its own loss and its own training; the estimators stand on
the same engine. Names, shapes, gate order and results are those of ``torch.nn`` with ``batch_first=True``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numrnn.checks import StateLayout, finite_array, random_state_of, real_array
from numrnn.compiled import CompiledNetwork, Stream, compile_layer
from numrnn.kernels.cuda.availability import refusal, why_unavailable
from numrnn.packing import Sequences
from numrnn.parameters import Parameters
from numrnn.reading import plain_array
from numrnn.stack import MOST_ADVANCED, PackedWeights, RecurrentPass, RecurrentStack
from numrnn.workers import Workers

__all__ = ["GRU", "LSTM", "RNN"]


def _positive_integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return int(value)


class _Views(dict[str, NDArray]):
    """Arrays to write into. Putting another array in their place would have no effect, and is refused."""

    def __setitem__(self, name: str, array: Any) -> None:
        if name in self and array is self[name]:
            return  # the end of an operation in place, such as views[name] *= 2
        raise TypeError(f"write into the array instead of replacing it: [{name!r}][...] = values")

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


class _RecurrentLayer:
    """What RNN, LSTM and GRU share: everything but the cell."""

    _cell: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int | None = None,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        residual: bool = False,
        dtype: Any = "float32",
        matmul_precision: str | None = None,
        random_state: Any = None,
        n_jobs: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.input_size = _positive_integer("input_size", input_size)
        if isinstance(hidden_size, (tuple, list)):
            if not hidden_size:
                raise ValueError("hidden_size must name at least one layer, got an empty sequence")
            self.hidden_sizes = tuple(_positive_integer("hidden_size", size) for size in hidden_size)
            if num_layers is not None and num_layers != len(self.hidden_sizes):
                raise ValueError(f"hidden_size names {len(self.hidden_sizes)} layers, but num_layers is {num_layers!r}")
        else:
            layers = _positive_integer("num_layers", 1 if num_layers is None else num_layers)
            self.hidden_sizes = (_positive_integer("hidden_size", hidden_size),) * layers
        for name, rate in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout)):
            if not isinstance(rate, (int, float, np.number)) or not 0 <= rate < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {rate!r}")
        # NumPy takes None for float64.
        if dtype is None or not any(dtype is kind or dtype == np.dtype(kind) for kind in (np.float32, np.float64)):
            raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
        self.dtype = np.dtype(dtype)
        if device not in ("cpu", "cuda", "auto"):
            raise ValueError(f"device must be 'cpu', 'cuda' or 'auto', got {device!r}")
        problem = why_unavailable() if device == "cuda" else None
        if problem is not None:
            raise refusal(problem)
        if matmul_precision is not None and device != "cpu":
            raise ValueError(
                f"matmul_precision={matmul_precision!r} is for device='cpu', got {device!r}: on a CUDA device the "
                "environment variable NUMRNN_CUDA_PRODUCTS says how large products are computed"
            )
        self.num_layers = len(self.hidden_sizes)
        self.bidirectional = bool(bidirectional)
        self.dropout = float(dropout)
        self.recurrent_dropout = float(recurrent_dropout)
        self.residual = bool(residual)
        self.device = device
        self._on_device: Any = None
        self.n_jobs = n_jobs
        self._stack = RecurrentStack(
            self._cell,
            self.input_size,
            self.hidden_sizes,
            bidirectional=self.bidirectional,
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
            residual=self.residual,
            dtype=self.dtype,
            matmul_precision=matmul_precision,
            workers=Workers(n_jobs),
        )
        self.matmul_precision = matmul_precision
        stack = self._stack
        self._states = StateLayout(stack.n_states, stack.n_directions, self.hidden_sizes, self.dtype)
        self._parameters = Parameters(stack.parameter_shapes(), self.dtype)
        self._gradient = self._parameters.zeros_like()
        self._packed: PackedWeights | None = None
        # References to the vector of the parameters while nobody outside holds a view of it; where views are not
        # counted, fewer than there can be, so that the weights are packed for every call.
        alone = self._references()
        view = self._parameters.flat[:]
        self._unshared = alone if self._references() > alone else -1
        del view
        # The pass that `backward` will use, and the shape of its result.
        self._pass: tuple[RecurrentPass | None, tuple[int, ...]] | None = None
        self._rng = random_state_of(random_state)
        stack.initialize(self._parameters, self._rng)

    def _options(self) -> dict[str, Any]:
        """What to construct an equal layer from."""
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_sizes,
            "bidirectional": self.bidirectional,
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "residual": self.residual,
            "dtype": self.dtype,
            "matmul_precision": self.matmul_precision,
            "random_state": self._rng,
            "n_jobs": self.n_jobs,
            "device": self.device,
        }

    def __reduce__(self) -> Any:
        # The parameters and nothing else: no threads, no scratch, no half-finished pass.
        return _restore, (type(self), self._options(), self._parameters.flat, self._gradient.flat)

    def __repr__(self) -> str:
        size = self.hidden_sizes if len(set(self.hidden_sizes)) > 1 else self.hidden_sizes[0]
        options = f", bidirectional={self.bidirectional}" if self.bidirectional else ""
        name = f"{type(self).__name__}({self.input_size}, {size}, num_layers={self.num_layers}{options}"
        return f"{name}, dtype={self.dtype.name!r})"

    @property
    def parameters(self) -> dict[str, NDArray]:
        """Writable views of the parameters, by PyTorch's names and with its shapes."""
        # New views, each a reference to the vector that `_references` counts.
        views = _Views({name: array[...] for name, array in self._parameters.items()})
        # Only now: weights that are packed from here on are packed for one call at a time, as long as a view is alive.
        self._packed = None
        return views

    @property
    def gradients(self) -> dict[str, NDArray]:
        """Views of the gradients that the last call of `backward` computed, by the names of the parameters."""
        return _Views(self._gradient)

    @property
    def n_parameters(self) -> int:
        """Number of trainable numbers."""
        return self._parameters.size

    def _references(self) -> int:
        return sys.getrefcount(self._parameters.flat)

    def _packed_weights(self) -> PackedWeights:
        """The weights in the kernels' layout; made anew for every call as long as somebody could write to a view."""
        packed = self._packed
        if packed is None or self._references() > self._unshared:
            packed = PackedWeights(self._stack, self._parameters)
            self._packed = packed if self._references() <= self._unshared else None
        return packed

    def _dropout_seed(self) -> int:
        return int(self._rng.randint(2**32, dtype=np.uint64)) if self.dropout or self.recurrent_dropout else 0

    # ------------------------------------------------------------------------------------------------------ checks
    def _as_reals(self, x: Any, name: str, width: int, width_name: str) -> NDArray:
        """A batch whose numbers have not been looked at."""
        if type(x) is not np.ndarray:
            x = plain_array(x, name)
        shape = x.shape
        if len(shape) != 3 or shape[2] != width:
            raise ValueError(
                f"{name} must have the shape (n_sequences, n_timesteps, {width_name}) with {width_name} = {width}, got "
                f"{shape}"
            )
        if 0 in shape:
            raise ValueError(f"{name} must have at least one sequence and one time step, got shape {shape}")
        return real_array(x, name, self.dtype)

    def _as_batch(self, x: Any, name: str, width: int, width_name: str) -> NDArray:
        return finite_array(self._as_reals(x, name, width, width_name), name, self.dtype)

    @staticmethod
    def _as_lengths(lengths: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.int64] | None:
        if lengths is None:
            return None
        given = plain_array(lengths, "lengths")
        if given.shape != (shape[0],):
            raise ValueError(
                f"lengths must have one entry for each of the {shape[0]} sequences, got shape {given.shape}"
            )
        if given.dtype.kind not in "iu":
            raise ValueError(f"lengths must be integers, got an array of type {given.dtype}")
        wrong = np.flatnonzero((given < 1) | (given > shape[1]))
        if len(wrong):
            raise ValueError(
                f"lengths must be from 1 to {shape[1]}, the time steps of x; got {given[wrong[0]]} for sequence "
                f"{wrong[0]}"
            )
        return given.astype(np.int64)

    # ---------------------------------------------------------------------------------------------------- the work
    def forward(
        self, x: ArrayLike, state: Any = None, lengths: ArrayLike | None = None, training: bool = False
    ) -> tuple[NDArray, Any]:
        """Run the layer over a batch of sequences.

        Parameters
        ----------
        x : array-like of shape (n_sequences, n_timesteps, input_size)
            The values past a sequence's end must be finite, but have no influence. The array must not be changed
            between this call with ``training=True`` and `backward`, which reads it again.
        state : array or pair of arrays, default=None
            The initial state: h, for an LSTM (h, c), each of shape ``(num_layers * directions, n_sequences,
            hidden_size)``; where layers differ in size, a list with one array ``(directions, n_sequences,
            hidden_size)`` for each layer. None is zero.
        lengths : array-like of int, shape (n_sequences,), default=None
            Time steps of each sequence, in any order. None means that all have n_timesteps.
        training : bool, default=False
            Whether to keep what `backward` needs, and to apply dropout.

        Returns
        -------
        y : ndarray of shape (n_sequences, n_timesteps, hidden_size * directions)
            Hidden states of the top layer, zero past a sequence's end.
        state : array or pair of arrays
            The state after each sequence's last time step, in the form of the parameter.

        Raises
        ------
        ValueError
            If a shape does not fit, a number is not finite, or a length is out of range.
        """
        if self._uses_device(x):
            return self._forward_on_device(x, state, lengths, training)
        given = self._as_reals(x, "x", self.input_size, "input_size")
        n_sequences, n_timesteps, _ = given.shape
        checked = None if lengths is None else self._as_lengths(lengths, given.shape)
        if n_timesteps == 1 and n_sequences <= MOST_ADVANCED and not (training or self.bidirectional):
            y_t, new_state = self._advance(given[:, 0], state, given, "x")
            return y_t[:, np.newaxis], new_state
        batch = finite_array(given, "x", self.dtype)
        initial = None if state is None else self._states.to_engine(state, n_sequences)
        shape = (n_sequences, n_timesteps, self._stack.output_size)
        if not training and checked is None:
            y = np.empty(shape, dtype=self.dtype)
            final = self._stack.infer(batch, initial, self._packed_weights(), y)
            if final is not None:
                return y, self._states.from_engine(final)
        y = (np.empty if checked is None else np.zeros)(shape, dtype=self.dtype)
        sequences = Sequences.from_padded(batch, checked)
        run = self._stack.forward(
            self._parameters,
            sequences,
            state=initial,
            training=training,
            dropout_seed=self._dropout_seed() if training else 0,
            output=y.reshape(-1, self._stack.output_size),
            output_starts=sequences.starts,
            packed=self._packed_weights(),
        )
        if training:
            self._pass = run, shape
        return y, self._states.from_engine(run.final)

    def backward(self, d_y: ArrayLike, d_state: Any = None) -> tuple[NDArray, Any]:
        """Back through time, after ``forward(x, training=True)``.

        Afterwards `gradients` holds the gradients of the parameters for this batch. Neither x nor the parameters may be
        changed between the two calls. One layer is trained by one thread at a time; inference may go on in others.

        Parameters
        ----------
        d_y : array-like of shape (n_sequences, n_timesteps, hidden_size * directions)
            Gradient of `y`. The values past a sequence's end must be finite, but have no influence.
        d_state : array or pair of arrays, default=None
            Gradient of the final state, in its form. None is zero.

        Returns
        -------
        d_x : ndarray of shape (n_sequences, n_timesteps, input_size)
            Gradient of `x`, zero past a sequence's end.
        d_state : array or pair of arrays
            Gradient of the initial state.

        Raises
        ------
        RuntimeError
            If no forward pass in training mode has gone before.
        ValueError
            If a shape does not fit or a number is not finite.
        """
        kept = self._pass
        if kept is None:
            raise RuntimeError("backward needs forward(x, training=True) before it, once for each call")
        run, shape = kept
        n_sequences, n_timesteps, width = shape
        if run is None:
            return self._backward_on_device(d_y, d_state, shape)
        d_batch = self._as_batch(d_y, "d_y", width, "hidden_size * directions")
        if d_batch.shape != shape:
            raise ValueError(f"d_y must have the shape of y, {shape}, got {d_batch.shape}")
        d_final = self._states.to_engine(d_state, n_sequences, "d_state")
        self._pass = None
        self._gradient.flat[:] = 0
        d_rows, _ = self._stack.backward(
            run, self._parameters, d_batch, self._gradient, d_state=d_final, need_input=True
        )
        assert d_rows is not None
        d_x = d_rows
        if len(d_rows) != n_sequences * n_timesteps:
            d_x = np.zeros((n_sequences * n_timesteps, self.input_size), dtype=self.dtype)
            d_x[run.sequences.rows()] = d_rows
        return d_x.reshape(n_sequences, n_timesteps, self.input_size), self._states.from_engine(run.d_initial)

    # ------------------------------------------------------------------------------------------------- on a device
    def _uses_device(self, x: Any) -> bool:
        return self.device == "cuda" or (
            self.device == "auto" and hasattr(x, "__cuda_array_interface__") and why_unavailable() is None
        )

    def _device_layer(self) -> Any:
        """The same layer on the device, made when it is first used."""
        if self._on_device is None:
            from numrnn.cuda.layers import DeviceLayer

            self._on_device = DeviceLayer(self._stack, self._parameters)
        return self._on_device

    def _as_device_batch(self, x: Any, name: str, width: int, width_name: str) -> Any:
        """As `_as_batch`; what lies on the device is taken as it is, and its numbers are not looked at."""
        from numrnn.kernels.cuda.interop import is_device_array

        if not is_device_array(x):
            return self._as_batch(x, name, width, width_name)
        if len(x.shape) != 3 or x.shape[2] != width or 0 in x.shape:
            raise ValueError(
                f"{name} must have the shape (n_sequences, n_timesteps, {width_name}) with {width_name} = {width}, and "
                f"at least one sequence and one time step; got {tuple(x.shape)}"
            )
        return x

    def _forward_on_device(self, x: Any, state: Any, lengths: Any, training: bool) -> tuple[Any, Any]:
        batch = self._as_device_batch(x, "x", self.input_size, "input_size")
        n_sequences, n_timesteps, _ = batch.shape
        checked = self._as_lengths(lengths, batch.shape)
        if checked is None:
            checked = np.full(n_sequences, n_timesteps, dtype=np.int64)
        initial = self._states.to_engine(state, n_sequences)
        seed = self._dropout_seed() if training else 0
        y, states = self._device_layer().forward(batch, checked, initial, training, seed)
        if training:
            self._pass = None, (n_sequences, n_timesteps, self._stack.output_size)
        return y, self._public_states(states)

    def _backward_on_device(self, d_y: Any, d_state: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
        d_batch = self._as_device_batch(d_y, "d_y", shape[2], "hidden_size * directions")
        if tuple(d_batch.shape) != shape:
            raise ValueError(f"d_y must have the shape of y, {shape}, got {tuple(d_batch.shape)}")
        d_final = self._states.to_engine(d_state, shape[0], "d_state")
        self._pass = None
        d_x, d_initial = self._device_layer().backward(d_batch, d_final, self._gradient)
        return d_x, self._public_states(d_initial)

    def _public_states(self, states: list[NDArray]) -> Any:
        """States of each layer and direction in the form that `forward` returns."""
        n = self._stack.n_directions
        groups = [states] if self._states.uniform else [states[i : i + n] for i in range(0, len(states), n)]
        return self._states.from_engine([np.stack(group, axis=1) for group in groups])

    def step(self, x_t: ArrayLike, state: Any = None) -> tuple[NDArray, Any]:
        """Advance by one time step, for streaming.

        Parameters
        ----------
        x_t : array-like of shape (n_sequences, input_size)
        state : array or pair of arrays, default=None
            As in `forward`. It is not changed.

        Returns
        -------
        y_t : ndarray of shape (n_sequences, hidden_size)
            Hidden state of the top layer.
        state : array or pair of arrays
            The new state.

        Raises
        ------
        ValueError
            If a shape does not fit, a number is not finite, or the layer is bidirectional: its outputs depend on time
            steps that are yet to come.
        """
        if self.bidirectional:
            raise ValueError("step cannot run a bidirectional layer, whose outputs depend on later time steps")
        x = x_t
        if type(x) is not np.ndarray or x.dtype is not self.dtype or not x.flags.carray:
            x = real_array(x_t, "x_t", self.dtype)
        if x.ndim != 2 or x.shape[1] != self.input_size:
            raise ValueError(f"x_t must have the shape (n_sequences, {self.input_size}), got {x.shape}")
        if not len(x):
            raise ValueError(f"x_t must have at least one sequence, got shape {x.shape}")
        n_sequences = len(x)
        if n_sequences > MOST_ADVANCED:
            y, new_state = self.forward(x[:, np.newaxis], state)
            return y[:, 0], new_state
        return self._advance(x, state, x, "x_t")

    def compile(self, weights: str | None = None) -> CompiledNetwork:
        """The layer for compiled code: arrays and functions to be used in your own ``@njit`` functions.

        Parameters
        ----------
        weights : {None, "bfloat16"}, default=None
            The type of the weight matrices; None is the one they have. With "bfloat16" they take half the memory, and a
            step of more than some 50 units little more than half the time, since it waits for its weights; each of them
            is rounded to 8 bits. Inputs, states, biases and sums stay float32. See :doc:`/compiled`.

        Returns
        -------
        compiled : CompiledNetwork
            Its outputs are the hidden states of the top layer, those of `forward` to the bit (but for bfloat16). A
            copy: later changes of the parameters do not reach it.

        Raises
        ------
        ValueError
            If the layer is bidirectional, or `weights` is none of these, or "bfloat16" for a layer of float64.
        """
        return compile_layer(self, weights)

    def stream(self, n_streams: int | None = None, *, weights: str | None = None) -> Stream:
        """A sequence that is given one time step at a time, or several of them side by side.

        Parameters
        ----------
        n_streams : int, default=None
            Number of independent sequences. None is one, whose time steps are one-dimensional.
        weights : {None, "bfloat16"}, default=None
            As in `compile`.

        Returns
        -------
        stream : Stream
            Of the parameters as they are now.

        Raises
        ------
        ValueError
            As `compile`.

        Examples
        --------
        >>> import numpy as np, numrnn
        >>> layer = numrnn.GRU(2, 3, random_state=0)
        >>> x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
        >>> stream = layer.stream()
        >>> outputs = [stream.update(x_t) for x_t in x]
        >>> bool((np.array(outputs) == layer.forward(x[None])[0][0]).all())
        True
        """
        return Stream(compile_layer(self, weights), n_streams)

    def _advance(self, x: NDArray, state: Any, given: NDArray, name: str) -> tuple[NDArray, Any]:
        """One time step of at most `MOST_ADVANCED` sequences; x is contiguous and of the layer's type.

        given and name are what an error calls it, if a number of it is not finite.
        """
        layout, dtype, advance = self._states, self.dtype, self._stack.advance
        n_states, n_sequences = layout.n_states, len(x)
        if state is None:
            by_group = layout.resting(n_sequences)
        else:
            states = layout.as_it_is(state, n_sequences)
            by_group = list(zip(*layout.parts(state, n_sequences), strict=True)) if states is None else [states]
        packed = self._packed_weights()
        finite = True
        made = []
        for layer, size in enumerate(self.hidden_sizes):
            # Layers of one size share their arrays, others have their own.
            group, place, n_places = (0, layer, self.num_layers) if layout.uniform else (layer, 0, 1)
            if place == 0:
                made.append(np.empty((n_states + 1, n_places, n_sequences, size), dtype))
            results = made[group]
            finite_x, finite_state = advance(layer, place, packed, x, by_group[group], results)
            # What a lower layer made of finite numbers is its own affair: rectified units may overflow.
            finite = finite and finite_state and (finite_x or layer > 0)
            y = results[n_states, place]
            if self._stack.is_residual(layer):
                y += x
            x = y
        if not finite:
            finite_array(given, name, dtype)
            layout.to_engine(state, n_sequences)
        if layout.uniform:
            return x, ((results[0], results[1]) if n_states == 2 else results[0])
        by_part = [[results[s] for results in made] for s in range(n_states)]
        return x, (tuple(by_part) if n_states == 2 else by_part[0])


def _restore(kind: type[_RecurrentLayer], options: dict[str, Any], parameters: NDArray, gradient: NDArray) -> Any:
    """An independent copy of a layer."""
    rng = options["random_state"]
    state = rng.get_state()
    layer = kind(**options)
    # Construction has drawn initial parameters, which are not wanted.
    rng.set_state(state)
    layer._parameters.flat[:] = parameters
    layer._gradient.flat[:] = gradient
    return layer


_PARAMETERS = """
    Parameters
    ----------
    input_size : int
        Features of one time step.
    hidden_size : int or sequence of int
        Units of every layer; a sequence gives each layer its own size, from the input up.
    num_layers : int, default=None
        Layers, each of which has the outputs of the one below as input. None is as many as `hidden_size` names, else
        1.{nonlinearity}
    bidirectional : bool, default=False
        Whether every layer also walks its sequences from their ends; the outputs of both directions are joined.
    dropout : float, default=0.0
        Probability with which an output of every layer but the last is zeroed in training.
    recurrent_dropout : float, default=0.0
        Probability with which, in training, a unit of the hidden state is zeroed in the product with ``weight_hh``, the
        same units at all time steps of a sequence (Gal and Ghahramani, 2016). What does not go through that product is
        not touched: the cell state of an LSTM, the part of its state that a GRU carries over.
    residual : bool, default=False
        Whether the input of a layer, as the layer sees it, is added to its output, wherever the two are of one size and
        the layer is not the first. The returned states are those of the cells.
    dtype : {{"float32", "float64"}}, default="float32"
        Type of parameters, states and results. Input of other types is converted.
    matmul_precision : {{None, "bfloat16"}}, default=None
        With "bfloat16", `forward` and `backward` round the factors of all products of matrices to it, and sum in
        float32, in which everything is kept: about half the time where layers are large, and on processors with AVX-512
        BF16; results differ in the third decimal place. None computes in `dtype`. Single steps and streams do in any
        case. For ``dtype="float32"`` and ``device="cpu"``.
    random_state : int, RandomState or None, default=None
        Determines the initial parameters and the dropout masks.
    n_jobs : int or None, default=None
        Threads. None and -1 use every processor where the work is worth it, but no more than the environment variables
        ``OMP_NUM_THREADS`` and ``NUMBA_NUM_THREADS`` allow. Results do not depend on it, not in a single bit.
    device : {{"cpu", "cuda", "auto"}}, default="cpu"
        Where `forward` and `backward` compute. "cuda" is an NVIDIA GPU, with the extra ``numrnn[cuda]``, or an error;
        "auto" is the GPU for arrays that lie on it, the CPU for others. Arrays on the device (of CuPy, PyTorch, JAX:
        with ``__cuda_array_interface__``) are used without a copy, their numbers are not checked, and ``y`` and ``d_x``
        are arrays on the device then. States, parameters and gradients are NumPy arrays always; steps and streams are
        for the CPU.

    Attributes
    ----------
    parameters : dict of str to ndarray
        Writable views, to be written in place (``layer.parameters["bias_ih_l0"][...] = 0``), by PyTorch's names:
        ``weight_ih_l0`` ({gates}hidden_size, input_size), ``weight_hh_l0`` ({gates}hidden_size, hidden_size),
        ``bias_ih_l0``, ``bias_hh_l0``, ..., with the suffix ``_reverse`` for the reverse direction.{gate_order} Input
        weights start uniform (Glorot and Bengio, 2010), recurrent weights orthogonal (Saxe, McClelland and Ganguli,
        2014), biases zero{forget}. As long as a view is held, every call packs the weights anew, since they may have
        changed: let go of views before you stream with `step`.
    gradients : dict of str to ndarray
        Views of the gradients that `backward` computed, by the same names.
    n_parameters : int

    Raises
    ------
    ValueError
        If a parameter is out of range.
    RuntimeError
        If ``device="cuda"``.
"""


class LSTM(_RecurrentLayer):
    __doc__ = f"""Long short-term memory.

    With z = W_ih x + b_ih + W_hh h + b_hh in four parts, one time step is

    .. code-block:: text

        i = sigmoid(z_i)    f = sigmoid(z_f)    g = tanh(z_g)    o = sigmoid(z_o)
        c' = f c + i g      h' = o tanh(c')
    {
        _PARAMETERS.format(
            nonlinearity="",
            gates="4 * ",
            gate_order=" The gates follow one another as i, f, g, o.",
            forget=", but the forget gates' one",
        )
    }
    References
    ----------
    S. Hochreiter and J. Schmidhuber (1997). Long short-term memory. Neural Computation 9(8), 1735-1780.

    F. A. Gers, J. Schmidhuber and F. Cummins (2000). Learning to forget: continual prediction with LSTM. Neural
    Computation 12(10), 2451-2471.

    Examples
    --------
    >>> import numpy as np
    >>> import numrnn
    >>> layer = numrnn.LSTM(3, 8, random_state=0)
    >>> x = np.random.RandomState(0).standard_normal((2, 5, 3))
    >>> y, (h, c) = layer.forward(x, lengths=[5, 3], training=True)
    >>> y.shape, h.shape
    ((2, 5, 8), (1, 2, 8))
    >>> d_x, (d_h, d_c) = layer.backward(np.ones_like(y))
    >>> layer.gradients["weight_hh_l0"].shape
    (32, 8)
    >>> state = None
    >>> for t in range(5):
    ...     y_t, state = layer.step(x[:, t], state)
    >>> bool(np.array_equal(y_t[0], y[0, -1]))
    True
    """

    _cell = "lstm"


class GRU(_RecurrentLayer):
    __doc__ = f"""Gated recurrent unit, the reset gate applied after the product as in PyTorch and cuDNN.

    One time step is

    .. code-block:: text

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)    z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r (W_hn h + b_hn))   h' = (1 - z) n + z h
    {
        _PARAMETERS.format(
            nonlinearity="", gates="3 * ", gate_order=" The gates follow one another as r, z, n.", forget=""
        )
    }
    References
    ----------
    K. Cho et al. (2014). Learning phrase representations using RNN encoder-decoder for statistical machine translation.
    Proceedings of EMNLP, 1724-1734.

    Examples
    --------
    >>> import numpy as np
    >>> import numrnn
    >>> layer = numrnn.GRU(3, (8, 4), bidirectional=True, random_state=0)
    >>> y, h = layer.forward(np.zeros((2, 5, 3)))
    >>> y.shape, [part.shape for part in h]
    ((2, 5, 8), [(2, 2, 8), (2, 2, 4)])
    """

    _cell = "gru"


class RNN(_RecurrentLayer):
    __doc__ = f"""Simple recurrent network: h' = nonlinearity(W_ih x + b_ih + W_hh h + b_hh).
    {
        _PARAMETERS.format(
            nonlinearity='''
    nonlinearity : {"tanh", "relu"}, default="tanh"
        With "relu", recurrent weights start as the identity (Le, Jaitly and Hinton, 2015).''',
            gates="",
            gate_order="",
            forget="",
        )
    }
    References
    ----------
    J. L. Elman (1990). Finding structure in time. Cognitive Science 14(2), 179-211.

    Q. V. Le, N. Jaitly and G. E. Hinton (2015). A simple way to initialize recurrent networks of rectified linear
    units. arXiv:1504.00941.

    Examples
    --------
    >>> import numpy as np
    >>> import numrnn
    >>> layer = numrnn.RNN(1, 2, nonlinearity="relu", random_state=0)
    >>> layer.parameters["weight_ih_l0"][...] = 1
    >>> y, h = layer.forward(np.ones((1, 3, 1)))
    >>> y[0].tolist()
    [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
    """

    _cell = "rnn_tanh"

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int | None = None,
        *,
        nonlinearity: str = "tanh",
        **options: Any,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        self._cell = f"rnn_{nonlinearity}"
        super().__init__(input_size, hidden_size, num_layers, **options)

    def _options(self) -> dict[str, Any]:
        return super()._options() | {"nonlinearity": self.nonlinearity}
