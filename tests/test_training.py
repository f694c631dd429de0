"""The training loop: what it learns, when it stops, what it leaves behind."""

from __future__ import annotations

import io
import math
import pickle

import numpy as np
import pytest

from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.training import loop
from numrnn.training.batches import divide
from numrnn.training.compiled_epochs import CompiledEpochs
from numrnn.training.loop import TrainingState, train
from numrnn.training.progress import Progress
from numrnn.training.schedules import Constant, ReduceOnPlateau
from numrnn.training.solvers import SGD, Adam, AdamW
from numrnn.workers import Workers


def make_network(n_outputs=2, dtype="float32", seed=1, cell="rnn_tanh", input_size=2, hidden_sizes=(8,), **options):
    network = Network(
        cell=cell, input_size=input_size, hidden_sizes=hidden_sizes, n_outputs=n_outputs, dtype=dtype, **options
    )
    network.initialize(np.random.RandomState(seed))
    return network


def make_data(n_sequences=60, ragged=True, seed=0, dtype="float32"):
    """The sign of the sum of the first feature."""
    rng = np.random.RandomState(seed)
    lengths = rng.randint(2, 9, n_sequences) if ragged else np.full(n_sequences, 6)
    arrays = [rng.standard_normal((length, 2)).astype(dtype) for length in lengths]
    return Sequences.from_list(arrays), np.array([int(x[:, 0].sum() > 0) for x in arrays])


def run(network, data, **options):
    options = {"rng": np.random.RandomState(7), "batch_size": 16, "max_iter": 5, "tol": 0.0, **options}
    return train(network, *data, **options)


def accuracy(outputs, targets, weights=None):
    return float((outputs.argmax(axis=1) == targets).mean())


def one_by_one(monkeypatch):
    """All minibatches come through Python, where a test can see and change them."""
    monkeypatch.setattr(CompiledEpochs, "takes", lambda *arguments: False)


class Scripted:
    """A network whose losses are given, one for each minibatch; everything else is real."""

    def __init__(self, monkeypatch, network, losses):
        losses = iter(losses)

        def loss_and_gradient(*arguments, **options):
            network.gradient.flat[:] = 1e-3
            loss = next(losses)
            if isinstance(loss, BaseException):
                raise loss
            return loss

        one_by_one(monkeypatch)
        monkeypatch.setattr(network, "loss_and_gradient", loss_and_gradient)


# ------------------------------------------------------------------------------------------------------------- learning
@pytest.mark.parametrize(
    ("solver", "rate"), [("adam", 0.01), ("adamw", 0.01), ("sgd", 0.05), ("rmsprop", 0.01), ("lbfgs", None)]
)
def test_every_solver_learns(solver, rate):
    network, (sequences, targets) = make_network(), make_data(120)
    state = run(network, (sequences, targets), solver=solver, learning_rate_init=rate, max_iter=60)
    assert accuracy(network.outputs(sequences), targets) >= 0.97
    assert len(state.loss_curve) == state.n_iter == state.n_epochs <= 60
    assert state.best_loss == min(state.loss_curve) < 0.15 < state.loss_curve[0]


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber"])
@pytest.mark.parametrize("bptt_steps", [None, 3])
def test_regression_learns_also_with_truncation(loss, bptt_steps):
    rng = np.random.RandomState(0)
    x = rng.uniform(-1, 1, (100, 5, 2)).astype("f")
    targets = np.stack([x[:, -1, 0], x[:, -1, 1] - x[:, -2, 0]], axis=1)
    network = make_network(loss=loss, hidden_sizes=(12,))
    sequences = Sequences.from_padded(x)
    run(network, (sequences, targets), max_iter=120, learning_rate_init=0.01, bptt_steps=bptt_steps)
    assert np.abs(network.outputs(sequences) - targets).mean() < 0.1


def test_one_target_per_time_step_follows_its_step_through_every_shuffle():
    """The sign of the present input: learned only if steps and targets stay together."""
    sequences, _ = make_data(40)
    targets = (np.concatenate(list(sequences))[:, 0] > 0).astype(int)
    network = make_network(pooling=None)
    weights = np.random.RandomState(0).uniform(0.5, 1.5, len(targets))
    run(network, (sequences, targets, weights), max_iter=40, learning_rate_init=0.02, bptt_steps=4)
    assert accuracy(network.outputs(sequences), targets) > 0.97


