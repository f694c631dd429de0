"""Which device trains and predicts: what ``device="cpu"``, ``"cuda"`` and ``"auto"`` stand for.

Nothing falls back silently: "cuda" is a CUDA device or an error, before any work is done. "auto" is a CUDA device if
there is one and enough work for it by `WORTH_A_DEVICE`; else the CPU.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from numrnn.bfloat16 import check_matmul_precision
from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.seq2seq import EncoderDecoder, PairBatch
from numrnn.stack import RecurrentStack
from numrnn.training.engine import EngineMaker, HostEngine

__all__ = ["DEVICES", "WORTH_A_DEVICE", "check_device", "engine_of", "reader_of"]

DEVICES = ("cpu", "cuda", "auto")

# Floating-point operations of the recurrent layers from which on "auto" chooses a CUDA device: of a minibatch in
# training, and of all sequences in inference. The file is written by `python -m benchmarks.gpu --write-rule`; where it
# says that nothing was measured, the numbers are estimates of where the tens of microseconds that every launch takes
# stop to matter.
_RULE = json.loads((Path(__file__).parent / "worth_a_device.json").read_text(encoding="utf-8"))
WORTH_A_DEVICE: dict[str, float] = {work: float(_RULE[work]) for work in ("training", "inference")}

_readers: WeakKeyDictionary[Network | EncoderDecoder, Any] = WeakKeyDictionary()


def check_device(device: str, matmul_precision: Any = None, dtype: Any = "float32") -> None:
    """See that "cuda" can be had, and what is asked of products, before any work is done.

    Parameters
    ----------
    device : {"cpu", "cuda", "auto"}
    matmul_precision : {None, "bfloat16"}, default=None
    dtype : {"float32", "float64"}, default="float32"

    Raises
    ------
    RuntimeError
        If it cannot.
    ValueError
        If `matmul_precision` is neither, or for another type or device than it is given with.
    """
    check_matmul_precision(matmul_precision, dtype)
    if device != "cuda":
        return
    if matmul_precision is not None:
        raise ValueError(
            f"matmul_precision={matmul_precision!r} is for the CPU, got device='cuda': there the environment variable "
            "NUMRNN_CUDA_PRODUCTS says how large products are computed"
        )
    problem = _why_unavailable()
    if problem is not None:
        from numrnn.kernels.cuda.availability import refusal

        raise refusal(problem)


def engine_of(
    device: str, network: Network | EncoderDecoder, lengths: Any, batch_size: int, solver: str
) -> EngineMaker:
    """What trains a network.

    Parameters
    ----------
    device : {"cpu", "cuda", "auto"}
    network : Network or EncoderDecoder
    lengths : ndarray of int64
        Of all sequences; of pairs, the time steps of both sides together.
    batch_size : int
    solver : str

    Raises
    ------
    RuntimeError
        As `check_device`.
    """
    device = _device_for(device, network)
    if device == "auto":
        at_once = len(lengths) if solver == "lbfgs" else min(batch_size, len(lengths))
        n_steps = float(np.mean(lengths)) * at_once if len(lengths) else 0.0
        enough = 3 * _flops(network, n_steps) >= WORTH_A_DEVICE["training"]
        device = "cuda" if enough and _why_unavailable() is None else "cpu"
    if device == "cpu":
        return HostEngine
    if isinstance(network, EncoderDecoder):
        from numrnn.cuda.pair_engine import PairEngine

        return PairEngine
    from numrnn.cuda.engine import DeviceEngine

    return DeviceEngine


def reader_of(device: str, network: Network | EncoderDecoder, sequences: Sequences | PairBatch) -> Any:
    """What computes outputs, features and attention weights of these sequences: the network, or its like on a device.

    Of an encoder and a decoder, what computes the outputs for given inputs of the decoder.

    Raises
    ------
    RuntimeError
        As `check_device`.
    """
    device = _device_for(device, network)
    if device == "auto":
        sides = sequences if isinstance(sequences, PairBatch) else (sequences,)
        n_steps = float(sum(side.n_steps for side in sides))
        enough = _flops(network, n_steps) >= WORTH_A_DEVICE["inference"]
        device = "cuda" if enough and _why_unavailable() is None else "cpu"
    if device == "cpu":
        return network
    reader = _readers.get(network)
    if reader is None:
        reader = _readers[network] = _reader_of(network.with_dtype(network.dtype))
    reader.take(network.parameters.flat)
    return reader


def _device_for(device: str, network: Network | EncoderDecoder) -> str:
    """The device, checked; "auto" is the CPU for a network whose products are in a precision of the CPU's."""
    precision = network.matmul_precision if isinstance(network, Network) else None
    check_device(device, precision)
    return "cpu" if device == "auto" and precision is not None else device


def _reader_of(network: Network | EncoderDecoder) -> Any:
    if isinstance(network, EncoderDecoder):
        from numrnn.cuda.encoder_decoder import DeviceEncoderDecoder, PairInference

        return PairInference(DeviceEncoderDecoder(network))
    from numrnn.cuda.inference import DeviceInference
    from numrnn.cuda.network import DeviceNetwork

    return DeviceInference(DeviceNetwork(network))


def _flops(network: Network | EncoderDecoder, n_steps: float) -> float:
    """Operations of the recurrent layers for so many time steps, forward."""
    if isinstance(network, EncoderDecoder):
        # Of both sides together; a step of one costs about as much as a step of the other.
        products = [*network.decoder.inputs, *network.decoder.hidden]
        decoder = n_steps * sum(2 * len(one.blocks) * one.size * one.input_size for one in products)
        return decoder if network.encoder is None else (decoder + _flops_of(network.encoder.stack, n_steps)) / 2
    return _flops_of(network.stack, n_steps)


def _flops_of(stack: RecurrentStack, n_steps: float) -> float:
    total, size = 0, stack.input_size
    for hidden_size in stack.hidden_sizes:
        total += 2 * stack.n_directions * stack.cell.n_gates * hidden_size * (size + hidden_size)
        size = hidden_size * stack.n_directions
    return n_steps * total


def _why_unavailable() -> str | None:
    from numrnn.kernels.cuda.availability import why_unavailable

    return why_unavailable()
