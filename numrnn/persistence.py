"""Fitted estimators in files: safetensors, nothing executed.

A file holds the parameters of the network by PyTorch's names, and as metadata:

=====================  ==========================================================================================
``format``             ``numrnn``
``format_version``     the version of this layout, a whole number
``numrnn_version``     the version of the package that wrote the file; for messages only
``model``              JSON: estimator (name of its class), parameters (of its constructor), network, attributes
``checksum``           SHA-256 of the other entries and of all tensors with their names, types and shapes
=====================  ==========================================================================================

Arrays of numbers among the parameters of the constructor, such as pretrained embeddings, are tensors too, by the names
``parameter:0``, ``parameter:1``, ... What training needs to go on (`numrnn.training.checkpoint`) is the entry
``training`` of the model, and tensors ``training:...``. Forecasters and detectors have ``state`` in the place of
attributes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

import numrnn
from numrnn.anomaly import RNNAnomalyDetector
from numrnn.estimators import Convolution, RNNClassifier, RNNRegressor, RNNSeq2Seq, RNNTagger
from numrnn.estimators.keeping import network_from, network_settings
from numrnn.estimators.sides import Numbers, Tokens
from numrnn.estimators.subwords import SubwordPieces
from numrnn.estimators.words import WordEncoder
from numrnn.forecasting import RNNForecaster
from numrnn.language import RNNLanguageModel
from numrnn.network import Network
from numrnn.seq2seq import EncoderDecoder
from numrnn.training.checkpoint import checkpoint, resume
from numrnn.training.loop import TrainingState

__all__ = ["ModelFileError", "load", "save"]

FORMAT_VERSION = 2

# What files of earlier versions of the format do not say, because it was always so.
_BEFORE_VERSION_2 = {"_per_step": False, "_embeddings": ()}

_TENSOR_OF_PARAMETER = "parameter:"
_TENSOR_OF_TRAINING = "training:"

_ESTIMATORS: dict[str, Any] = {
    "RNNAnomalyDetector": RNNAnomalyDetector,
    "RNNClassifier": RNNClassifier,
    "RNNForecaster": RNNForecaster,
    "RNNLanguageModel": RNNLanguageModel,
    "RNNRegressor": RNNRegressor,
    "RNNSeq2Seq": RNNSeq2Seq,
    "RNNTagger": RNNTagger,
}

# Estimators that say themselves what they learned.
_WITH_STATE = (RNNAnomalyDetector, RNNForecaster)

# Fitted attributes that are written, and the type that each must have when it is read.
_ATTRIBUTES: dict[str, tuple[type, ...]] = {
    "n_features_in_": (int,),
    "feature_names_in_": (np.ndarray,),
    "_input_size": (int,),
    "_univariate_columns": (bool,),
    "_per_step": (bool,),
    "_embeddings": (tuple,),
    "classes_": (np.ndarray,),
    "_words": (WordEncoder, type(None)),
    "n_outputs_": (int,),
    "_column": (bool,),
    "target_mean_": (np.ndarray,),
    "target_scale_": (np.ndarray,),
    "loss_curve_": (list,),
    "best_loss_": (float,),
    "validation_scores_": (list, type(None)),
    "best_validation_score_": (float, type(None)),
    "n_iter_": (int,),
    "t_": (int,),
    "device_": (str,),
    "symbols_": (list,),
    "_several": (bool,),
    "_knows_unknown": (bool,),
    "_frequencies": (np.ndarray,),
    "_source": (Tokens, Numbers),
    "_target": (Tokens, Numbers),
    "max_length_": (int,),
}
_OPTIONAL = {"feature_names_in_", "device_"}
# Those of every estimator, and what each has beside them.
_OF_ALL = {"loss_curve_", "validation_scores_", "best_validation_score_", "n_iter_", "device_"}
_OF_READERS = {"n_features_in_", "feature_names_in_", "_input_size", "_univariate_columns", "_per_step", "_embeddings"}
_OF_READERS |= {"best_loss_", "t_"}
_OF = {
    RNNClassifier: _OF_READERS | {"classes_"},
    RNNRegressor: _OF_READERS | {"n_outputs_", "_column", "target_mean_", "target_scale_"},
    RNNTagger: _OF_READERS | {"classes_", "_words"},
    RNNLanguageModel: {"symbols_", "_several", "_knows_unknown", "_frequencies"},
    RNNSeq2Seq: {"_source", "_target", "max_length_", "best_loss_", "t_"},
}


class ModelFileError(ValueError):
    """A file is not a model that this version of the package can read."""


# ------------------------------------------------------------------------------------------------------------ values
def _plain(value: Any, what: str, tensors: dict[str, NDArray] | None = None) -> Any:
    """A value in terms of JSON; arrays, tuples, dicts with any keys and convolutions are marked as what they are.

    Matrices of floating-point numbers are added to `tensors` if it is given, under the name that stands in their place.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        # Subclasses such as numpy.float64 and numpy.str_ become what they are derived from.
        return next((kind(value) for kind in (bool, int, float, str) if isinstance(value, kind)), None)
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    if isinstance(value, np.ndarray):
        if tensors is not None and value.ndim > 1 and value.dtype in (np.float32, np.float64):
            name = f"{_TENSOR_OF_PARAMETER}{len(tensors)}"
            tensors[name] = np.ascontiguousarray(value)
            return {"tensor": name}
        strings = value.dtype.kind == "O" and all(isinstance(element, str) for element in value.flat)
        if value.dtype.kind in "biufU" or strings:
            return {"array": [_plain(element, what) for element in value.tolist()], "dtype": value.dtype.str}
    if isinstance(value, tuple):
        return {"tuple": [_plain(element, what, tensors) for element in value]}
    if isinstance(value, list):
        return [_plain(element, what, tensors) for element in value]
    if isinstance(value, Mapping):
        vectors = list(value.values())
        if tensors is not None and vectors and all(isinstance(vector, np.ndarray) for vector in vectors):
            # Vectors of words: one matrix.
            return {"keys": _plain(list(value), what), "rows": _plain(np.stack(vectors), what, tensors)}
        return {"dict": [[_plain(key, what), _plain(element, what, tensors)] for key, element in value.items()]}
    if isinstance(value, (Tokens, Numbers)):
        return {
            "tokens" if isinstance(value, Tokens) else "numbers": [
                _plain(getattr(value, field.name), what) for field in fields(value)
            ]
        }
    if isinstance(value, SubwordPieces):
        return {"pieces": value.to_text()}
    if isinstance(value, WordEncoder):
        return {"words": _plain(value.vocabularies, what), "lowercase": value.lowercase}
    if type(value) is Convolution:
        return {"convolution": _plain(value.get_params(), what)}
    if isinstance(value, np.random.RandomState):
        return None
    if callable(value):
        raise ValueError(
            f"{what} cannot be written to a model file: {value!r} is a function, and nothing in such a file is "
            "executed. Without it the model can be saved; pickle and joblib keep functions, too."
        )
    kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"{value!r} ({type(value).__name__})"
    raise ValueError(
        f"{what} cannot be written to a model file: {kind}. Numbers, strings, None, and lists, tuples, dicts and "
        "arrays of them can; pickle and joblib keep everything."
    )