def test_the_first_epoch_by_hand():
    """Full batch, plain gradient descent, one schedule of one's own: two epochs are two steps down the gradient."""
    network, (sequences, targets) = make_network(dtype="float64"), make_data(dtype="float64")
    other = make_network(dtype="float64")
    weights = np.random.RandomState(3).uniform(0.5, 2.0, len(targets))
    wanted = []
    for rate in (0.5, 0.25):
        wanted.append(other.loss_and_gradient(sequences, targets, weights, alpha=0.1))
        other.parameters.flat[:] -= rate * other.gradient.flat
    state = run(
        network,
        (sequences, targets, weights),
        solver=SGD(momentum=0),
        learning_rate=lambda epoch: 0.5 / (1 + epoch),
        alpha=0.1,
        batch_size="auto",
        max_iter=2,
        max_grad_norm=None,
    )
    np.testing.assert_allclose(state.loss_curve, wanted, rtol=1e-14)
    np.testing.assert_allclose(network.parameters.flat, other.parameters.flat, rtol=1e-12)


def test_gradients_are_clipped():
    network, data = make_network(), make_data()
    before = network.parameters.flat.copy()
    run(network, data, solver=SGD(momentum=0), learning_rate_init=1.0, max_grad_norm=1e-3, max_iter=1, batch_size=60)
    np.testing.assert_allclose(np.linalg.norm(network.parameters.flat - before), 1e-3, rtol=1e-3)


def test_adamw_takes_alpha_as_decay_of_the_weights_and_not_as_a_penalty():
    networks = [make_network() for _ in "ab"]
    states = [
        run(network, make_data(), solver="adamw", alpha=alpha, max_iter=1, batch_size=60, learning_rate_init=0.5)
        for network, alpha in zip(networks, (0.0, 0.4), strict=True)
    ]
    assert states[0].loss_curve == states[1].loss_curve
    initial = make_network().parameters
    for name in initial:
        decayed = networks[0].parameters[name] - (0.2 * initial[name] if "weight" in name else 0)
        np.testing.assert_allclose(networks[1].parameters[name], decayed, rtol=1e-5, atol=1e-6)


def test_gradients_of_weighted_minibatches_sum_to_that_of_the_whole():
    """Plain SGD with a tiny rate: one epoch of minibatches is one step down the gradient of the weighted mean."""
    (sequences, targets), rate = make_data(dtype="float64"), 1e-7
    weights = np.random.RandomState(0).choice([1e-3, 1.0, 50.0], len(targets))
    network, other = (make_network(dtype="float64") for _ in "ab")
    before = network.parameters.flat.copy()
    run(
        network,
        (sequences, targets, weights),
        solver=SGD(momentum=0),
        learning_rate_init=rate,
        batch_size=15,
        max_iter=1,
        max_grad_norm=None,
    )
    other.loss_and_gradient(sequences, targets, weights)
    np.testing.assert_allclose((before - network.parameters.flat) / rate / 4, other.gradient.flat, rtol=1e-3, atol=1e-5)


def test_reported_loss_is_the_weighted_mean_over_the_epoch():
    sequences, targets = make_data()
    weights = np.random.RandomState(3).uniform(0.1, 3.0, len(targets))
    network = make_network()
    wanted = network.loss(sequences, targets, weights)
    state = run(network, (sequences, targets, weights), learning_rate=lambda epoch: 0.0, max_iter=2)
    np.testing.assert_allclose(state.loss_curve, wanted, rtol=1e-6)


# ------------------------------------------------------------------------------------------------------ reproducibility
@pytest.mark.parametrize("options", [{}, {"bptt_steps": 3}, {"solver": "lbfgs"}, {"dropout": 0.3}], ids=str)
def test_the_same_seed_gives_the_same_bits_for_every_number_of_threads(options):
    options = dict(options)
    form = {"hidden_sizes": (70, 20), "dropout": options.pop("dropout", 0.0)}
    results = []
    for n_jobs in (1, 2, 3):
        with Workers(n_jobs) as workers:
            network = make_network(workers=workers, cell="lstm", **form)
            state = run(network, make_data(70), max_iter=2, batch_size=32, **options)
            results.append((network.parameters.flat, np.array(state.loss_curve)))
    for flat, curve in results[1:]:
        np.testing.assert_array_equal(flat, results[0][0])
        np.testing.assert_array_equal(curve, results[0][1])


