"""Who may import whom, read from the sources."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "numrnn"

# From the ground up. A module imports its own level (only within its own entry) and the levels before it; what is not
# listed is an edge: it may import everything, and nothing listed may import it.
LEVELS = (
    ("numrnn.parameters",),
    ("numrnn.packing",),
    ("numrnn.buffers",),
    ("numrnn.reading",),
    ("numrnn.kernels.simd", "numrnn.kernels.simd_interpreted", "numrnn.kernels.jit"),
    (
        "numrnn.kernels.activations",
        "numrnn.kernels.barrier",
        "numrnn.kernels.memory",
        "numrnn.kernels.pointers",
        "numrnn.kernels.subnormals",
    ),
    ("numrnn.workers",),
    (
        "numrnn.kernels.equations",
        "numrnn.kernels.losses",
        "numrnn.kernels.random",
        "numrnn.kernels.stream_layout",
        "numrnn.kernels.updates",
    ),
    ("numrnn.kernels.cpu", "numrnn.kernels.cuda"),
    ("numrnn.crf",),
    ("numrnn.attention",),
    ("numrnn.bfloat16",),
    ("numrnn.direction",),
    ("numrnn.stack",),
    ("numrnn.checks",),
    ("numrnn.compiled",),
    ("numrnn.layers",),
    ("numrnn.dropout",),
    ("numrnn.stages",),
    ("numrnn.embedding",),
    ("numrnn.projection",),
    ("numrnn.convolution",),
    ("numrnn.trunk",),
    ("numrnn.windows",),
    ("numrnn.readout",),
    ("numrnn.softmax",),
    ("numrnn.heads",),
    ("numrnn.backpropagation",),
    ("numrnn.network",),
    ("numrnn.seq2seq",),
    ("numrnn.training",),
    ("numrnn.cuda",),
    ("numrnn.devices",),
    ("numrnn.text",),
    ("numrnn.estimators",),
    ("numrnn.forecasting",),
)
# A model has a method that saves it, a layer a device that it computes on; both are called when they are used, not when
# the module is imported.
EXCEPTIONS = {
    ("numrnn.layers", "numrnn.cuda.layers"),
    ("numrnn.estimators.base", "numrnn.persistence"),
    ("numrnn.estimators.seq2seq", "numrnn.persistence"),
    ("numrnn.forecasting.keeping", "numrnn.persistence"),
}
KNOW_ONLY_NUMPY = ("numrnn.parameters", "numrnn.packing", "numrnn.reading")

# Third-party packages and the only modules that may name them. NumPy is at home everywhere.
DOORS = {
    "numba": ("numrnn.kernels",),
    "llvmlite": ("numrnn.kernels",),
    "scipy": (
        "numrnn.compiled",
        "numrnn.training",
        "numrnn.estimators",
        "numrnn.inspection",
        "numrnn.forecasting",
        "numrnn.anomaly",
    ),
    "sklearn": (
        "numrnn.estimators",
        "numrnn.text",
        "numrnn.steps",
        "numrnn.pipelines",
        "numrnn.language",
        "numrnn.metrics",
        "numrnn.datasets",
        "numrnn.demo",
        "numrnn.inspection",
        "numrnn.forecasting",
        "numrnn.commands.models",
        "numrnn.anomaly",
    ),
    "joblib": ("numrnn.estimators",),
    "threadpoolctl": ("numrnn.training",),
    "matplotlib": ("numrnn.plots",),
    "pandas": ("numrnn.forecasting.frames", "numrnn.forecasting.sktime", "numrnn.commands.tables"),
    "pyarrow": ("numrnn.commands.tables",),
    "cupy": ("numrnn.kernels.cuda.blas",),
    "safetensors": ("numrnn.persistence",),
    "sentencepiece": ("numrnn.estimators.subwords",),
    "sktime": ("numrnn.forecasting.sktime",),
    "tqdm": ("numrnn.training.progress",),
}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str) -> set[str]:
    """Full names of all modules that one imports, in functions and under TYPE_CHECKING too."""
    path, found = MODULES[name], set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name if path.name == "__init__.py" else name.rpartition(".")[0]
                base = importlib.util.resolve_name("." * node.level + base, package)
            submodules = {f"{base}.{alias.name}" for alias in node.names} & MODULES.keys()
            only_submodules = len(submodules) == len(node.names)
            found |= submodules if only_submodules else submodules | {base}
    return found


def within(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(place + ".") for place in places)


def level(name: str) -> int:
    for number, places in enumerate(LEVELS):
        if within(name, places):
            return number
    return len(LEVELS)


def test_the_sources_are_found():
    assert {"numrnn", "numrnn.packing", "numrnn.stack", "numrnn.kernels.cpu.recurrent"} <= MODULES.keys()
    assert "numrnn.kernels.jit" in imports("numrnn.kernels.cpu.recurrent")
    assert level("numrnn.kernels.cpu.recurrent") < level("numrnn.stack") < level("numrnn.plots")


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_downwards(name):
    if name == "numrnn":  # the public names are gathered there
        return
    for other in sorted(imports(name)):
        if other == "numrnn.kernels" or other.split(".")[0] != "numrnn" or (name, other) in EXCEPTIONS:
            continue
        if other == "numrnn":
            assert level(name) == len(LEVELS), f"{name} imports the public names; only the edges may"
            continue
        assert level(other) <= level(name), f"{name} imports {other}, which stands above it"
        if within(name, KNOW_ONLY_NUMPY):
            pytest.fail(f"{name} imports {other}, but knows only numpy")


@pytest.mark.parametrize("name", MODULES)
def test_cpu_and_cuda_do_not_know_each_other(name):
    for one, other in (("numrnn.kernels.cpu", "numrnn.kernels.cuda"), ("numrnn.kernels.cuda", "numrnn.kernels.cpu")):
        if within(name, (one,)):
            assert not any(within(imported, (other,)) for imported in imports(name)), f"{name} imports {other}"


@pytest.mark.parametrize("name", MODULES)
def test_third_party_packages_come_in_by_their_own_door(name):
    for other in sorted(imports(name)):
        package = other.split(".")[0]
        if package in ("numrnn", "numpy", "__future__") or package in sys.stdlib_module_names:
            continue
        assert package in DOORS, f"{name} imports {other}, which is not a dependency of this package"
        assert within(name, DOORS[package]), f"{name} imports {other}; only {DOORS[package]} may"
        assert not within(name, KNOW_ONLY_NUMPY)


def test_importing_the_package_imports_nothing_optional():
    program = """
import sys
import numrnn
print(*(name for name in ("sklearn", "numba", "tqdm", "safetensors") if name in sys.modules))
numrnn.LSTM
print(*(name for name in ("sklearn", "pandas") if name in sys.modules))
numrnn.RNNClassifier
print(*(name for name in ("matplotlib", "torch", "numba.cuda", "cuda") if name in sys.modules))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True, timeout=120
    )
    assert process.stdout.split() == []