def _value(plain: Any, tensors: Mapping[str, NDArray]) -> Any:
    """The value that `_plain` was given."""
    if isinstance(plain, list):
        return [_value(element, tensors) for element in plain]
    if isinstance(plain, dict):
        if set(plain) == {"array", "dtype"}:
            dtype = np.dtype(str(plain["dtype"]))
            if dtype.kind not in "biufUO":
                raise ModelFileError(f"arrays of type {dtype} are not part of the format")
            return np.array(_value(plain["array"], tensors), dtype=dtype)
        if set(plain) == {"tuple"}:
            return tuple(_value(element, tensors) for element in plain["tuple"])
        if set(plain) == {"dict"}:
            return {_value(key, tensors): _value(element, tensors) for key, element in plain["dict"]}
        if set(plain) == {"keys", "rows"}:
            return dict(zip(_value(plain["keys"], tensors), _value(plain["rows"], tensors), strict=True))
        if set(plain) == {"tensor"}:
            return tensors[str(plain["tensor"])]
        if set(plain) == {"tokens"}:
            return Tokens(*_value(plain["tokens"], tensors))
        if set(plain) == {"numbers"}:
            return Numbers(*_value(plain["numbers"], tensors))
        if set(plain) == {"pieces"}:
            return SubwordPieces.from_text(str(plain["pieces"]))
        if set(plain) == {"words", "lowercase"}:
            return WordEncoder(_value(plain["words"], tensors), bool(plain["lowercase"]))
        if set(plain) == {"convolution"}:
            return Convolution(**_value(plain["convolution"], tensors))
        raise ModelFileError(f"unknown kind of value with the keys {sorted(plain)}")
    return plain