def test_another_seed_shuffles_differently():
    curves = [run(make_network(), make_data(), rng=np.random.RandomState(seed)).loss_curve for seed in (1, 1, 2)]
    assert curves[0] == curves[1] != curves[2]


def test_a_full_batch_and_unshuffled_minibatches_take_no_random_numbers():
    for options in ({"batch_size": "auto"}, {"batch_size": 60}, {"batch_size": 1000}, {"shuffle": False}):
        curves = [
            run(make_network(), make_data(), rng=np.random.RandomState(seed), **options).loss_curve for seed in (1, 2)
        ]
        assert curves[0] == curves[1], options


def test_automatic_batches_hold_at_most_200_sequences(monkeypatch):
    network, sizes = make_network(), []
    original = network.loss_and_gradient

    def counted(sequences, *arguments, **options):
        sizes.append(len(sequences))
        return original(sequences, *arguments, **options)

    one_by_one(monkeypatch)
    monkeypatch.setattr(network, "loss_and_gradient", counted)
    run(network, make_data(450), batch_size="auto", max_iter=1)
    assert sorted(sizes) == [50, 200, 200]


def test_minibatches_hold_every_sequence_once_and_alike_lengths():
    rng = np.random.RandomState(0)
    lengths = rng.randint(1, 100, 1000).astype(np.int64)
    order, bounds = divide(lengths, 16, shuffle=True, rng=rng)
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    np.testing.assert_array_equal(np.sort(np.concatenate([order[a:b] for a, b in bounds])), np.arange(1000))
    spread = np.mean([np.ptp(lengths[order[a:b]]) for a, b in bounds])
    assert spread < 15
    mean_lengths = [lengths[order[a:b]].mean() for a, b in bounds]
    assert abs(np.corrcoef(mean_lengths, np.arange(len(bounds)))[0, 1]) < 0.4
    again, _ = divide(lengths, 16, shuffle=True, rng=rng)
    assert not np.array_equal(order, again)


def test_minibatches_of_equal_lengths_are_plain_shuffles():
    order, bounds = divide(np.full(10, 4), 4, shuffle=True, rng=np.random.RandomState(0))
    np.testing.assert_array_equal(order, np.random.RandomState(0).permutation(10))
    assert bounds == [(0, 4), (4, 8), (8, 10)]
    assert divide(np.full(10, 4), 4, shuffle=False, rng=np.random.RandomState(0))[0] is None


# ------------------------------------------------------------------------------------------------------------- stopping
def mlp_epochs(losses, tol, n_iter_no_change):
    """When scikit-learn's MLPClassifier stops, from its source: after more than that many epochs without."""
    best, count = math.inf, 0
    for epoch, loss in enumerate(losses, start=1):
        count = count + 1 if loss > best - tol else 0
        best = min(best, loss)
        if count > n_iter_no_change:
            return epoch
    return None


CURVES = {
    "flat": [1.0] * 30,
    "slow": [1.0 - 0.009 * i for i in range(30)],
    "just enough": [1.0 - 0.0101 * i for i in range(30)],
    "up and down": [1.0, 0.5, 0.8, 0.49, 0.7, 0.495, 0.489, 0.6, 0.3, *[0.31] * 21],
}


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("n_iter_no_change", [1, 3])
def test_stops_when_scikit_learns_perceptron_would(monkeypatch, curve, n_iter_no_change):
    network, losses = make_network(), CURVES[curve]
    Scripted(monkeypatch, network, losses)
    state = run(network, make_data(), batch_size=60, tol=0.01, n_iter_no_change=n_iter_no_change, max_iter=30)
    wanted = mlp_epochs(losses, 0.01, n_iter_no_change)
    assert state.n_iter == (wanted or 30)
    assert state.converged == (wanted is not None)
    np.testing.assert_allclose(state.loss_curve, losses[: state.n_iter], rtol=1e-15)
    assert state.best_loss == min(state.loss_curve)


