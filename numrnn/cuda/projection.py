"""Products of rows with one weight of a decoder, and their gradients, on the device."""

from __future__ import annotations

from typing import Any

from numrnn.kernels.cuda.arrays import DeviceArrays, add_columns, spread
from numrnn.kernels.cuda.matrices import multiply
from numrnn.parameters import Parameters
from numrnn.seq2seq.projection import Projection

__all__ = ["DeviceProjection", "Place"]

# A matrix: a flat array, the element at which it begins, and the elements from row to row.
Place = tuple[Any, int, int]


class DeviceProjection:
    """``y = x @ weight.T + bias`` of `Projection`, with rows that are not padded.

    Parameters
    ----------
    projection : Projection
        Of the host, for its form.
    names : Parameters
        Where the parameters lie in the flat vector.
    arrays : DeviceArrays
    queue
    """

    def __init__(self, projection: Projection, names: Parameters, arrays: DeviceArrays, queue: Any) -> None:
        self.n_outputs = len(projection.blocks) * projection.size
        self.n_inputs = projection.input_size
        self.weight = names.span(projection.weight).start
        self.bias = None if projection.bias is None else names.span(projection.bias).start
        self._arrays = arrays
        self._queue = queue

    def begin(self, parameters: Any, y: Any, n_rows: int) -> None:
        """Write the bias to the rows of y, to which `add` adds."""
        assert self.bias is not None
        spread(self._queue, parameters, self.bias, self.n_outputs, y, n_rows)

    def apply(self, parameters: Any, x: Place, n_rows: int, y: Any) -> None:
        """Write the result of `n_rows` rows to the first rows of y."""
        if self.bias is not None:
            self.begin(parameters, y, n_rows)
        self.add(parameters, x, n_rows, (y, 0, self.n_outputs), overwrite=self.bias is None)

    def add(
        self,
        parameters: Any,
        x: Place,
        n_rows: int,
        y: Place,
        *,
        column: int = 0,
        width: int | None = None,
        overwrite: bool = False,
    ) -> None:
        """Add the products with `width` columns of the weight, from `column` on, which are those that x has."""
        array, first, pitch = x
        multiply(
            self._queue, self._arrays, (array, first, False, pitch),
            (parameters, self.weight + column, True, self.n_inputs), y,
            (n_rows, self.n_outputs, self.n_inputs if width is None else width), accumulate=not overwrite,
        )  # fmt: skip

    def input_gradient(
        self,
        parameters: Any,
        d_y: Place,
        n_rows: int,
        d_x: Place,
        *,
        column: int = 0,
        width: int | None = None,
        add: bool = False,
    ) -> None:
        """Write, or add, the gradient of x."""
        array, first, pitch = d_y
        multiply(
            self._queue, self._arrays, (array, first, False, pitch),
            (parameters, self.weight + column, False, self.n_inputs), d_x,
            (n_rows, self.n_inputs if width is None else width, self.n_outputs), accumulate=add,
        )  # fmt: skip

    def weight_gradient(
        self, d_y: Place, n_rows: int, x: Place, gradient: Any, *, column: int = 0, width: int | None = None
    ) -> None:
        """Add the gradient of the weight."""
        array, first, pitch = d_y
        multiply(
            self._queue, self._arrays, (array, first, True, pitch), (x[0], x[1], False, x[2]),
            (gradient, self.weight + column, self.n_inputs),
            (self.n_outputs, self.n_inputs if width is None else width, n_rows), accumulate=True,
        )  # fmt: skip

    def bias_gradient(self, d_y: Any, n_rows: int, gradient: Any) -> None:
        """Add the gradient of the bias, if there is one; the rows are the first of d_y, one after the other."""
        if self.bias is not None:
            add_columns(self._queue, d_y, n_rows, self.n_outputs, gradient, self.bias)
