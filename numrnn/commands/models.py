"""`numrnn fit`, `predict` and `info`: models of the sequences in tables, and what is in a model file."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.commands import forecast
from numrnn.commands.arguments import add_command, add_network, add_table, check_folder, positive, share, tell
from numrnn.commands.sequences import Samples, read_samples, read_targets
from numrnn.commands.series import add_series, format_times
from numrnn.commands.tables import Table, pluralize, read_table, write_csv, write_json

__all__ = ["add", "run"]

_MOST_LISTED = 12

_FORMS = """
A table has one of two forms. Without --id every row is a sequence of one feature, and its columns are the time steps;
empty cells at the end of a row make a shorter sequence. With --id every row is a time step, its columns are the
features, and the rows with one name are a sequence; with --per-step each of these rows has a target of its own, and
the only feature may be words.
"""
_FIT_EXAMPLES = (
    """examples:
  numrnn fit gestures.csv --target gesture --save gestures.model
  numrnn fit sensors.csv --id run --time second --target fault --cell gru --units 32 32 --save faults.model
  numrnn fit runs.parquet --id run --target duration --task regression --save duration.model
  numrnn fit words.csv --id sentence --features word --target tag --per-step --bidirectional --save tags.model
  numrnn predict gestures.model new-gestures.csv --probabilities > classes.csv
"""
    + _FORMS
)
_PREDICT_EXAMPLES = """examples:
  numrnn predict gestures.model new-gestures.csv
  numrnn predict faults.model runs.csv --id run --time second --probabilities
  numrnn predict tags.model words.csv --id sentence
  numrnn predict air.model air-of-today.csv --horizon 12 --plot air.png

By a classifier or a regressor: a line for every sequence of a table in the form that it was fitted with. By a model
with a target for every time step, such as a tagger: a line for each of them, in the order of the table. By a
forecaster: what follows the last row of a table that goes on with the series; there is no training.
"""
_INFO_EXAMPLES = """examples:
  numrnn info air.model
  numrnn info air.model --format json
  numrnn info