def test_running_out_of_epochs_is_not_convergence():
    assert not run(make_network(), make_data(), max_iter=2).converged
    assert not run(make_network(), make_data(), solver="lbfgs", max_iter=2).converged
    assert run(make_network(), make_data(), solver="lbfgs", max_iter=200, tol=1e-2).converged


def test_an_adaptive_rate_is_divided_on_every_plateau_until_it_is_tiny(monkeypatch):
    network = make_network()
    Scripted(monkeypatch, network, [1.0] * 100)
    schedule = ReduceOnPlateau(1e-2, factor=0.1, minimum=1e-4)
    state = run(network, make_data(), learning_rate=schedule, batch_size=60, max_iter=100, n_iter_no_change=2, tol=0.01)
    # 1 + 3 epochs at 1e-2, then 3 at 1e-3, then 3 at 1e-4, with which it ends.
    assert state.n_iter == 10
    assert state.converged
    np.testing.assert_allclose(schedule(0), 1e-4)


def test_early_stopping_follows_the_score_and_restores_the_best_parameters():
    scores, seen = iter([0.5, 0.7, 0.9, 0.9, 0.8, 0.8, 0.85, 0.99]), []
    network, (sequences, targets) = make_network(), make_data()

    def scorer(outputs, given, weights):
        assert given is marker
        assert weights is None
        seen.append(network.parameters.flat.copy())
        np.testing.assert_array_equal(outputs, network.outputs(sequences))
        return next(scores)

    marker = object()
    state = run(
        network,
        (sequences, targets),
        early_stopping=True,
        validation=(sequences, marker, None),
        scorer=scorer,
        max_iter=30,
        n_iter_no_change=3,
        tol=0.01,
    )
    # The fourth epoch in a row that is not better than 0.9 by 0.01 is the seventh of all.
    assert state.validation_scores == [0.5, 0.7, 0.9, 0.9, 0.8, 0.8, 0.85]
    assert state.converged
    assert state.best_validation_score == 0.9
    np.testing.assert_array_equal(network.parameters.flat, seen[2])
    assert not np.array_equal(seen[2], seen[6])


def test_early_stopping_scores_by_the_loss_by_default():
    network, data = make_network(), make_data()
    sequences, targets = make_data(20, seed=9)
    state = run(network, data, early_stopping=True, validation=(sequences, targets, None), max_iter=3)
    assert len(state.validation_scores) == 3
    assert state.best_validation_score == max(state.validation_scores)
    np.testing.assert_allclose(-network.loss(sequences, targets), state.best_validation_score, rtol=1e-12)


# -------------------------------------------------------------------------------------------------------------- trouble
def test_an_interrupt_ends_training_and_keeps_the_model(monkeypatch):
    network = make_network()
    Scripted(monkeypatch, network, [1.0, 0.9, KeyboardInterrupt()])
    before = network.parameters.flat.copy()
    with pytest.warns(UserWarning, match="interrupted by user"):
        state = run(network, make_data(), batch_size=60)
    assert state.interrupted
    assert not state.converged
    assert state.loss_curve == [1.0, 0.9]
    assert not np.array_equal(network.parameters.flat, before)
    assert np.isfinite(network.outputs(make_data()[0])).all()


def test_an_interrupt_of_early_stopping_leaves_the_best_parameters(monkeypatch):
    network, data, seen = make_network(), make_data(), []
    Scripted(monkeypatch, network, [1.0, 0.9, KeyboardInterrupt()])
    scores = iter([0.9, 0.1])

    def scorer(*arguments):
        seen.append(network.parameters.flat.copy())
        return next(scores)

    with pytest.warns(UserWarning, match="interrupted by user"):
        run(network, data, batch_size=60, early_stopping=True, validation=(*data, None), scorer=scorer)
    np.testing.assert_array_equal(network.parameters.flat, seen[0])