def _checksum(metadata: Mapping[str, str], tensors: Mapping[str, NDArray]) -> str:
    digest = hashlib.sha256()
    for key in sorted(metadata):
        if key != "checksum":
            digest.update(f"{key}:{len(metadata[key])}:{metadata[key]}".encode())
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"{name}:{tensor.dtype.str}:{tensor.shape}:".encode())
        digest.update(tensor.data)
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------------------------ saving
def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator to a file. The same as ``model.save(path)``.

    Parameters
    ----------
    model : RNNAnomalyDetector, RNNClassifier, RNNForecaster, RNNLanguageModel, RNNRegressor, RNNSeq2Seq or RNNTagger
        A fitted estimator. A `random_state` that is a generator is written as None.
    path : str or path-like
        An existing file is replaced, but only when the new one is complete; of a symbolic link the file it points to.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is not an estimator of this package.
    ValueError
        If a parameter or a class label cannot be written.
    OSError
        If the file cannot be written. An existing file is then as it was.

    Notes
    -----
    Of a language model the state of training is written, too, and training goes on from the file as it would have
    without. Of the others the states of the solver and of the random generator are not: training that goes on from a
    file begins with a new solver.
    """
    name = next((name for name, kind in _ESTIMATORS.items() if type(model) is kind), None)
    if name is None:
        raise TypeError(f"expected a model of type {', '.join(_ESTIMATORS)}, got {type(model).__name__}")
    model._check_fitted()
    _check_replaceable(path)
    parameters = model.get_params(deep=False)
    tensors: dict[str, NDArray] = {}
    description = {
        "estimator": name,
        "parameters": {key: _plain(value, f"the parameter {key}", tensors) for key, value in parameters.items()},
        "network": network_settings(model._network),
    }
    if isinstance(model, _WITH_STATE):
        description["state"] = _plain(model._to_state(), f"the state of the {name}", tensors)
    else:
        attributes = {key: getattr(model, key) for key in _ATTRIBUTES if hasattr(model, key)}
        description["attributes"] = {key: _plain(value, f"the attribute {key}") for key, value in attributes.items()}
    if isinstance(model, RNNLanguageModel):
        description["training"], arrays = checkpoint(model._state, model._random)
        tensors |= {_TENSOR_OF_TRAINING + key: np.ascontiguousarray(array) for key, array in arrays.items()}
    tensors |= {key: np.ascontiguousarray(array) for key, array in model._network.parameters.items()}
    metadata = {
        "format": "numrnn",
        "format_version": str(FORMAT_VERSION),
        "numrnn_version": numrnn.__version__,
        "model": json.dumps(description),
    }
    metadata["checksum"] = _checksum(metadata, tensors)
    _write_atomically(path, serialize(tensors, metadata))


def _check_replaceable(path: str | os.PathLike[str]) -> None:
    """Refuse the name of a folder, a device or a pipe: the new file takes the place of what has the name."""
    name = os.fsdecode(path)
    if os.path.isdir(name):
        raise IsADirectoryError(errno.EISDIR, "a model is saved to a file, but this is a folder", name)
    if os.path.exists(name) and not os.path.isfile(name):
        raise FileExistsError(
            errno.EEXIST, "a model is saved to a regular file, but this is a device, a pipe or a socket", name
        )


def _write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file beside the final one, then give it its name: no moment at which the name stands for half a file."""
    target = os.path.realpath(os.fsdecode(path))
    directory, base = os.path.split(target)
    temporary = os.path.join(directory, f".{base}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    # The new name is an entry of the directory, which is written in its own time unless told otherwise.
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# ----------------------------------------------------------------------------------------------------------- loading
def load(path: str | os.PathLike[str]) -> Any:
    """Read an estimator that `save` has written.

    Nothing in the file is executed and nothing is imported by a name in it.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    model : RNNAnomalyDetector, RNNClassifier, RNNForecaster, RNNLanguageModel, RNNRegressor, RNNSeq2Seq or RNNTagger
        A fitted estimator that predicts bit for bit what the saved one did.

    Raises
    ------
    ModelFileError
        If the file is truncated, altered, of a newer version of the format, or something else altogether.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import os, tempfile, numpy as np, numrnn
    >>> X, y = np.eye(4), np.array(["a", "b", "b", "a"])
    >>> model = numrnn.RNNClassifier((4,), max_iter=2, tol=0.0, random_state=0).fit(X, y)
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> model.save(path)
    >>> bool((numrnn.load(path).predict(X) == model.predict(X)).all())
    True
    """
    name = os.fsdecode(path)
    with open(name, "rb"):  # the usual errors for a file that is missing, a directory or not readable
        pass
    try:
        with safe_open(name, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelFileError(f"{name!r} is not a model file, or is truncated or damaged: {error}") from error
    try:
        return _rebuild(metadata, tensors)
    except ModelFileError as error:
        raise ModelFileError(f"{name!r} cannot be read: {error}") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError) as error:
        raise ModelFileError(f"{name!r} cannot be read, its contents do not make a model: {error}") from error


def _rebuild(metadata: Mapping[str, str], tensors: Mapping[str, NDArray]) -> Any:
    if metadata.get("format") != "numrnn":
        raise ModelFileError("it is a safetensors file, but not one that numrnn has written")
    version = metadata.get("format_version", "")
    if not version.isdecimal():
        raise ModelFileError(f"its format version should be a whole number, found {version!r}")
    if int(version) > FORMAT_VERSION:
        writer = metadata.get("numrnn_version", "(unknown)")
        raise ModelFileError(
            f"it has format version {version}, written by numrnn {writer}; this is numrnn {numrnn.__version__}, which "
            f"reads up to format version {FORMAT_VERSION}: upgrade numrnn to read it"
        )
    if metadata.get("checksum") != _checksum(metadata, tensors):
        raise ModelFileError("its checksum does not match its contents: it has been altered since it was written")
    description = json.loads(metadata["model"])
    if description["estimator"] not in _ESTIMATORS:
        raise ModelFileError(f"unknown estimator {description['estimator']!r}, expected one of {sorted(_ESTIMATORS)}")
    kind = _ESTIMATORS[description["estimator"]]
    parameters = {key: _value(plain, tensors) for key, plain in description["parameters"].items()}
    attributes = {key: _value(plain, {}) for key, plain in description.get("attributes", {}).items()}
    expected = set(kind._get_param_names())
    missing, unknown = expected - set(parameters), set(parameters) - expected
    if int(version) < FORMAT_VERSION:
        # Parameters that are younger than the file have their defaults: what the estimator did without them.
        missing = set()
        attributes = {**_BEFORE_VERSION_2, **attributes}
    if missing or unknown:
        raise ModelFileError(f"parameters {sorted(missing | unknown)} are missing or unknown")
    model = kind(**parameters)
    model._validate_params()
    others = (_TENSOR_OF_PARAMETER, _TENSOR_OF_TRAINING)
    weights = {key: tensor for key, tensor in tensors.items() if not key.startswith(others)}
    # Compared with the tensors that are there before anything of the size that the settings claim is allocated.
    if not _may_fit(description["network"], weights):
        raise ModelFileError("the shapes of its tensors do not fit the network that it describes")
    if isinstance(model, _WITH_STATE):
        model._from_state(
            _value(description["state"], tensors), _network_of(description["network"], weights, model.n_jobs)
        )
        return model
    _restore_attributes(model, attributes)
    if isinstance(model, RNNSeq2Seq):
        _restore_encoder_decoder(model, description["network"], weights)
    else:
        _restore_network(model, description["network"], weights)
    if isinstance(model, RNNLanguageModel):
        begin = len(_TENSOR_OF_TRAINING)
        arrays = {key[begin:]: tensor for key, tensor in tensors.items() if key.startswith(_TENSOR_OF_TRAINING)}
        model._restore(*resume(model._network, description["training"], arrays))
    else:
        model._state = TrainingState(
            loss_curve=model.loss_curve_,
            validation_scores=model.validation_scores_ or [],
            best_loss=model.best_loss_,
            n_epochs=len(model.loss_curve_),
            n_samples_seen=model.t_,
        )
    return model


def _restore_attributes(model: Any, attributes: dict[str, Any]) -> None:
    expected = _OF_ALL | _OF[type(model)]
    missing, unknown = expected - _OPTIONAL - set(attributes), set(attributes) - expected
    if missing or unknown:
        raise ModelFileError(f"fitted attributes {sorted(missing | unknown)} are missing or unknown")
    for key, value in attributes.items():
        if not isinstance(value, _ATTRIBUTES[key]):
            raise ModelFileError(f"the fitted attribute {key} has the wrong type, {type(value).__name__}")
        setattr(model, key, value)


def _network_of(settings: dict[str, Any], tensors: Mapping[str, NDArray], n_jobs: int | None) -> Any:
    """The network that is described, with these parameters."""
    network = network_from(settings, n_jobs)
    _fill(network, tensors)
    return network


def _fill(network: Network | EncoderDecoder, tensors: Mapping[str, NDArray]) -> None:
    """Write tensors into the parameters of a network, of which they must be the ones."""
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    if shapes != {key: tuple(shape) for key, shape in network.parameters.shapes.items()}:
        raise ModelFileError("the shapes of its tensors do not fit the network that it describes")
    for key, tensor in tensors.items():
        if tensor.dtype != network.dtype:
            raise ModelFileError(f"the tensor {key} is of type {tensor.dtype}, expected {network.dtype}")
        network.parameters[key][...] = tensor


def _restore_network(model: Any, settings: dict[str, Any], tensors: Mapping[str, NDArray]) -> None:
    embeddings = tuple(tuple(embedding) for embedding in settings.get("embeddings", ()))
    of_network = (settings["n_outputs"], settings["input_size"], embeddings, settings["pooling"] is None)
    if of_network != _form_by_attributes(model):
        raise ModelFileError("the network that it describes does not fit its fitted attributes")
    model._network = _network_of(settings, tensors, model.n_jobs)
    model.n_parameters_ = model._network.n_parameters


def _restore_encoder_decoder(model: RNNSeq2Seq, settings: dict[str, Any], tensors: Mapping[str, NDArray]) -> None:
    network = network_from(settings, model.n_jobs)
    of_sides = [(side.form, side.size) for side in (model._source, model._target)]
    if of_sides != [(network.source, network.source_size), (network.target, network.target_size)]:
        raise ModelFileError("the network that it describes does not fit its vocabularies")
    _fill(network, tensors)
    model._network = network
    model.n_parameters_ = network.n_parameters


def _form_by_attributes(model: Any) -> tuple[int, int, tuple, bool]:
    """Outputs, inputs, embeddings, and whether there is an output for every step, as the fitted attributes have it."""
    if isinstance(model, RNNLanguageModel):
        n_symbols = len(model.symbols_)
        return n_symbols, 1, ((0, n_symbols, int(model.embedding_dim)),), True
    n_outputs = model.n_outputs_ if isinstance(model, RNNRegressor) else len(model.classes_)
    return n_outputs, model._input_size, model._embeddings, model._per_step


def _may_fit(settings: dict[str, Any], weights: Mapping[str, NDArray]) -> bool:
    """Whether a network of these settings is at most as large as the tensors say."""
    if "decoder_sizes" not in settings:
        return _claimed_sizes(settings) == _sizes_of_tensors(settings, weights)
    # Where a side has no ids, the size of their vectors says nothing.
    unused = {f"{side}_embedding" for side in ("source", "target") if settings[side] != "ids"}
    claimed = [value for key, value in settings.items() if isinstance(value, int) and key not in unused]
    layers = [*settings["encoder_sizes"], *settings["decoder_sizes"]]
    largest = max((max(tensor.shape, default=1) for tensor in weights.values()), default=0)
    return len(layers) <= len(weights) and all(value <= largest for value in (*claimed, *layers))


def _claimed_sizes(settings: dict[str, Any]) -> list[int]:
    """What the description of a network says about the sizes of its tensors."""
    embeddings, convolutions = settings.get("embeddings", []), settings.get("convolutions", [])
    sizes = [size for _, rows, dim in embeddings for size in (rows, dim)]
    width = settings["input_size"] - len(embeddings) + sum(dim for _, _, dim in embeddings)
    channels = 1
    for convolution in convolutions:
        filters, kernel_size = convolution["filters"], convolution["kernel_size"]
        sizes += [filters, kernel_size]
        if convolution["kind"] == "1d":
            width, channels = filters, 1
        else:
            width = -(-(width // convolution.get("channels", channels)) // convolution["pool_size"]) * filters
            channels = filters
    return [*sizes, width, *settings["hidden_sizes"], settings["n_outputs"]]


def _sizes_of_tensors(settings: dict[str, Any], tensors: Mapping[str, NDArray]) -> list[int]:
    """The same, as the tensors have them."""
    sizes: list[int] = []
    for number in range(len(settings.get("embeddings", []))):
        sizes += tensors[f"embedding_{number}"].shape
    for number in range(len(settings.get("convolutions", []))):
        shape = tensors[f"conv_weight_{number}"].shape
        sizes += [shape[0], shape[-1]]
    layers = range(len(settings["hidden_sizes"]))
    recurrent = [tensors[f"weight_hh_l{layer}"].shape[1] for layer in layers]
    outputs = tensors["embedding_0" if settings.get("tied_weights") else "weight_out"]
    return [*sizes, tensors["weight_ih_l0"].shape[1], *recurrent, outputs.shape[0]]