"""


def add(commands: Any) -> None:
    """Add the three commands to those of the parser."""
    fit = add_command(commands, "fit", "train a classifier or a regressor of sequences in a table", _FIT_EXAMPLES)
    add_table(fit)
    fit.add_argument("--target", required=True, metavar="COL", help="what to predict")
    fit.add_argument("--save", type=Path, required=True, metavar="MODEL", help="where to write the model")
    fit.add_argument("--id", metavar="COL", help="the name of the sequence that a row is a time step of")
    fit.add_argument("--time", metavar="COL", help="sort the rows of a sequence by this column")
    fit.add_argument("--per-step", action="store_true", help="every row of a sequence has a target of its own")
    fit.add_argument("--features", nargs="+", metavar="COL", help="columns to read (default: all the others)")
    fit.add_argument(
        "--task",
        choices=("classification", "regression"),
        help="(default: regression if the target has numbers that are not whole, else classification)",
    )
    fit.add_argument(
        "--test",
        type=share,
        default=0.2,
        metavar="P",
        help="share of the sequences, drawn at random, that are not trained on and by which the model is judged "
        "(default: %(default)s)",
    )
    fit.add_argument("--no-scale", action="store_true", help="read features as they are (default: standardised)")
    fit.add_argument(
        "--pooling", choices=("last", "mean", "max", "attention"), default="last", help="over time (default: last)"
    )
    add_network(fit, units=64, epochs=50, learning_rate=5e-3)

    predict = add_command(commands, "predict", "predict with a saved model for the rows of a table", _PREDICT_EXAMPLES)
    predict.add_argument("model", type=Path, metavar="MODEL", help="a file that fit or forecast has written")
    add_table(predict)
    predict.add_argument("--features", nargs="+", metavar="COL", help="columns to read (default: as in training)")
    predict.add_argument("--probabilities", action="store_true", help="of every class, too")
    predict.add_argument("--column", metavar="COL", help="what is forecast (default: as it was called in training)")
    predict.add_argument("--horizon", type=positive, metavar="N", help="time steps to forecast (default: as trained)")
    add_series(predict)
    predict.add_argument("--frequency", metavar="F", help="of the time steps; times that are not there are missing")
    forecast.add_results(predict)
    predict.add_argument("--quiet", action="store_true", help="say nothing on standard error but warnings and errors")

    info = add_command(commands, "info", "say what is in a model file; without one, as show-versions", _INFO_EXAMPLES)
    info.add_argument("model", type=Path, nargs="?", metavar="MODEL")
    info.add_argument("--format", choices=("text", "json"), default="text", help="(default: %(default)s)")


def run(chosen: argparse.Namespace) -> int:
    """Do what the arguments say; the exit status."""
    return {"fit": _fit, "predict": _predict, "info": _info}[chosen.command](chosen)


# ----------------------------------------------------------------------------------------------------------- training
def _fit(chosen: argparse.Namespace) -> int:
    check_folder(chosen.save, "--save")
    table = read_table(chosen.data, chosen.separator)
    table.column(chosen.target)
    if chosen.per_step and chosen.id is None:
        raise ValueError("--per-step needs rows that are time steps: --id must name the column of their sequences")
    samples = read_samples(
        table,
        id=chosen.id,
        time=chosen.time,
        features=chosen.features,
        apart=[chosen.target],
        words=None if chosen.per_step else False,
    )
    task, y = read_targets(table, samples, chosen.target, chosen.task, per_step=chosen.per_step)
    training, test = _split(y, chosen.test, chosen.seed, stratify=task == "classification" and not chosen.per_step)
    classes = np.unique(np.concatenate(y) if chosen.per_step else y)
    what = f"{len(classes)} class{'es' * (len(classes) > 1)}" if task == "classification" else "numbers"
    tell(
        chosen,
        f"{task}{' of time steps' * chosen.per_step}: {pluralize(len(y), 'sequence')} {_lengths(samples)}, {what} in "
        f"{chosen.target!r}; "
        f"{len(test):,} of them to judge the model by",
    )
    model = _estimator(task, chosen)
    X = samples.X
    words = isinstance(X[0], list)
    location, scale = (0.0, 1.0) if chosen.no_scale or words else _scales(X, training)
    with warnings.catch_warnings():
        if chosen.no_scale:
            warnings.filterwarnings("ignore", message="The inputs are not scaled")
        seen = _take(X, training)
        model.fit(seen if words else _scaled(seen, location, scale), _take(y, training))
    if not words:
        _fold(model, location, scale)
    model.feature_names_in_ = np.array(samples.features, dtype=object)
    tell(chosen, f"{pluralize(model.n_iter_, 'epoch')}, {pluralize(model.n_parameters_, 'parameter')}")
    result: dict[str, Any] = {
        "model": chosen.save,
        "task": task,
        "sequences": len(training),
        "epochs": model.n_iter_,
        "loss": float(model.loss_curve_[-1]),
    }
    if len(test):
        result["test"] = _judge(model, task, _take(X, test), _take(y, test), _take(y, training))
    model.save(chosen.save)
    tell(chosen, f"Model written to {chosen.save}.")
    write_json(result)
    return 0


def _lengths(samples: Samples) -> str:
    lengths = sorted({len(sequence) for sequence in samples.X})
    steps = str(lengths[0]) if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
    if isinstance(samples.X[0], list):
        return f"of {steps} words"
    n_features = 1 if np.ndim(samples.X[0]) == 1 else samples.X[0].shape[1]
    return f"of {steps} time steps and {pluralize(n_features, 'feature')}"


def _split(y: Any, fraction: float, seed: int, *, stratify: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    from sklearn.model_selection import train_test_split

    everything = np.arange(len(y))
    if fraction == 0:
        return everything, everything[:0]
    groups = None
    if stratify:  # of every class as large a part, if each has enough for that
        counts = np.unique(y, return_counts=True)[1]
        n_test = int(np.ceil(fraction * len(y)))
        groups = y if counts.min() > 1 and min(n_test, len(y) - n_test) >= len(counts) else None
    training, test = train_test_split(everything, test_size=fraction, random_state=seed, stratify=groups)
    return np.sort(training), np.sort(test)


def _estimator(task: str, chosen: argparse.Namespace) -> Any:
    import numrnn

    kind: Any = numrnn.RNNClassifier if task == "classification" else numrnn.RNNRegressor
    of_whole: dict[str, Any] = {"pooling": chosen.pooling}
    if chosen.per_step:
        if chosen.pooling != "last":
            raise ValueError(f"--pooling {chosen.pooling} joins all time steps, but with --per-step each has a target")
        kind, of_whole = (numrnn.RNNTagger if task == "classification" else kind), {}
    return kind(
        tuple(chosen.units),
        cell=chosen.cell,
        bidirectional=chosen.bidirectional,
        **of_whole,
        dropout=chosen.dropout if len(chosen.units) > 1 else 0.0,
        output_dropout=chosen.dropout,
        batch_size=chosen.batch_size,
        learning_rate="cosine",
        learning_rate_init=chosen.learning_rate,
        max_iter=chosen.epochs,
        random_state=chosen.seed,
        n_jobs=chosen.threads,
        verbose=not chosen.quiet,
    )


def _take(X: Any, numbers: NDArray[np.int64]) -> Any:
    return X[numbers] if isinstance(X, np.ndarray) else [X[number] for number in numbers]


def _scales(X: Any, training: NDArray[np.int64]) -> tuple[Any, Any]:
    """Mean and standard deviation of every feature; of the only one, of all time steps together, in wide form."""
    if isinstance(X, np.ndarray):
        values = X[training].reshape(-1, 1)
    else:
        values = np.concatenate([X[number] for number in training])
    location, scale = values.mean(axis=0), values.std(axis=0)
    return location, np.where(scale > 0, scale, 1.0)


def _scaled(X: Any, location: Any, scale: Any) -> Any:
    if isinstance(X, np.ndarray):
        return (X - location) / scale
    return [(sequence - location) / scale for sequence in X]


def _fold(model: Any, location: Any, scale: Any) -> None:
    """Change the weights so that the network does with features as they are what it did with scaled ones.

    The first layers compute W (x - location) / scale + b, which is (W / scale) x + (b - (W / scale) location).
    """
    parameters = model._network.parameters
    for name in list(parameters):
        if name.startswith("weight_ih_l0"):
            weight = parameters[name]
            folded = weight.astype(np.float64) / scale
            bias = parameters[name.replace("weight", "bias")]
            bias[...] = bias - folded @ np.broadcast_to(location, weight.shape[1:])
            weight[...] = folded


def _judge(model: Any, task: str, X: Any, y: Any, seen: Any) -> dict[str, Any]:
    """How good the model is on sequences that it has not seen, beside the best answer that is always the same."""
    predicted = _quietly(model.predict, X)
    sizes = {"sequences": len(y)}
    if isinstance(y, list):  # a target for every time step
        predicted, y, seen = np.concatenate(list(predicted)), np.concatenate(y), np.concatenate(seen)
        sizes["time_steps"] = len(y)
    if task == "classification":
        classes, counts = np.unique(seen, return_counts=True)
        usual = classes[np.argmax(counts)]
        return {
            **sizes,
            "accuracy": float((predicted == y).mean()),
            "accuracy_of_most_frequent_class": float((y == usual).mean()),
        }
    return {
        **sizes,
        "mean_absolute_error": float(np.abs(predicted - y).mean()),
        "root_mean_squared_error": float(np.sqrt(((predicted - y) ** 2).mean())),
        "mean_absolute_error_of_median": float(np.abs(np.median(seen) - y).mean()),
    }


def _quietly(method: Any, X: Any) -> Any:
    """A prediction for arrays whose columns have been compared by name already."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        return method(X)