def test_an_interrupt_of_lbfgs_keeps_the_last_iteration(monkeypatch):
    network, data = make_network(dtype="float64"), make_data(dtype="float64")
    calls = []
    original = Network.loss_and_gradient

    def interrupted(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    monkeypatch.setattr(Network, "loss_and_gradient", interrupted)
    with pytest.warns(UserWarning, match="interrupted by user"):
        state = run(network, data, solver="lbfgs", max_iter=50)
    assert state.interrupted
    assert state.n_iter >= 1
    np.testing.assert_allclose(network.loss(*data), state.loss_curve[-1], rtol=1e-12)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize(("bad", "epoch"), [(0, 1), (2, 1), (4, 2), (5, 2), (8, 3)])
def test_a_loss_that_is_not_finite_restores_good_parameters_and_names_the_epoch(monkeypatch, poison, bad, epoch):
    """Four minibatches an epoch. The parameters at the beginning of an epoch are good once its first loss is finite."""
    network, state, starts = make_network(), TrainingState(), []
    Scripted(monkeypatch, network, [1.0] * bad + [poison])
    original_divide = loop.divide

    def spy(*arguments, **options):
        starts.append(network.parameters.flat.copy())
        return original_divide(*arguments, **options)

    monkeypatch.setattr(loop, "divide", spy)
    with pytest.raises(
        FloatingPointError, match=rf"loss became {poison} in epoch {epoch} .*remedies.*learning_rate_init"
    ):
        run(network, make_data(), state=state)
    good = starts[epoch - 1] if bad % 4 else starts[max(epoch - 2, 0)]
    np.testing.assert_array_equal(network.parameters.flat, good)
    assert state.n_iter == len(state.loss_curve) == epoch - 1


def test_a_gradient_that_is_not_finite_is_never_applied(monkeypatch):
    network = make_network()
    before = network.parameters.flat.copy()

    def loss_and_gradient(*arguments, **options):
        network.gradient.flat[3] = np.nan
        return 1.0

    one_by_one(monkeypatch)
    monkeypatch.setattr(network, "loss_and_gradient", loss_and_gradient)
    with pytest.raises(FloatingPointError, match="gradient stopped being finite in epoch 1"):
        run(network, make_data())
    np.testing.assert_array_equal(network.parameters.flat, before)


def test_parameters_that_overflow_are_noticed_before_training_ends():
    network = make_network()
    with pytest.raises(FloatingPointError, match="parameters stopped being finite in epoch 1"):
        run(network, make_data(), solver=SGD(momentum=0), learning_rate_init=1e45, max_iter=1, batch_size=60)
    assert np.isfinite(network.parameters.flat).all()


def test_a_real_explosion_leaves_a_working_network():
    sequences, targets = make_data()
    network = make_network(cell="rnn_relu", loss="squared_error", n_outputs=1)
    with pytest.raises(FloatingPointError, match="epoch"):
        run(
            network,
            (sequences, targets * 1e15),
            solver="sgd",
            learning_rate_init=1e4,
            max_grad_norm=None,
            max_iter=50,
        )
    assert np.isfinite(network.outputs(sequences)).all()


def test_lbfgs_names_the_iteration_of_a_loss_that_is_not_finite():
    sequences, targets = make_data(dtype="float64")
    values = sequences.values.copy()
    values[3] = np.nan
    network = make_network(dtype="float64")
    before = network.parameters.flat.copy()
    with pytest.raises(FloatingPointError, match=r"iteration 1 of L-BFGS.*remedies"):
        run(network, (Sequences(values, sequences.starts, sequences.lengths), targets), solver="lbfgs")
    np.testing.assert_array_equal(network.parameters.flat, before)


# ------------------------------------------------------------------------------------------------------------- going on
@pytest.mark.parametrize("copy", [False, True], ids=["same", "pickled"])
def test_two_calls_of_three_epochs_are_one_of_six(copy):
    whole, parts = make_network(), make_network()
    state = run(whole, make_data(), max_iter=6, learning_rate="constant")
    rng = np.random.RandomState(7)
    half = run(parts, make_data(), max_iter=3, rng=rng)
    if copy:
        half = pickle.loads(pickle.dumps(half))
    # The horizon is part of a schedule, so a constant one is told by its length alone.
    half = run(parts, make_data(), max_iter=3, rng=rng, state=half)
    assert half.loss_curve == state.loss_curve
    assert (half.n_iter, half.n_epochs, state.n_iter) == (3, 6, 6)
    assert half.n_samples_seen == state.n_samples_seen == 360
    np.testing.assert_array_equal(parts.parameters.flat, whole.parameters.flat)


def test_incremental_calls_run_one_epoch_each_along_one_schedule():
    network, other, rng = make_network(), make_network(), np.random.RandomState(7)
    state = TrainingState()
    for _ in range(4):
        run(network, make_data(), incremental=True, max_iter=8, learning_rate="step", rng=rng, state=state)
        assert state.n_iter == 1
    whole = run(other, make_data(), max_iter=8, learning_rate="step")
    assert state.loss_curve == whole.loss_curve[:4]


def test_another_solver_or_rate_starts_afresh():
    network, state = make_network(), TrainingState()
    run(network, make_data(), state=state)
    adam = state.solver
    run(network, make_data(), state=state, learning_rate_init=0.5)
    assert state.solver is adam
    assert state.schedule(0) == 0.5
    run(network, make_data(), state=state, solver="adamw", alpha=0.3)
    assert isinstance(state.solver, AdamW)
    assert state.solver.weight_decay == 0.3


def test_a_solver_and_a_schedule_of_ones_own():
    solver, schedule = Adam(beta_1=0.5), Constant(0.02)
    state = run(make_network(), make_data(), solver=solver, learning_rate=schedule, max_iter=1)
    assert state.solver is solver
    assert state.schedule is schedule
    assert solver.n_updates == 4


# ------------------------------------------------------------------------------------------------------- bad arguments
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "newton"}, "solver must be one of .*'adam'.*'lbfgs'.*got 'newton'"),
        ({"learning_rate": "fast"}, "learning_rate must be one of"),
        ({"early_stopping": True}, "early_stopping needs validation data"),
        ({"early_stopping": True, "incremental": True}, "no meaning for a single epoch"),
        ({"solver": "lbfgs", "incremental": True}, "'lbfgs' offers neither"),
        ({"weights": np.full(60, -1.0)}, "weights must be finite and not negative"),
        ({"weights": np.zeros(60)}, "not all of them zero"),
        ({"weights": np.ones(59)}, "expected 60 weights"),
        ({"targets": np.zeros(59)}, "expected 60 class numbers"),
        ({"targets": np.full(60, 2)}, "class numbers must lie between 0 and 1, got 2 to 2"),
    ],
)
def test_bad_arguments_are_named(options, message):
    sequences, targets = make_data()
    with pytest.raises(ValueError, match=message):
        train(make_network(), sequences, **{"targets": targets, **options})


