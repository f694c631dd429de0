"""Recurrent layers: arrays in, arrays out.

The middle level of the package, for numeric code that has its own loss and its own training; the estimators stand on the
same engine. Names, shapes, gate order and results are those of ``torch.nn`` with ``batch_first=True``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numrnn.packing import Sequences
from numrnn.parameters import Parameters
from numrnn.stack import RecurrentPass, RecurrentStack
from numrnn.workers import Workers

__all__ = ["GRU", "LSTM", "RNN"]

_DTYPES = ("float32", "float64")


def _positive_integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return int(value)


def _random_state(random_state: Any) -> np.random.RandomState:
    if isinstance(random_state, np.random.RandomState):
        return random_state
    if random_state is None or (isinstance(random_state, (int, np.integer)) and 0 <= random_state < 2**32):
        return np.random.RandomState(random_state)
    raise ValueError(f"random_state must be None, an integer from 0 to 2**32 - 1 or a RandomState, got {random_state!r}")


class _RecurrentLayer:
    """What RNN, LSTM and GRU share."""

    _cell: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int | None = None,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
        dtype: Any = "float32",
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
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout!r}")
        dtype = np.dtype(dtype)
        if dtype.name not in _DTYPES:
            raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype.name!r}")
        if device not in ("cpu", "auto"):
            if device == "cuda":
                raise RuntimeError("device='cuda' was asked for, but this version of numrnn has no CUDA engine")
            raise ValueError(f"device must be 'cpu', 'cuda' or 'auto', got {device!r}")
        self.hidden_size = hidden_size
        self.num_layers = len(self.hidden_sizes)
        self.bidirectional = bool(bidirectional)
        self.dropout = float(dropout)
        self.dtype = dtype
        self.device = "cpu"
        self.n_jobs = n_jobs
        self._stack = RecurrentStack(
            self._cell,
            self.input_size,
            self.hidden_sizes,
            bidirectional=self.bidirectional,
            dropout=self.dropout,
            dtype=dtype,
            workers=Workers(n_jobs),
        )
        self._parameters = Parameters(self._stack.parameter_shapes(), dtype)
        self._gradient = self._parameters.zeros_like()
        self._pass: RecurrentPass | None = None
        self._padded_shape: tuple[int, ...] = ()
        self._rng = _random_state(random_state)
        self._stack.initialize(self._parameters, self._rng)

    def __repr__(self) -> str:
        size = self.hidden_sizes if len(set(self.hidden_sizes)) > 1 else self.hidden_sizes[0]
        options = f", bidirectional={self.bidirectional}" if self.bidirectional else ""
        return f"{type(self).__name__}({self.input_size}, {size}, num_layers={self.num_layers}{options}, dtype={self.dtype.name!r})"

    @property
    def parameters(self) -> dict[str, NDArray]:
        """Writable views of the parameters, by PyTorch's names and with its shapes."""
        return dict(self._parameters)

    @property
    def gradients(self) -> dict[str, NDArray]:
        """Views of the gradients that the last call of `backward` computed, by the names of the parameters."""
        return dict(self._gradient)

    @property
    def n_parameters(self) -> int:
        """Number of trainable numbers."""
        return self._parameters.size

    # ------------------------------------------------------------------------------------------------------ states
    def _as_states(self, state: Any, n_sequences: int, name: str = "state") -> list[NDArray] | None:
        """The caller's state as one array (n_states, n_sequences, hidden_size) for each layer and direction."""
        if state is None:
            return None
        n_directions = self._stack.n_directions
        parts = tuple(state) if self._stack.n_states == 2 else (state,)
        if len(parts) != self._stack.n_states:
            raise ValueError(f"{name} must be a pair (h, c), got {len(parts)} arrays")
        uniform = len(set(self.hidden_sizes)) == 1
        by_state: list[list[NDArray]] = []
        for letter, part in zip("hc", parts, strict=False):
            layers: list[Any]
            if uniform:
                whole = self._as_floats(part, f"{letter} of {name}")
                expected: tuple[int, ...] = (self.num_layers * n_directions, n_sequences, self.hidden_sizes[0])
                if whole.shape != expected:
                    raise ValueError(
                        f"{letter} of {name} must have the shape (num_layers * directions, n_sequences, hidden_size) = "
                        f"{expected}, got {whole.shape}"
                    )
                by_state.append(list(whole))
                continue
            layers = list(part)
            if len(layers) != self.num_layers:
                raise ValueError(
                    f"{letter} of {name} must be a list of {self.num_layers} arrays, one for each layer, since their sizes "
                    f"differ; got {len(layers)}"
                )
            directions: list[NDArray] = []
            for number, (array, size) in enumerate(zip(layers, self.hidden_sizes, strict=True)):
                whole = self._as_floats(array, f"{letter} of {name}, layer {number}")
                expected = (n_directions, n_sequences, size)
                if whole.shape != expected:
                    raise ValueError(
                        f"{letter} of {name}, layer {number}, must have the shape (directions, n_sequences, hidden_size) = "
                        f"{expected}, got {whole.shape}"
                    )
                directions += list(whole)
            by_state.append(directions)
        return [np.stack(parts_) for parts_ in zip(*by_state, strict=True)]

    def _from_states(self, states: list[NDArray]) -> Any:
        """The inverse of `_as_states`."""
        n_directions = self._stack.n_directions
        by_state = []
        for index in range(self._stack.n_states):
            arrays = [state[index] for state in states]
            if len(set(self.hidden_sizes)) == 1:
                by_state.append(np.stack(arrays))
            else:
                by_state.append(
                    [np.stack(arrays[i * n_directions : (i + 1) * n_directions]) for i in range(self.num_layers)]  # type: ignore[arg-type]
                )
        return by_state[0] if self._stack.n_states == 1 else tuple(by_state)

    # ------------------------------------------------------------------------------------------------------ checks
    def _as_floats(self, array: Any, name: str) -> NDArray:
        """A contiguous array of the layer's type with finite numbers; the caller's memory itself where that fits."""
        result = np.asarray(array)
        if result.dtype.kind not in "fiub":
            raise ValueError(f"{name} must be an array of real numbers, got an array of type {result.dtype}")
        result = np.ascontiguousarray(result, dtype=self.dtype)
        # The sum of finite numbers may overflow, so only a suspicious sum is worth the closer look.
        if not np.isfinite(np.sum(result)) and not np.isfinite(result).all():
            kind = "NaN" if np.isnan(result).any() else "infinity"
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(result))[0])
            raise ValueError(f"{name} must be finite, got {kind} at index {where}")
        return result

    def _as_batch(self, x: Any, name: str, width: int) -> NDArray:
        shape = np.shape(x)
        if len(shape) != 3 or shape[2] != width:
            what = "input_size" if name == "x" else "hidden_size * directions"
            raise ValueError(
                f"{name} must have the shape (n_sequences, n_timesteps, {what}) with {what} = {width}, got {shape}"
            )
        if 0 in shape:
            raise ValueError(f"{name} must have at least one sequence and one time step, got shape {shape}")
        return self._as_floats(x, name)

    @staticmethod
    def _as_lengths(lengths: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.int64] | None:
        if lengths is None:
            return None
        given = np.asarray(lengths)
        if given.shape != (shape[0],):
            raise ValueError(f"lengths must have one entry for each of the {shape[0]} sequences, got shape {given.shape}")
        if given.dtype.kind not in "iu":
            raise ValueError(f"lengths must be integers, got an array of type {given.dtype}")
        wrong = np.flatnonzero((given < 1) | (given > shape[1]))
        if len(wrong):
            raise ValueError(
                f"lengths must be from 1 to {shape[1]}, the time steps of x; got {given[wrong[0]]} for sequence {wrong[0]}"
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
            What lies past a sequence's end is not used. It must not be changed between this call with ``training=True``
            and `backward`, which reads it again.
        state : array or pair of arrays, default=None
            The initial state: h, for an LSTM (h, c), each of shape ``(num_layers * directions, n_sequences,
            hidden_size)``; where layers differ in size, a list with one array ``(directions, n_sequences, hidden_size)``
            for each layer. None is zero.
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
        batch = self._as_batch(x, "x", self.input_size)
        n_sequences, n_timesteps, _ = batch.shape
        checked = self._as_lengths(lengths, batch.shape)
        initial = self._as_states(state, n_sequences)
        shape = (n_sequences, n_timesteps, self._stack.output_size)
        y = (np.empty if checked is None else np.zeros)(shape, dtype=self.dtype)
        run = self._stack.forward(
            self._parameters,
            Sequences.from_padded(batch, checked),
            state=initial,
            training=training,
            dropout_seed=int(self._rng.randint(2**32, dtype=np.uint64)) if training and self.dropout else 0,
            output=y.reshape(-1, self._stack.output_size),
            output_starts=np.arange(n_sequences, dtype=np.int64) * n_timesteps,
        )
        if training:
            self._pass, self._padded_shape = run, shape
        return y, self._from_states(run.state)

    def backward(self, d_y: ArrayLike, d_state: Any = None) -> tuple[NDArray, Any]:
        """Back through time, after ``forward(x, training=True)``.

        Afterwards `gradients` holds the gradients of the parameters for this batch.

        Parameters
        ----------
        d_y : array-like of shape (n_sequences, n_timesteps, hidden_size * directions)
            Gradient of `y`. What lies past a sequence's end is not used.
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
        run = self._pass
        if run is None:
            raise RuntimeError("backward needs forward(x, training=True) before it, once for each call")
        n_sequences, n_timesteps, width = self._padded_shape
        d_batch = self._as_batch(d_y, "d_y", width)
        if d_batch.shape != self._padded_shape:
            raise ValueError(f"d_y must have the shape of y, {self._padded_shape}, got {d_batch.shape}")
        d_final = self._as_states(d_state, n_sequences, "d_state")
        self._pass = None
        self._gradient.flat[:] = 0
        d_rows, d_initial = self._stack.backward(
            run, self._parameters, d_batch, self._gradient, d_state=d_final, need_input=True
        )
        assert d_rows is not None
        d_x = d_rows
        if len(d_rows) != n_sequences * n_timesteps:
            d_x = np.zeros((n_sequences * n_timesteps, self.input_size), dtype=self.dtype)
            d_x[run.sequences.rows()] = d_rows
        return d_x.reshape(n_sequences, n_timesteps, self.input_size), self._from_states(d_initial)

    def step(self, x_t: ArrayLike, state: Any = None) -> tuple[NDArray, Any]:
        """Advance by one time step, for streaming.

        Parameters
        ----------
        x_t : array-like of shape (n_sequences, input_size)
        state : array or pair of arrays, default=None
            As in `forward`.

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
        shape = np.shape(x_t)
        if len(shape) != 2 or shape[1] != self.input_size:
            raise ValueError(f"x_t must have the shape (n_sequences, {self.input_size}), got {shape}")
        y, new_state = self.forward(np.asarray(x_t)[:, np.newaxis], state)
        return y[:, 0], new_state


class LSTM(_RecurrentLayer):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997; Gers, Schmidhuber and Cummins, 2000)."""

    _cell = "lstm"


class GRU(_RecurrentLayer):
    """Gated recurrent unit (Cho et al., 2014)."""

    _cell = "gru"


class RNN(_RecurrentLayer):
    """Simple recurrent network (Elman, 1990)."""

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
