"""exp, sigmoid, tanh and relu against 60 decimal digits, as vectors of every width and as scalars.

The width of a vector is chosen once per process, so this file is also a small program: given a file of numbers it
applies every activation to them, as vectors and as scalars, and writes the results.
"""

from __future__ import annotations

import decimal
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

UNITS_IN_THE_LAST_PLACE = 4
FUNCTIONS = ("exp", "sigmoid", "tanh", "relu")
DTYPES = ("float32", "float64")
WIDTHS = (128, 256, 512)


# ------------------------------------------------------------------------------------------------------- the program
def _apply_all(source: Path, target: Path) -> None:
    from numba import njit

    from numrnn.kernels import activations
    from numrnn.kernels.simd import VECTOR_BITS, lanes, load, store

    results = {"width": np.array(VECTOR_BITS)}
    with np.load(source) as inputs:
        arrays = dict(inputs)
    for name in FUNCTIONS:
        function = getattr(activations, name)

        @njit(error_model="numpy")
        def on_vectors(x, y, function=function):
            for i in range(0, x.size, lanes(x)):
                store(y, i, function(load(x, i)))

        @njit(error_model="numpy")
        def on_scalars(x, y, function=function):
            for i in range(x.size):
                y[i] = function(x[i])

        for dtype, x in arrays.items():
            for way, apply in (("vector", on_vectors), ("scalar", on_scalars)):
                padded = np.concatenate([x, np.zeros(-x.size % 16, x.dtype)])
                y = np.full_like(padded, -7)
                apply(padded, y, function)
                results[f"{name}_{way}_{dtype}"] = y[: x.size]
    np.savez(target, **results)