def test_no_data_and_wrong_targets_of_a_regression():
    with pytest.raises(ValueError, match="at least one sequence"):
        train(make_network(), Sequences.from_padded(np.zeros((0, 3, 2), dtype="f")), np.zeros(0, dtype=int))
    with pytest.raises(ValueError, match=r"expected targets of shape \(60, 2\), got \(60, 1\)"):
        train(make_network(loss="huber"), make_data()[0], np.zeros(60))


# ------------------------------------------------------------------------------------------------------------- progress
def test_the_bar_shows_loss_score_rate_and_time_left():
    stream = io.StringIO()
    progress = Progress(4, 1000, verbose=True, file=stream)
    progress.epoch(0.51234, 0.875)
    progress.epoch(0.25, 0.9)
    progress.close()
    last = stream.getvalue().split("\r")[-1]
    for part in ("2/4", "loss=0.25", "validation=0.9", "samples/s", "epoch/s", "<"):
        assert part in last, last
    assert last.strip().count("\n") == 0


def test_verbose_training_writes_to_the_error_stream_and_silence_is_silent(capsys):
    run(make_network(), make_data(), verbose=True, max_iter=3)
    shown = capsys.readouterr()
    assert "3/3" in shown.err
    assert "loss=" in shown.err
    assert "validation" not in shown.err
    assert shown.out == ""
    run(make_network(), make_data(), max_iter=3)
    run(make_network(), make_data(), max_iter=3, solver="lbfgs")
    assert capsys.readouterr().err == ""