# ---------------------------------------------------------------------------------------------------------- prediction
def _predict(chosen: argparse.Namespace) -> int:
    import numrnn

    model, file = numrnn.load(chosen.model), repr(str(chosen.model))
    if isinstance(model, numrnn.RNNForecaster):
        _refuse(chosen, "forecaster", {"--probabilities": chosen.probabilities, "--features": chosen.features})
        forecast.forecast_by_model(model, chosen)
        return 0
    if not isinstance(model, (numrnn.RNNClassifier, numrnn.RNNRegressor, numrnn.RNNTagger)):
        raise ValueError(
            f"{file} is a {type(model).__name__} that predict has no table for; use it from Python"
            + (", or numrnn text" if isinstance(model, numrnn.RNNLanguageModel) else "")
        )
    classifies = not isinstance(model, numrnn.RNNRegressor)
    kind = "regressor" if not classifies else "tagger" if isinstance(model, numrnn.RNNTagger) else "classifier"
    options = {"--column": chosen.column, "--horizon": chosen.horizon, "--plot": chosen.plot}
    options |= {"--no-time": chosen.no_time, "--time-format": chosen.time_format}
    _refuse(chosen, kind, options | ({} if classifies else {"--probabilities": chosen.probabilities}))
    if chosen.time is not None and len(chosen.time) > 1:
        raise ValueError(f"--time {' '.join(chosen.time)}: the rows of a sequence are sorted by one column")
    table, samples = _samples_for(model, chosen, file)
    predicted = _quietly(model.predict, samples.X)
    probabilities = _quietly(model.predict_proba, samples.X) if chosen.probabilities else None
    per_step = isinstance(model, numrnn.RNNTagger) or model._per_step
    rows = (_rows_of_steps if per_step else _rows_of_sequences)(chosen, table, samples, predicted)
    if probabilities is not None:
        if per_step:  # in the order of the table, as the rows are
            order = np.argsort(np.concatenate(samples.rows), kind="stable")
            probabilities = np.concatenate(list(probabilities))[order]
        for row, shares in zip(rows, probabilities, strict=True):
            row |= {f"probability_{name}": p for name, p in zip(model.classes_, shares, strict=True)}
    if chosen.format == "csv":
        write_csv(rows)
    else:
        write_json({"predictions": rows})
    return 0


