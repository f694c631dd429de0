"""Large products by cuBLAS, through CuPy where it is installed: the products of whole sequences take most operations.

CuPy is chosen because it is the best kept door to cuBLAS, comes as a wheel, and works in the same (primary) context and
on the same streams as Numba. Arithmetic is that of float32 and float64, unless `availability.products` says that
float32 matrices are to be multiplied on tensor cores: every call then says so itself, and handles stay as they are.
Results are the same bits in every run, as long as one handle serves one stream at a time.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import warnings
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from numrnn.kernels.cuda.availability import products
from numrnn.kernels.cuda.grids import SIMULATED

__all__ = ["ColumnMajor", "column_major", "has_blas", "multiply_by_blas"]


# As cublas_api.h and library_types.h number them: float32 matrices that tensor cores read with fewer bits of mantissa,
# and sum in float32; the type of such matrices; the algorithm that cuBLAS chooses.
_COMPUTE_TYPES = {"tf32": 77, "bfloat16": 75}
_FLOAT32_MATRIX = 0
_ANY_ALGORITHM = -1


class ColumnMajor(NamedTuple):
    """A product as cuBLAS wants it: all matrices by columns, that is the transposed product of the transposed factors.

    first and second say which factor of the row-major product ("a" or "b") comes first, and whether it is transposed.
    """

    first_transposed: bool
    second_transposed: bool
    m: int
    n: int
    k: int


def column_major(a_transposed: bool, b_transposed: bool, sizes: tuple[int, int, int]) -> ColumnMajor:
    """out = a @ b by rows is out' = b' @ a' by columns: b comes first, and what lay transposed by rows still does."""
    m, n, k = sizes
    return ColumnMajor(b_transposed, a_transposed, n, m, k)


@cache
def has_blas() -> bool:
    """Whether products go to cuBLAS. A CuPy that does not find it is worth a warning: the products here are slower.

    Raises
    ------
    RuntimeError
        If products on tensor cores were asked for, and there is no cuBLAS to do them.
    """
    found = not SIMULATED and _finds_blas()
    if not found and products() != "float32" and not SIMULATED:
        raise RuntimeError(
            f"NUMRNN_CUDA_PRODUCTS={products()} needs cuBLAS through CuPy, which was not found: "
            "pip install 'numrnn[cuda]'"
        )
    return found


def _finds_blas() -> bool:
    if find_spec("cupy") is None:
        return False
    try:
        from cupy.cuda import cublas
    except ImportError as error:
        warnings.warn(
            f"CuPy does not find cuBLAS, numrnn's own products are used: {error}", RuntimeWarning, stacklevel=2
        )
        return False
    return cublas is not None


@cache
def _numbers(dtype_name: str) -> tuple[Any, Any]:
    """One and zero in the host's memory."""
    return np.ones(1, dtype=dtype_name), np.zeros(1, dtype=dtype_name)


@cache
def _external_stream(pointer: int) -> Any:
    import cupy

    return cupy.cuda.ExternalStream(pointer)


def _address(array: Any, first: int) -> int:
    return int(array.__cuda_array_interface__["data"][0]) + first * array.dtype.itemsize


def multiply_by_blas(queue, a, a_pitch, b, b_pitch, out, out_pitch, sizes, accumulate, arithmetic=None):
    """As `matrices.multiply`, with the elements from row to row of each; arithmetic is None for that of `products`."""
    from cupy.cuda import cublas, device

    form = column_major(a[2], b[2], sizes)
    single = a[0].dtype == np.float32
    one, zero = _numbers(a[0].dtype.name)
    head = (
        device.get_cublas_handle(), int(form.first_transposed), int(form.second_transposed), form.m, form.n, form.k,
        one.ctypes.data,
    )  # fmt: skip
    first, second, target = _address(b[0], b[1]), _address(a[0], a[1]), _address(out[0], out[1])
    factor = (one if accumulate else zero).ctypes.data
    compute_type = _COMPUTE_TYPES.get(arithmetic or products()) if single else None
    with _external_stream(int(queue.handle)):
        if compute_type is None:
            gemm = cublas.sgemm if single else cublas.dgemm
            gemm(*head, first, b_pitch, second, a_pitch, factor, target, out_pitch)
        else:
            kind = _FLOAT32_MATRIX
            cublas.gemmEx(
                *head, first, kind, b_pitch, second, kind, a_pitch, factor, target, kind, out_pitch, compute_type,
                _ANY_ALGORITHM,
            )  # fmt: skip
