"""ONNX Runtime's LSTM and GRU with the weights of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["OPERATORS", "forward", "step"]

# ONNX's name, and its order of our gates: LSTM input, output, forget, cell; GRU update, reset, hidden.
OPERATORS = {"lstm": ("LSTM", (0, 3, 1, 2)), "gru": ("GRU", (1, 0, 2))}


def _gates(values: NDArray, order: tuple[int, ...]) -> NDArray:
    blocks = np.split(values, len(order))
    return np.concatenate([blocks[gate] for gate in order])


def _weights(layer: Any, order: tuple[int, ...]) -> dict[str, NDArray]:
    suffixes = ("l0", "l0_reverse")[: 1 + layer.bidirectional]
    p = layer.parameters
    return {
        "W": np.stack([_gates(p[f"weight_ih_{s}"], order) for s in suffixes]),
        "R": np.stack([_gates(p[f"weight_hh_{s}"], order) for s in suffixes]),
        "B": np.stack([np.concatenate([_gates(p[f"bias_{i}_{s}"], order) for i in ("ih", "hh")]) for s in suffixes]),
    }


def _session(layer: Any, cell: str, size: tuple[int, int], n_threads: int, stateful: bool) -> Any:
    """Batch-first in and out, as from PyTorch's exporter: a transposition before and one after."""
    operator, order = OPERATORS[cell]
    n_sequences, n_timesteps = size
    directions, hidden = 1 + layer.bidirectional, layer.hidden_sizes[0]
    states = ["h", "c"][: 2 if cell == "lstm" else 1] if stateful else []
    new_states = [f"new_{name}" for name in states]
    attributes: dict[str, Any] = {"hidden_size": hidden}
    attributes["direction"] = "bidirectional" if layer.bidirectional else "forward"
    if cell == "gru":
        attributes["linear_before_reset"] = 1
    state_shape = [directions, n_sequences, hidden]
    constants = {**_weights(layer, order), "shape": np.array([n_sequences, n_timesteps, directions * hidden])}
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["x"], ["x_by_time"], perm=[1, 0, 2]),
            helper.make_node(
                operator, ["x_by_time", "W", "R", "B", "", *states], ["y_by_time", *new_states], **attributes
            ),
            helper.make_node("Transpose", ["y_by_time"], ["y_split"], perm=[2, 0, 1, 3]),
            helper.make_node("Reshape", ["y_split", "shape"], ["y"]),
        ],
        "layer",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [n_sequences, n_timesteps, layer.input_size]),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, state_shape) for name in states),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [n_sequences, n_timesteps, directions * hidden]),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, state_shape) for name in new_states),
        ],
        [numpy_helper.from_array(np.ascontiguousarray(values), name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def forward(layer: Any, cell: str, x: NDArray, n_threads: int) -> Callable[[], NDArray]:
    """Inference."""
    session = _session(layer, cell, x.shape[:2], n_threads, False)
    feed = {"x": x}
    return lambda: session.run(None, feed)[0]


def step(layer: Any, cell: str, x_t: NDArray, n_threads: int) -> Callable[[], NDArray]:
    """One time step of a stream; the state goes from call to call."""
    session = _session(layer, cell, (len(x_t), 1), n_threads, True)
    zero = np.zeros((1, len(x_t), layer.hidden_sizes[0]), dtype=np.float32)
    feed = {"x": np.ascontiguousarray(x_t[:, np.newaxis]), "h": zero, **({"c": zero} if cell == "lstm" else {})}
    names = [name for name in ("h", "c") if name in feed]

    def call() -> NDArray:
        y, *state = session.run(None, feed)
        feed.update(zip(names, state, strict=True))
        return y[:, 0]

    return call