def _samples_for(model: Any, chosen: argparse.Namespace, file: str) -> tuple[Table, Samples]:
    """The sequences in the table, in the form that the model was fitted on."""
    words = getattr(model, "_words", None) is not None
    wide = model._input_size == 1 and chosen.id is None and not words
    if not wide and chosen.id is None:
        what = "a word" if words else pluralize(model._input_size, "feature")
        raise ValueError(
            f"{file} reads {what} in every time step, a row for each: --id must name the column that says which "
            "sequence a row belongs to"
        )
    table = read_table(chosen.data, chosen.separator)
    names = getattr(model, "feature_names_in_", None)
    features = chosen.features
    if features is None and names is not None:
        features = [str(name) for name in names]
    samples = read_samples(
        table, id=chosen.id, time=chosen.time[0] if chosen.time else None, features=features, words=words
    )
    if words:
        return table, samples
    X = samples.X
    if X[0].ndim == 2 and X[0].shape[1] != model._input_size:
        raise ValueError(
            f"{file} reads {pluralize(model._input_size, 'feature')} in every time step, but the table has "
            f"{X[0].shape[1]}: {', '.join(samples.features)}"
        )
    if not model._univariate_columns and isinstance(X, np.ndarray):
        samples.X = list(X[:, :, np.newaxis])  # fitted on sequences of several lengths
    if model._univariate_columns and not isinstance(X, np.ndarray):
        short = next(row for row, sequence in enumerate(X) if len(sequence) < len(samples.features))
        raise ValueError(
            f"{table.name}: {table.place(short)} has {len(X[short])} time steps, but {file} was fitted on "
            f"sequences of {len(samples.features)}"
        )
    return table, samples


