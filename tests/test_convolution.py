"""Convolution, relu and max-pooling: definition, derivatives, PyTorch, ragged batches, threads."""

from __future__ import annotations

import numpy as np
import oracle
import oracle.convolution
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numrnn.convolution import Convolution, convolutions_from
from numrnn.packing import Sequences
from numrnn.workers import Workers

interpreter = pytest.mark.interpreter

TOLERANCE = {"float32": 5e-6, "float64": 1e-13}
both_kinds = pytest.mark.parametrize("kind", ["1d", "2d"])
both_types = pytest.mark.parametrize("dtype", ["float32", "float64"])


class Problem:
    """Ragged sequences in rows that lie apart and out of order."""

    def __init__(
        self, kind, lengths, *, width=5, channels=1, filters=3, kernel_size=3, pool_size=2, dtype="float64", seed=0,
        workers=None,
    ):  # fmt: skip
        rng = np.random.default_rng(seed)
        size = width * channels if kind == "2d" else channels
        arguments = {"channels": channels} if kind == "2d" else {}
        self.stage = Convolution(kind, size, filters, kernel_size, pool_size, dtype, 4, workers=workers, **arguments)
        self.kind, self.channels, self.filters, self.pool_size = kind, channels, filters, pool_size
        self.lengths = np.array(lengths, dtype=np.int64)
        order = rng.permutation(len(lengths))
        self.starts = np.empty(len(lengths), dtype=np.int64)
        self.starts[order] = 1 + np.cumsum(self.lengths[order] + 1) - (self.lengths[order] + 1)
        self.values = rng.normal(size=(int(self.lengths.sum()) + len(lengths) + 1, size)).astype(dtype)
        shapes = self.stage.parameter_shapes()
        self.parameters = {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
        rows = int((-(-self.lengths // pool_size)).sum())
        self.d_values = rng.normal(size=(rows, self.stage.output_size)).astype(dtype)

    @property
    def sequences(self):
        return Sequences(self.values, self.starts, self.lengths)

    def forward(self):
        return self.stage.forward(self.parameters, self.sequences, training=False).sequences

    def run(self, need_input=True):
        """Output, gradient of the rows, of the weight and of the bias."""
        run = self.stage.forward(self.parameters, self.sequences, training=True)
        gradient = {name: np.ones_like(value) for name, value in self.parameters.items()}
        d_input = self.stage.backward(run, self.parameters, self.d_values, gradient, need_input=need_input)
        return run.sequences.values, d_input, gradient["conv_weight_4"] - 1, gradient["conv_bias_4"] - 1

    def images(self):
        """Every sequence as an image (height, width, channels), in float64."""
        for rows in self.sequences:
            array = rows.astype(np.float64)
            if self.kind == "1d":
                yield array[np.newaxis]
            else:
                yield array.reshape(len(array), self.stage.input_size // self.channels, self.channels)

    def expected(self):
        weight, bias = (self.parameters[name].astype(np.float64) for name in ("conv_weight_4", "conv_bias_4"))
        shape = weight.shape
        weight = weight[:, :, np.newaxis] if self.kind == "1d" else weight
        pool = (1 if self.kind == "1d" else self.pool_size, self.pool_size)
        outputs, d_inputs, d_weight, d_bias = [], [], np.zeros(weight.shape), np.zeros(bias.shape)
        first = 0
        for image in self.images():
            if not image.size:
                continue
            output = oracle.convolution.forward(image, weight, bias, pool)
            last = first + output.size // self.stage.output_size
            d_output = self.d_values[first:last].astype(np.float64).reshape(output.shape)
            first = last
            d_image, d_w, d_b = oracle.convolution.backward(image, weight, bias, pool, d_output)
            outputs.append(output.reshape(-1, self.stage.output_size))
            d_inputs.append(d_image.reshape(-1, self.stage.input_size))
            d_weight, d_bias = d_weight + d_w, d_bias + d_b
        return np.concatenate(outputs), np.concatenate(d_inputs), d_weight.reshape(shape), d_bias

    def assert_equals_the_definition(self):
        dtype = self.stage.dtype
        names = ("output", "d_input", "d_weight", "d_bias")
        for name, mine, other in zip(names, self.run(), self.expected(), strict=True):
            assert mine.dtype == dtype
            oracle.assert_close(mine, other, 4 * TOLERANCE[dtype.name], name)


@interpreter
@both_types
@pytest.mark.parametrize("pool_size", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 9])
@both_kinds
def test_equals_the_definition(kind, kernel_size, pool_size, dtype):
    """Odd and even kernels, larger than the sequence too; pools that do not divide it, or are larger."""
    problem = Problem(kind, (3, 1, 0, 6, 2), channels=2, kernel_size=kernel_size, pool_size=pool_size, dtype=dtype)
    problem.assert_equals_the_definition()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(max_examples=40)
@given(
    kind=st.sampled_from(["1d", "2d"]),
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=4).filter(any),
    width=st.integers(1, 9),
    channels=st.sampled_from([1, 2, 15, 16, 17, 33]),
    filters=st.sampled_from([1, 3, 8, 16, 17, 64, 70]),
    kernel_size=st.integers(1, 5),
    pool_size=st.integers(1, 4),
)
def test_any_shape_equals_the_definition(dtype, kind, lengths, width, channels, filters, kernel_size, pool_size):
    Problem(
        kind, lengths, width=width, channels=channels, filters=filters, kernel_size=kernel_size, pool_size=pool_size,
        dtype=dtype,
    ).assert_equals_the_definition()  # fmt: skip


@both_kinds
def test_long_sequences_cross_the_borders_of_blocks(kind, monkeypatch):
    monkeypatch.setattr("numrnn.convolution._BLOCK_BYTES", 2048)
    monkeypatch.setattr("numrnn.convolution._ADJOINT_BLOCK_BYTES", 4096)
    Problem(kind, (900, 31) if kind == "1d" else (45, 13), width=29, channels=2).assert_equals_the_definition()


@both_kinds
@pytest.mark.parametrize("kernel_size", [2, 3])
def test_gradients_are_the_derivatives_of_the_value(kind, kernel_size):
    problem = Problem(kind, (3, 1, 5), width=4, channels=2, filters=2, kernel_size=kernel_size)
    _, d_input, d_weight, d_bias = problem.run()
    value = lambda: float((problem.forward().values * problem.d_values).sum())  # noqa: E731
    numeric = oracle.central_difference(value, problem.values)
    oracle.assert_close(d_input, numeric[problem.sequences.rows()], 1e-7)
    oracle.assert_close(d_weight, oracle.central_difference(value, problem.parameters["conv_weight_4"]), 1e-7)
    oracle.assert_close(d_bias, oracle.central_difference(value, problem.parameters["conv_bias_4"]), 1e-7)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@both_types
@both_kinds
def test_agrees_with_pytorch(kind, dtype, rng):
    torch = pytest.importorskip("torch")
    for kernel_size, pool_size in ((3, 2), (4, 3), (5, 1)):
        problem = Problem(
            kind, (7, 7), width=9, channels=3, filters=20, kernel_size=kernel_size, pool_size=pool_size, dtype=dtype
        )
        layer = torch.nn.Conv1d if kind == "1d" else torch.nn.Conv2d
        pool = torch.nn.functional.max_pool1d if kind == "1d" else torch.nn.functional.max_pool2d
        theirs = layer(3, 20, kernel_size, padding="same", dtype=getattr(torch, dtype))
        names = {"weight": "conv_weight_4", "bias": "conv_bias_4"}
        for name, parameter in theirs.named_parameters():
            assert tuple(parameter.shape) == problem.parameters[names[name]].shape
            parameter.data = torch.from_numpy(problem.parameters[names[name]].copy())
        # Channels first.
        shape, axes = ((2, 7, 3), (0, 2, 1)) if kind == "1d" else ((2, 7, 9, 3), (0, 3, 1, 2))
        x = problem.values[problem.sequences.rows()].reshape(shape).transpose(axes)
        x = torch.from_numpy(np.ascontiguousarray(x)).requires_grad_()
        y = pool(torch.relu(theirs(x)), pool_size, ceil_mode=True)
        d_shape = [y.shape[axis] for axis in ((0, 2, 1) if kind == "1d" else (0, 2, 3, 1))]
        d_y = np.ascontiguousarray(problem.d_values.reshape(d_shape).transpose(axes))
        y.backward(torch.from_numpy(d_y))
        back = np.argsort(axes)
        output, d_input, d_weight, d_bias = problem.run()
        tolerance = 4 * TOLERANCE[dtype]
        oracle.assert_close(output, y.detach().numpy().transpose(back).reshape(output.shape), tolerance)
        oracle.assert_close(d_input, x.grad.numpy().transpose(back).reshape(d_input.shape), tolerance)
        oracle.assert_close(d_weight, theirs.weight.grad.numpy(), tolerance)
        oracle.assert_close(d_bias, theirs.bias.grad.numpy(), tolerance)


@both_types
@both_kinds
def test_a_sequence_does_not_see_its_neighbours(kind, dtype):
    problem = Problem(kind, (5, 40, 1, 0, 8, 23), width=11, channels=3, filters=20, kernel_size=4, dtype=dtype, seed=3)
    output, d_input, *_ = problem.run()
    ends, ends_out = np.cumsum(problem.lengths), np.cumsum(-(-problem.lengths // 2))
    for i, rows in enumerate(problem.sequences):
        own = slice(ends[i] - len(rows), ends[i])
        own_out = slice(ends_out[i] - -(-len(rows) // 2), ends_out[i])
        alone = Sequences(rows.copy(), np.zeros(1, dtype=np.int64), problem.lengths[i : i + 1])
        run = problem.stage.forward(problem.parameters, alone, training=True)
        np.testing.assert_array_equal(run.sequences.values, output[own_out])
        unused = {name: np.zeros_like(value) for name, value in problem.parameters.items()}
        d_alone = problem.stage.backward(run, problem.parameters, problem.d_values[own_out], unused)
        np.testing.assert_array_equal(d_alone, d_input[own])


@both_kinds
def test_threads_change_nothing(kind, monkeypatch):
    monkeypatch.setattr("numrnn.workers._FLOPS_PER_THREAD", 1)
    monkeypatch.setattr("numrnn.convolution._PIXELS_PER_PART", 50)
    arguments = dict(lengths=(30, 41, 1, 0, 8, 23, 50), channels=2, filters=20, dtype="float32")
    one = Problem(kind, **arguments).run()
    for n_threads in (2, 3):
        with Workers(n_threads) as workers:
            for mine, other in zip(Problem(kind, **arguments, workers=workers).run(), one, strict=True):
                np.testing.assert_array_equal(mine, other)
    problem = Problem(kind, **{**arguments, "dtype": "float64"})
    problem.assert_equals_the_definition()


@interpreter
@both_kinds
def test_the_gradient_of_the_input_is_left_out_when_nobody_needs_it(kind):
    problem = Problem(kind, (4, 3))
    _, _, d_weight, d_bias = problem.run()
    _, d_input, *others = problem.run(need_input=False)
    assert d_input is None
    np.testing.assert_array_equal(others[0], d_weight)
    np.testing.assert_array_equal(others[1], d_bias)


def test_of_equal_maxima_the_first_has_the_gradient_and_zeros_have_none():
    stage = Convolution("1d", 1, 1, 1, 3, "float64")
    parameters = {"conv_weight_0": np.ones((1, 1, 1)), "conv_bias_0": np.zeros(1)}
    values = np.array([[1.0], [2.0], [2.0], [-1.0], [-2.0], [-1.0], [0.0]])
    run = stage.forward(parameters, Sequences.from_list([values]), training=True)
    assert run.sequences.values.ravel().tolist() == [2, 0, 0]
    gradient = {name: np.zeros_like(value) for name, value in parameters.items()}
    d_input = stage.backward(run, parameters, np.array([[5.0], [7.0], [9.0]]), gradient)
    assert d_input.ravel().tolist() == [0, 5, 0, 0, 0, 0, 0]
    assert gradient["conv_weight_0"].item() == 10 and gradient["conv_bias_0"].item() == 5


@interpreter
@both_kinds
def test_lengths_are_rounded_up_and_nothing_is_nothing(kind):
    problem = Problem(kind, (7, 1, 0, 3), pool_size=3)
    result = problem.forward()
    assert result.lengths.tolist() == [3, 1, 0, 1] and result.starts.tolist() == [0, 3, 4, 4]
    assert result.values.shape == (5, problem.stage.output_size) and result.values.flags.c_contiguous
    for lengths in ((), (0, 0)):
        output, d_input, d_weight, d_bias = Problem(kind, lengths).run()
        assert len(output) == len(d_input) == 0 and not d_weight.any() and not d_bias.any()


def test_a_broken_weight_shows():
    problem = Problem("2d", (5,))
    problem.parameters["conv_weight_4"][1] = np.nan
    values = problem.forward().values.reshape(-1, 3)
    assert np.isnan(values[:, 1]).all() and np.isfinite(values[:, [0, 2]]).all()


@both_kinds
def test_initial_weights_keep_the_variance_of_relu(kind):
    stage = Problem(kind, (1,), channels=30, filters=50, kernel_size=4).stage
    parameters = {name: np.ones(shape) for name, shape in stage.parameter_shapes().items()}
    stage.initialize(parameters, np.random.RandomState(0))
    fan_in = np.prod(parameters["conv_weight_4"].shape[1:])
    np.testing.assert_allclose(parameters["conv_weight_4"].var(), 2 / fan_in, rtol=0.1)
    assert not parameters["conv_bias_4"].any()


def test_stages_from_settings_fit_together():
    image = {"kind": "2d", "filters": 4, "kernel_size": 3, "pool_size": 2}
    first, second = convolutions_from([image, {**image, "filters": 6}], 27, "float64")
    assert first.parameter_shapes() == {"conv_weight_0": (4, 1, 3, 3), "conv_bias_0": (4,)}
    assert second.parameter_shapes() == {"conv_weight_1": (6, 4, 3, 3), "conv_bias_1": (6,)}
    assert (first.output_size, second.input_size, second.output_size) == (14 * 4, 14 * 4, 7 * 6)
    (colour,) = convolutions_from([{**image, "channels": 3}], 27)
    assert colour.parameter_shapes()["conv_weight_0"] == (4, 3, 3, 3)
    signal = {"kind": "1d", "filters": 5, "kernel_size": 7}
    first, second = convolutions_from([signal, signal], 2)
    assert (first.output_size, second.input_size, second.pool_size) == (5, 5, 1)
    for wrong in ({"kind": "1d", "filters": 5}, {**signal, "size": 3}):
        with pytest.raises(ValueError, match="settings of a convolution"):
            convolutions_from([wrong], 2)


@pytest.mark.parametrize(
    "arguments, match",
    [
        (("3d", 5, 3, 3), "kind must be '1d' or '2d', got '3d'"),
        (("1d", 5, 0, 3), "filters must be at least 1, got 0"),
        (("1d", 5, 3, 0), "kernel_size must be at least 1, got 0"),
        (("2d", 5, 3, 3, 0), "pool_size must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        Convolution(*arguments)


def test_input_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="rows of 10 numbers and 3 channels"):
        Convolution("2d", 10, 3, 3, channels=3)
    with pytest.raises(ValueError, match="for kind '2d'"):
        Convolution("1d", 10, 3, 3, channels=2)
    problem = Problem("1d", (4,), channels=3, dtype="float32")
    for wrong in (problem.values.astype("float64"), problem.values[:, :2].copy()):
        with pytest.raises(ValueError, match="3 features in float32"):
            problem.stage.forward(problem.parameters, Sequences.from_list([wrong]))