if __name__ == "__main__":
    _apply_all(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.exit(0)


# ---------------------------------------------------------------------------------------------------------- the points
def points(dtype: str) -> np.ndarray:
    """Both signs of magnitudes over the whole range, and the neighbours of every place where something changes."""
    info = np.finfo(dtype)
    rng = np.random.default_rng(5)
    top = np.log(float(info.max))
    turning = np.array(
        [top, -np.log(float(info.tiny)), top - np.log(2), *np.arange(1, 24) * np.log(2) / 2, 0.625, 9.01, 17.33]
    )
    # All magnitudes, from the smallest denormal number to the largest number.
    exponents = rng.uniform(np.log2(float(info.smallest_subnormal)), np.log2(float(info.max)), 300)
    positive = np.concatenate(
        [
            np.linspace(0.01, 1.1 * top, 600),
            rng.uniform(0, 3, 300),
            rng.uniform(0, 30, 300),
            2.0**exponents,
            [0, float(info.tiny), float(info.smallest_subnormal), float(info.max), float(info.eps), 0.25, 1, 2, np.inf],
        ]
    ).astype(dtype)
    near = turning.astype(dtype)
    for _ in range(3):
        near = np.concatenate(
            [near, np.nextafter(near, dtype_inf := np.array(np.inf, dtype)), np.nextafter(near, -dtype_inf)]
        )
        near = np.unique(near)
    positive = np.unique(np.concatenate([positive, near]))
    return np.concatenate([positive, -positive, np.array([np.nan], dtype)])


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    return {dtype: points(dtype) for dtype in DTYPES}


@pytest.fixture(scope="module", params=WIDTHS, ids=lambda bits: f"{bits}bit")
def results(request, inputs, tmp_path_factory) -> dict[str, np.ndarray]:
    directory = tmp_path_factory.mktemp(f"width{request.param}")
    np.savez(directory / "inputs.npz", **inputs)
    root = Path(__file__).parent.parent
    environment = {
        **os.environ,
        "NUMRNN_VECTOR_BITS": str(request.param),
        "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, __file__, str(directory / "inputs.npz"), str(directory / "results.npz")]
    subprocess.run(command, check=True, env=environment, cwd=directory)
    with np.load(directory / "results.npz") as file:
        results = dict(file)
    assert results["width"] == request.param
    return results


# ------------------------------------------------------------------------------------------------------- the reference
_EXACT = decimal.Context(prec=60, Emin=-999999, Emax=999999)


def exact(name: str, x: float) -> decimal.Decimal:
    """60 digits of the function of a finite number."""
    d, one = decimal.Decimal(x), decimal.Decimal(1)
    if name == "relu":
        return max(d, decimal.Decimal(0))
    if name == "tanh":
        if abs(x) < 1e-12:
            return _EXACT.multiply(d, _EXACT.subtract(one, _EXACT.divide(d * d, decimal.Decimal(3))))
        if abs(x) > 1000:
            return one.copy_sign(d)
        e = _EXACT.exp(_EXACT.multiply(decimal.Decimal(2), d))
        return _EXACT.divide(_EXACT.subtract(e, one), _EXACT.add(e, one))
    if abs(x) > 10000:  # far beyond what any float can hold
        return decimal.Decimal(0) if x < 0 else (one if name == "sigmoid" else decimal.Decimal("Infinity"))
    e = _EXACT.exp(d)
    return e if name == "exp" else _EXACT.divide(e, _EXACT.add(one, e))


@pytest.fixture(scope="module")
def references(inputs) -> dict[tuple[str, str], list[decimal.Decimal]]:
    return {
        (name, dtype): [exact(name, float(x)) for x in inputs[dtype] if np.isfinite(x)]
        for name in FUNCTIONS
        for dtype in DTYPES
    }


def test_the_reference_itself(references, inputs):
    x = inputs["float32"][np.isfinite(inputs["float32"])].astype(np.float64)
    with np.errstate(over="ignore"):
        for name, function in (("exp", np.exp), ("tanh", np.tanh), ("sigmoid", lambda x: 1 / (1 + np.exp(-x)))):
            theirs = function(x)
            ours = np.array([float(value) for value in references[name, "float32"]])
            np.testing.assert_allclose(ours, theirs, rtol=1e-14)


# ------------------------------------------------------------------------------------------------------- the properties
every_one = pytest.mark.parametrize("name", FUNCTIONS)
every_way = pytest.mark.parametrize("way", ["vector", "scalar"])
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


@every_one
@every_way
@every_dtype
def test_accuracy_over_the_whole_range(results, references, inputs, name, way, dtype):
    finite = np.isfinite(inputs[dtype])
    x, y = inputs[dtype][finite], results[f"{name}_{way}_{dtype}"][finite]
    info = np.finfo(dtype)
    tiny, largest = decimal.Decimal(float(info.tiny)), decimal.Decimal(float(info.max))
    worst = (0.0, 0.0)
    for argument, value, truth in zip(x, y, references[name, dtype], strict=True):
        if abs(truth) > largest:
            # Within rounding of the largest number either answer is right.
            assert value == np.inf or (value == info.max and truth < largest * decimal.Decimal(1 + 1e-6)), argument
        elif abs(truth) < tiny and name != "tanh" and name != "relu":
            assert 0 <= value <= info.tiny, f"{name}({argument!r}) = {value!r}"
        else:
            unit = decimal.Decimal(float(np.spacing(np.minimum(np.abs(np.array(float(truth), dtype)), info.max / 2))))
            error = float(abs(decimal.Decimal(float(value)) - truth) / unit)  # infinite if the value is
            worst = max(worst, (error, float(argument)))
    assert worst[0] <= UNITS_IN_THE_LAST_PLACE, f"{name}({worst[1]!r}) is wrong by {worst[0]:.2f} units"


@every_way
@every_dtype
def test_special_values(results, inputs, way, dtype):
    x = inputs[dtype]

    def at(argument):
        place = np.flatnonzero(x == argument)[0]
        return [float(results[f"{name}_{way}_{dtype}"][place]) for name in ("exp", "sigmoid", "tanh", "relu")]

    assert [at(0.0), at(np.inf), at(-np.inf)] == [
        [1.0, 0.5, 0.0, 0.0],
        [np.inf, 1.0, 1.0, np.inf],
        [0.0, 0.0, -1.0, 0.0],
    ]


@every_one
@every_way
@every_dtype
def test_not_a_number_stays_so_and_nothing_else_becomes_it(results, inputs, name, way, dtype):
    np.testing.assert_array_equal(np.isnan(results[f"{name}_{way}_{dtype}"]), np.isnan(inputs[dtype]))


@every_way
@every_dtype
def test_tanh_is_odd_and_bounded(results, inputs, way, dtype):
    y = results[f"tanh_{way}_{dtype}"][:-1]
    positive, negative = np.split(y, 2)
    np.testing.assert_array_equal(positive, -negative)
    assert (np.abs(y) <= 1).all()
    np.testing.assert_array_equal(np.signbit(y), np.signbit(inputs[dtype][:-1]))  # -0 too


@every_way
@every_dtype
def test_sigmoid_is_a_probability(results, way, dtype):
    y = results[f"sigmoid_{way}_{dtype}"][:-1]
    assert ((y >= 0) & (y <= 1)).all()


def test_float32_is_computed_in_float32(results):
    for name in FUNCTIONS:
        assert results[f"{name}_vector_float32"].dtype == np.float32


def test_an_unknown_width_is_refused(tmp_path):
    environment = {**os.environ, "NUMRNN_VECTOR_BITS": "100", "PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.run(
        [sys.executable, "-c", "import numrnn.kernels.simd"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert process.returncode != 0
    assert "NUMRNN_VECTOR_BITS must be 128, 256 or 512, got '100'" in process.stderr