def _rows_of_sequences(chosen: argparse.Namespace, table: Table, samples: Samples, predicted: Any) -> list[Any]:
    label = chosen.id or "row"
    return [{label: name, "prediction": value} for name, value in zip(samples.names, predicted, strict=True)]


def _rows_of_steps(chosen: argparse.Namespace, table: Table, samples: Samples, predicted: Any) -> list[Any]:
    """A row for every time step: in long form as they stand in the table, in wide form one sequence after the other."""
    if chosen.id is None:
        return [
            {"row": name, "step": column, "prediction": value}
            for name, values in zip(samples.names, predicted, strict=True)
            for column, value in zip(samples.features, values, strict=False)  # the end of a row may be empty
        ]
    place = np.concatenate(samples.rows)
    names = [name for name, rows in zip(samples.names, samples.rows, strict=True) for _ in rows]
    values = np.concatenate(list(predicted))
    shown = [*(chosen.time or ()), *(samples.features if isinstance(samples.X[0], list) else ())]
    texts = {column: table.texts(column) for column in shown}
    return [
        {chosen.id: names[n]} | {column: cells[place[n]] for column, cells in texts.items()} | {"prediction": values[n]}
        for n in np.argsort(place, kind="stable")
    ]


def _refuse(chosen: argparse.Namespace, kind: str, options: dict[str, Any]) -> None:
    for option, value in options.items():
        if value:
            raise ValueError(f"{str(chosen.model)!r} is a {kind}, for which there is no {option}")


# --------------------------------------------------------------------------------------------------------- description
def _info(chosen: argparse.Namespace) -> int:
    if chosen.model is None:
        from numrnn.commands import versions

        result = versions.versions()
    else:
        result = _describe(chosen.model)
    if chosen.format == "json":
        write_json(result)
    else:
        width = max(map(len, result)) + 2
        for name, value in result.items():
            print(f"{name:<{width}}{_text(value)}")
    return 0


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple, np.ndarray)):
        if len(value) > _MOST_LISTED:
            return f"{value[0]}, {value[1]}, ..., {value[-1]} ({len(value)})"
        return ", ".join(map(_text, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _describe(path: Path) -> dict[str, Any]:
    import numrnn

    model = numrnn.load(path)
    network = model._network
    result: dict[str, Any] = {
        "model": type(model).__name__,
        "cell": network.cell,
        "units": [int(size) for size in network.hidden_sizes],
        "bidirectional": bool(network.bidirectional),
        "features of a time step": int(network.input_size),
        "parameters": int(network.n_parameters),
        "type": np.dtype(network.dtype).name,
        "file": f"{path.stat().st_size:,} bytes",
    }
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        result["columns"] = [str(name) for name in names]
    if hasattr(model, "classes_") and np.ndim(model.classes_) == 1:
        result["classes"] = [
            element.item() if isinstance(element, np.generic) else element for element in model.classes_
        ]
    if isinstance(model, numrnn.RNNForecaster):
        form = model._history.forms[0]
        result |= {
            "horizon": int(model.horizon),
            "window": int(model.window_length),
            "series": int(model.n_series_),
        }
        if model._covariate_names:
            result["covariates"] = [str(name) for name in model._covariate_names]
        if hasattr(form, "last"):
            result["last time"] = format_times([form.last])[0]
    if hasattr(model, "symbols_"):
        result["symbols"] = len(model.symbols_)
    result |= {"epochs": int(model.n_iter_), "training loss": float(f"{model.loss_curve_[-1]:.6g}")}
    return result
