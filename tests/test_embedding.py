"""Embeddings: what they compute, their gradients, and solvers that touch only the rows that a minibatch holds."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import oracle
import pytest

from numrnn import network as network_module
from numrnn.embedding import Embedding
from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.parameters import Reach
from numrnn.training.loop import train
from numrnn.training.solvers import SGD, Adam, AdamW, RMSprop
from numrnn.workers import Workers

LENGTHS = (4, 9, 1, 7)
POOLINGS = ("last", "mean", "max", None)
# Columns: category of 6, number, category of 3, number.
TABLES = ((2, 3, 2), (0, 6, 3))
every_pooling = pytest.mark.parametrize("pooling", POOLINGS)


def mixed_input(rng, lengths=LENGTHS, dtype="float64"):
    n_steps = sum(lengths)
    columns = [rng.randint(0, 6, n_steps), rng.standard_normal(n_steps), rng.randint(0, 3, n_steps)]
    values = np.stack([*columns, rng.standard_normal(n_steps)], axis=1).astype(dtype)
    ends = np.cumsum(lengths)
    return Sequences(values, ends - np.array(lengths), np.array(lengths))


class Problem:
    """A network with embeddings, and the same function written with one-hot columns and no embeddings.

    The input weights of the other network are products of those of the first with its tables, so that its gradients
    give the gradients of the tables by the chain rule.
    """

    def __init__(self, pooling="last", dtype="float64", lengths=LENGTHS, hidden_sizes=(5, 4), seed=3, **options):
        rng = np.random.RandomState(seed)
        form = {"cell": "lstm", "hidden_sizes": hidden_sizes, "n_outputs": 3, "pooling": pooling, "dtype": dtype}
        self.network = Network(input_size=4, embeddings=TABLES, **form, **options)
        self.network.initialize(rng)
        self.network.parameters.flat[:] += 0.3 * rng.standard_normal(self.network.n_parameters)
        self.sequences = mixed_input(rng, lengths, dtype)
        self.targets = rng.randint(0, 3, sum(lengths) if pooling is None else len(lengths))
        self.weights = rng.uniform(0.2, 2.0, len(self.targets))
        self.plain = Network(input_size=11, **form, **options)
        for name in self.plain.parameters:
            self.plain.parameters[name][...] = (
                self.network.parameters[name] @ self.mixing().T
                if name.startswith("weight_ih_l0")
                else self.network.parameters[name]
            )
        x = self.sequences.values
        one_hot = np.concatenate([np.eye(3)[x[:, 2].astype(int)], np.eye(6)[x[:, 0].astype(int)], x[:, [1, 3]]], axis=1)
        self.one_hot = Sequences(one_hot.astype(dtype), self.sequences.starts, self.sequences.lengths)

    def mixing(self):
        """The matrix that takes one-hot columns and numbers (11) to what the layers see (7)."""
        matrix = np.zeros((11, 7))
        matrix[:3, :2] = self.network.parameters["embedding_0"]
        matrix[3:9, 2:5] = self.network.parameters["embedding_1"]
        matrix[9:, 5:] = np.eye(2)
        return matrix

    def check_gradient(self, tolerance=1e-9, **options):
        """The gradient against that of the network without embeddings; returns the loss."""
        arguments = (self.targets, self.weights)
        loss = self.network.loss_and_gradient(self.sequences, *arguments, **options)
        np.testing.assert_allclose(self.plain.loss_and_gradient(self.one_hot, *arguments, **options), loss, rtol=1e-10)
        gradient = self.network.gradient
        wanted = {name: np.zeros(shape) for name, shape in gradient.shapes.items()}
        for name in self.plain.parameters:
            d = self.plain.gradient[name]
            if name.startswith("weight_ih_l0"):
                d_mixing = d.T @ self.network.parameters[name]
                wanted["embedding_0"] += d_mixing[:3, :2]
                wanted["embedding_1"] += d_mixing[3:9, 2:5]
                d = d @ self.mixing()
            wanted[name] += d
        for name in gradient:
            oracle.assert_close(gradient[name], wanted[name], tolerance, name)
        return loss


# --------------------------------------------------------------------------------------------------------- the function
def test_vectors_come_first_in_the_order_of_the_tables_and_numbers_follow():
    problem = Problem()
    parameters = problem.network.parameters
    assert list(parameters)[:3] == ["embedding_0", "embedding_1", "weight_ih_l0"]
    assert parameters["embedding_0"].shape == (3, 2)
    x = problem.sequences.values
    wanted = [parameters["embedding_0"][x[:, 2].astype(int)], parameters["embedding_1"][x[:, 0].astype(int)]]
    shuffled = problem.sequences.take(np.array([2, 0, 3]))
    embedded = problem.network.embedded(shuffled)
    np.testing.assert_array_equal(embedded.values, np.concatenate([*wanted, x[:, [1, 3]]], axis=1)[shuffled.rows()])
    np.testing.assert_array_equal(embedded.starts, [0, 1, 5])
    np.testing.assert_array_equal(embedded.lengths, [1, 4, 7])
    plain = problem.plain.embedded(problem.one_hot.take(np.array([2, 0, 3])))
    np.testing.assert_array_equal(plain.values, problem.one_hot.values[shuffled.rows()])


@every_pooling
@pytest.mark.parametrize("bidirectional", [False, True])
def test_outputs_are_those_of_one_hot_columns(pooling, bidirectional, monkeypatch):
    problem = Problem(pooling, bidirectional=bidirectional)
    outputs = problem.network.outputs(problem.sequences)
    oracle.assert_close(outputs, problem.plain.outputs(problem.one_hot), 1e-12)
    monkeypatch.setattr(network_module, "_INFERENCE_BYTES", 5 * problem.network._bytes_per_step)
    monkeypatch.setattr(network_module, "_INFERENCE_STEPS", 3)
    oracle.assert_close(problem.network.outputs(problem.sequences), outputs, 1e-12)


@every_pooling
@pytest.mark.parametrize("bptt_steps", [None, 1, 3])
def test_gradients_are_those_of_one_hot_columns(pooling, bptt_steps):
    Problem(pooling).check_gradient(bptt_steps=bptt_steps, alpha=0.0)


@every_pooling
def test_gradients_of_bidirectional_layers_are_those_of_one_hot_columns(pooling):
    Problem(pooling, bidirectional=True).check_gradient()


@pytest.mark.parametrize("pooling", ["mean", None])
def test_gradient_is_the_derivative_of_the_loss(pooling):
    problem = Problem(pooling, bidirectional=True, hidden_sizes=(3,), lengths=(3, 1, 4))
    network, arguments = problem.network, (problem.sequences, problem.targets, problem.weights)
    network.loss_and_gradient(*arguments)
    gradient = network.gradient.flat.copy()
    numeric = oracle.central_difference(lambda: network.loss(*arguments), network.parameters.flat)
    oracle.assert_close(gradient, numeric, 1e-7)


def test_a_batch_divided_for_memory_has_the_same_gradient(monkeypatch):
    problem = Problem("last")
    monkeypatch.setattr(network_module, "_TRAINING_BYTES", 10 * problem.network._bytes_per_step)
    problem.check_gradient()
    problem.check_gradient(bptt_steps=3)


def test_the_penalty_spares_embeddings():
    problem = Problem()
    arguments = (problem.sequences, problem.targets, problem.weights)
    loss = problem.network.loss_and_gradient(*arguments)
    gradient = problem.network.gradient.copy()
    assert problem.network.loss_and_gradient(*arguments, alpha=2.0) > loss
    for name in ("embedding_0", "embedding_1"):
        np.testing.assert_array_equal(problem.network.gradient[name], gradient[name])


def test_results_are_the_same_bits_for_every_number_of_threads():
    results = []
    for n_jobs in (1, 2, 3):
        with Workers(n_jobs) as workers:
            problem = Problem(
                None,
                dtype="float32",
                lengths=(200, 133, 7, 228),
                hidden_sizes=(70,),
                input_dropout=0.2,
                workers=workers,
            )
            loss = problem.network.loss_and_gradient(problem.sequences, problem.targets, problem.weights)
            outputs = problem.network.outputs(problem.sequences)
            results.append((np.array(loss), outputs, problem.network.gradient.flat.copy()))
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


def test_one_row_one_dimension_one_step():
    network = Network(
        cell="gru", input_size=1, hidden_sizes=(2,), n_outputs=2, embeddings=((0, 1, 1),), dtype="float64"
    )
    network.initialize(np.random.RandomState(0))
    sequences = Sequences.from_list([np.zeros((1, 1)), np.zeros((0, 1)), np.zeros((2, 1))])
    arguments = (sequences, np.array([0, 1, 1]))
    network.loss_and_gradient(*arguments)
    gradient = network.gradient.flat.copy()
    oracle.assert_close(
        gradient, oracle.central_difference(lambda: network.loss(*arguments), network.parameters.flat), 1e-7
    )


# ------------------------------------------------------------------------------------------------------------- reaching
def test_only_rows_of_the_batch_are_written_and_cleared():
    network = Network(cell="rnn_tanh", input_size=1, hidden_sizes=(2,), n_outputs=2, embeddings=((0, 9, 2),))
    network.initialize(np.random.RandomState(0))
    table, targets = network.gradient["embedding_0"], np.array([0, 1])
    network.loss_and_gradient(Sequences.from_list([np.array([[7.0], [2]], "f"), np.array([[7]], "f")]), targets)
    np.testing.assert_array_equal(np.flatnonzero(table.any(axis=1)), [2, 7])
    table[5] = 1  # nobody's business: must neither be looked at nor cleared
    reach = network.reach()
    np.testing.assert_array_equal(reach.rows, [7, 2])
    np.testing.assert_array_equal(reach.begins, [18, 14, 4])
    np.testing.assert_array_equal(reach.ends, [network.n_parameters, 16, 6])
    assert reach.n_rows == 9
    network.loss_and_gradient(Sequences.from_list([np.array([[1]], "f"), np.array([[2]], "f")]), targets)
    np.testing.assert_array_equal(np.flatnonzero(table.any(axis=1)), [1, 2, 5])
    np.testing.assert_array_equal(network.reach().rows, [1, 2])


SOLVERS = {
    "sgd": lambda: SGD(momentum=0.0),
    "momentum": lambda: SGD(momentum=0.8, nesterov=False),
    "nesterov": lambda: SGD(),
    "adam": lambda: Adam(),
    "adamw": lambda: AdamW(weight_decay=0.1),
    "rmsprop": lambda: RMSprop(rho=0.9),
}
every_solver = pytest.mark.parametrize("make", SOLVERS.values(), ids=SOLVERS)


def sparse_gradients(rng, n_updates=12, n_rows=5, dimension=3, n_dense=4):
    """Gradients of a table (first in the vector) and a dense rest, with the rows that each reaches."""
    size = n_rows * dimension + n_dense
    for _ in range(n_updates):
        rows = rng.permutation(n_rows)[: rng.integers(0, 3)]
        gradient = np.zeros(size)
        gradient[n_rows * dimension :] = rng.normal(size=n_dense)
        gradient[: n_rows * dimension].reshape(n_rows, dimension)[rows] = rng.normal(size=(len(rows), dimension))
        begins = np.concatenate([[n_rows * dimension], rows * dimension])
        yield gradient, Reach(begins, np.concatenate([[size], begins[1:] + dimension]), rows, n_rows)


@every_solver
def test_rows_that_are_caught_up_with_are_where_a_dense_solver_moves_them(make, rng):
    sparse, dense = make(), make()
    if isinstance(dense, AdamW):
        dense = AdamW(weight_decay=0.1, spans=(np.array([15]), np.array([19])))
    ours = rng.normal(size=19)
    theirs = ours.copy()
    everything = Reach(np.array([15, 0, 3, 6, 9, 12]), np.array([19, 3, 6, 9, 12, 15]), np.arange(5), 5)
    for number, (gradient, reach) in enumerate(sparse_gradients(rng, n_updates=40)):
        before = ours.copy()
        norms = sparse.update(ours, gradient, 0.1, 1.5, reach), dense.update(theirs, gradient, 0.1, 1.5)
        np.testing.assert_allclose(norms[0], norms[1], rtol=1e-14)
        reached = np.concatenate([np.arange(a, b) for a, b in zip(reach.begins, reach.ends, strict=True)])
        for name, moment in sparse.moments.items():
            np.testing.assert_allclose(moment[reached], dense.moments[name][reached], rtol=1e-12, atol=0)
        # Epsilon is taken to be constant over the updates that were missed.
        np.testing.assert_allclose(ours[reached], theirs[reached], rtol=1e-6, atol=1e-8)
        others = np.setdiff1d(np.arange(19), reached)
        np.testing.assert_array_equal(ours[others], before[others])
        if number % 10 == 9:
            sparse.catch_up(ours, everything, 0.1)
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)
            kept = ours.copy()
            sparse.catch_up(ours, everything, 0.1)
            np.testing.assert_array_equal(ours, kept)


@every_solver
def test_rows_that_were_missed_for_long(make, rng):
    sparse, dense = make(), make()
    if isinstance(dense, AdamW):
        dense = AdamW(weight_decay=0.1, spans=(np.array([3]), np.array([4])))
    ours = rng.normal(size=4)
    theirs = ours.copy()
    first = rng.normal(size=4)
    row = Reach(np.array([3, 0]), np.array([4, 3]), np.array([0]), 1)
    rest = Reach(np.array([3]), np.array([4]), np.zeros(0, dtype=np.int64), 1)
    sparse.update(ours, first, 0.01, math.inf, row)
    dense.update(theirs, first, 0.01)
    for _ in range(3000):
        gradient = np.array([0.0, 0.0, 0.0, rng.normal()])
        sparse.update(ours, gradient, 0.01, math.inf, rest)
        dense.update(theirs, gradient, 0.01)
    sparse.catch_up(ours, row, 0.01)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@every_solver
def test_an_update_that_reaches_every_row_is_the_dense_one(make, rng):
    sparse, dense = make(), make()
    if isinstance(dense, AdamW):
        dense = AdamW(weight_decay=0.1, spans=(np.array([15]), np.array([19])))
    ours = rng.normal(size=19)
    theirs = ours.copy()
    for _ in range(5):
        gradient, rows = rng.normal(size=19), rng.permutation(5)
        begins = np.concatenate([[15], rows * 3])
        sparse.update(ours, gradient, 0.1, 1.5, Reach(begins, np.concatenate([[19], begins[1:] + 3]), rows, 5))
        dense.update(theirs, gradient, 0.1, 1.5)
    np.testing.assert_allclose(ours, theirs, rtol=1e-13)


@every_solver
@pytest.mark.parametrize("through", ["state", "pickle"])
def test_a_solver_of_tables_goes_on_from_a_saved_state(make, through, rng):
    solver, ours = make(), rng.normal(size=19)
    updates = list(sparse_gradients(rng))
    for gradient, reach in updates[:6]:
        solver.update(ours, gradient, 0.1, math.inf, reach)
    state, theirs = solver.state(), ours.copy()
    other = make()
    if through == "state":
        other.restore(state)
    else:
        other = pickle.loads(pickle.dumps(solver))
    for gradient, reach in updates[6:]:
        solver.update(ours, gradient, 0.1, math.inf, reach)
        other.update(theirs, gradient, 0.1, math.inf, reach)
    np.testing.assert_array_equal(ours, theirs)


def test_a_gradient_that_is_not_finite_leaves_the_ages_of_rows_alone(rng):
    solver, other = Adam(), Adam()
    ours = rng.normal(size=19)
    theirs = ours.copy()
    for number, (gradient, reach) in enumerate(sparse_gradients(rng)):
        if number % 3 == 1:
            poisoned = gradient.copy()
            poisoned[reach.begins[-1]] = np.nan
            assert not math.isfinite(solver.update(ours, poisoned, 0.1, 1.0, reach))
        solver.update(ours, gradient, 0.1, 1.0, reach)
        other.update(theirs, gradient, 0.1, 1.0, reach)
    np.testing.assert_array_equal(ours, theirs)


def test_a_solver_of_tables_refuses_gradients_of_others(rng):
    solver = Adam()
    (gradient, reach), *_ = sparse_gradients(rng)
    solver.update(np.zeros(19), gradient, 0.1, 1.0, reach)
    with pytest.raises(ValueError, match="tables of 5 rows together, got a gradient of tables of 0 rows"):
        solver.update(np.zeros(19), gradient, 0.1)
    dense = Adam()
    dense.update(np.zeros(19), gradient, 0.1)
    with pytest.raises(ValueError, match="tables of 0 rows together, got a gradient of tables of 5 rows"):
        dense.update(np.zeros(19), gradient, 0.1, 1.0, reach)


# ------------------------------------------------------------------------------------------------------------- training
def counting_problem(n_sequences=80, n_words=12, seed=0):
    """Whether words below 4 outnumber those above 8."""
    rng = np.random.RandomState(seed)
    arrays = [rng.randint(0, n_words, (rng.randint(1, 12), 1)).astype("f") for _ in range(n_sequences)]
    return Sequences.from_list(arrays), np.array([int((x < 4).sum() > (x > 8).sum()) for x in arrays])


def word_network(n_rows=12, seed=1, **options):
    options = {"cell": "gru", "hidden_sizes": (8,), "n_outputs": 2, "embeddings": ((0, n_rows, 6),), **options}
    network = Network(input_size=1, **options)
    network.initialize(np.random.RandomState(seed))
    return network


@pytest.mark.parametrize("solver", ["adam", "adamw", "sgd", "rmsprop", "lbfgs"])
def test_every_solver_learns_words(solver):
    network, (sequences, targets) = word_network(), counting_problem()
    rates = {"sgd": 0.1, "lbfgs": 1.0}
    train(
        network,
        sequences,
        targets,
        solver=solver,
        learning_rate_init=rates.get(solver, 0.01),
        batch_size=16,
        max_iter=60,
        tol=0.0,
        n_iter_no_change=100,
        rng=np.random.RandomState(0),
    )
    assert (network.outputs(sequences).argmax(axis=1) == targets).mean() > 0.95


@pytest.mark.parametrize("solver", ["adam", "adamw", "sgd", "rmsprop"])
def test_words_that_never_occur_keep_their_vectors_and_weighted_batches_scale_what_they_reach(solver):
    network, (sequences, targets) = word_network(n_rows=500), counting_problem()
    before = network.parameters["embedding_0"].copy()
    weights = np.random.RandomState(4).uniform(0.1, 3.0, len(targets))
    train(network, sequences, targets, weights, solver=solver, batch_size=16, max_iter=2, alpha=0.1)
    moved = (network.parameters["embedding_0"] != before).any(axis=1)
    assert moved[:12].all()
    assert not moved[12:].any()


def test_adam_reaching_all_rows_equals_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.RandomState(0)
    n_words, dimension, size = 5, 3, 4
    network = Network(
        cell="lstm",
        input_size=1,
        hidden_sizes=(size,),
        n_outputs=2,
        embeddings=((0, n_words, dimension),),
        bidirectional=True,
        dtype="float64",
    )
    network.initialize(rng)
    words = np.stack([rng.permutation(n_words) for _ in range(6)])
    targets = rng.randint(0, 2, 6)
    embedding = torch.nn.Embedding(n_words, dimension).double()
    layers = torch.nn.LSTM(dimension, size, batch_first=True, bidirectional=True).double()
    linear = torch.nn.Linear(2 * size, 2).double()
    theirs = {"embedding_0": embedding.weight, "weight_out": linear.weight, "bias_out": linear.bias}
    theirs |= dict(layers.named_parameters())
    with torch.no_grad():
        for name, parameter in theirs.items():
            parameter.copy_(torch.from_numpy(network.parameters[name]))
    optimizer = torch.optim.Adam(list(theirs.values()), lr=0.01)
    solver = Adam()
    for _ in range(3):
        optimizer.zero_grad()
        _, (hidden, _) = layers(embedding(torch.from_numpy(words)))
        loss = torch.nn.functional.cross_entropy(linear(torch.cat([*hidden], dim=1)), torch.from_numpy(targets))
        loss.backward()
        optimizer.step()
        sequences = Sequences.from_padded(words[:, :, None].astype(np.float64))
        np.testing.assert_allclose(network.loss_and_gradient(sequences, targets), loss.item(), rtol=1e-12)
        for name, parameter in theirs.items():
            oracle.assert_close(network.gradient[name], parameter.grad.numpy(), 1e-11, name)
        solver.update(network.parameters.flat, network.gradient.flat, 0.01, math.inf, network.reach())
        for name, parameter in theirs.items():
            # Where a gradient is all but zero, Adam divides rounding errors by rounding errors.
            np.testing.assert_allclose(network.parameters[name], parameter.detach().numpy(), atol=1e-6)


def test_giving_up_restores_embeddings_too(monkeypatch):
    network, (sequences, targets) = word_network(), counting_problem()
    train(network, sequences, targets, batch_size=16, max_iter=1)
    good = network.parameters.flat.copy()
    original, calls = network.loss_and_gradient, []

    def failing(*arguments, **options):
        calls.append(1)
        return math.nan if len(calls) == 4 else original(*arguments, **options)

    monkeypatch.setattr(network, "loss_and_gradient", failing)
    with pytest.raises(FloatingPointError):
        train(network, sequences, targets, batch_size=16, max_iter=3)
    np.testing.assert_array_equal(network.parameters.flat, good)


def test_training_is_repeatable_and_pickles_with_its_state():
    results = []
    for _ in range(2):
        network, (sequences, targets) = word_network(), counting_problem()
        options = {"batch_size": 16, "max_iter": 2, "rng": np.random.RandomState(5), "solver": "adam"}
        state = train(network, sequences, targets, **options)
        network, state = pickle.loads(pickle.dumps((network, state)))
        train(network, sequences, targets, **options, state=state)
        results.append(network.parameters.flat)
    np.testing.assert_array_equal(*results)


def test_the_cost_of_an_update_does_not_grow_with_the_vocabulary():
    """What is done for each row is counted, not timed: the vectors of a large table are never read or written."""
    network = word_network(n_rows=300_000, cell="rnn_tanh")
    sequences, targets = counting_problem()
    table = network.parameters["embedding_0"]
    table[12:] = np.nan  # whoever reads them, shows it
    network.gradient["embedding_0"][12:] = np.nan
    solver = Adam()
    for _ in range(3):
        assert math.isfinite(network.loss_and_gradient(sequences, targets, alpha=0.1))
        norm = solver.update(network.parameters.flat, network.gradient.flat, 0.01, 1.0, network.reach())
        assert math.isfinite(norm)
    assert np.isfinite(table[:12]).all()
    assert not solver.moments["mean"].reshape(-1)[12 * 6 : 300_000 * 6].any()


# ----------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("value", "shown"), [(6.0, "6.0"), (-1.0, "-1.0"), (1.5, "1.5"), (np.nan, "nan"), (np.inf, "inf"), (1e30, "1e+30")]
)
def test_values_that_number_no_row_are_refused(value, shown):
    problem = Problem()
    problem.sequences.values[7, 0] = value
    message = "column 0 must hold whole numbers from 0 to 5, the rows of its embedding, got .* in step 3 of sequence 1"
    for call in (problem.network.outputs, problem.network.embedded):
        with pytest.raises(ValueError, match=message) as error:
            call(problem.sequences)
        assert shown in str(error.value)
    with pytest.raises(ValueError, match=message):
        problem.network.loss_and_gradient(problem.sequences, problem.targets)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (((4, 3, 2),), r"different columns from 0 to 3, got \[4\]"),
        (((1, 3, 2), (1, 3, 2)), r"different columns from 0 to 3, got \[1, 1\]"),
        (((0, 0, 2),), "at least one row and one dimension, got 0 rows"),
        (((0, 3, 0),), "at least one row and one dimension, got 3 rows and 0 dimensions"),
        (((0, 2**24 + 1, 1),), "16777217 rows, but float32 holds whole numbers exactly only up to 16777216"),
    ],
)
def test_impossible_tables_are_refused(tables, message):
    with pytest.raises(ValueError, match=message):
        Embedding(4, tables, np.dtype("float32"))


def test_form_survives_pickling_and_change_of_type():
    problem = Problem(input_dropout=0.1)
    outputs = problem.network.outputs(problem.sequences)
    for other in (pickle.loads(pickle.dumps(problem.network)), copy.deepcopy(problem.network)):
        assert other._form() == problem.network._form()
        np.testing.assert_array_equal(other.outputs(problem.sequences), outputs)
    single = problem.network.with_dtype("float32")
    values = problem.sequences.values.astype("f")
    sequences = Sequences(values, problem.sequences.starts, problem.sequences.lengths)
    oracle.assert_close(single.outputs(sequences), outputs, 1e-5)


@pytest.mark.interpreter
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_stage_alone_with_the_gradient_of_its_numeric_columns(dtype, rng):
    stage = Embedding(4, TABLES, np.dtype(dtype))
    parameters = {name: rng.normal(size=shape).astype(dtype) for name, shape in stage.parameter_shapes().items()}
    gradient = {name: np.zeros(shape, dtype=dtype) for name, shape in stage.parameter_shapes().items()}
    sequences = mixed_input(np.random.RandomState(0), dtype=dtype).take(np.array([3, 0, 2]))
    run = stage.forward(parameters, sequences, training=True)
    x = sequences.values[sequences.rows()]
    words, tags = x[:, 0].astype(int), x[:, 2].astype(int)
    wanted = np.concatenate([parameters["embedding_0"][tags], parameters["embedding_1"][words], x[:, [1, 3]]], axis=1)
    np.testing.assert_array_equal(run.sequences.values, wanted)
    for _ in range(2):
        d_values = rng.normal(size=wanted.shape).astype(dtype)
        d_input = stage.backward(run, parameters, d_values, gradient, need_input=True)
        np.testing.assert_array_equal(d_input[:, [1, 3]], d_values[:, 5:])
        assert not d_input[:, [0, 2]].any()
        for name, numbers, columns in (("embedding_0", tags, slice(0, 2)), ("embedding_1", words, slice(2, 5))):
            summed = np.zeros(gradient[name].shape)
            np.add.at(summed, numbers, d_values[:, columns].astype(np.float64))
            oracle.assert_close(gradient[name], summed, 1e-6 if dtype == "float32" else 1e-14, name)
        assert [sorted(rows) for rows in stage.reached] == [sorted(set(tags)), sorted(set(words))]
        stage.forget(gradient)
        assert not any(array.any() for array in gradient.values())
        assert [len(rows) for rows in stage.reached] == [0, 0]
