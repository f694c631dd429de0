"""Solvers against the textbook's loops and against torch.optim."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import oracle.solvers
import pytest
from threadpoolctl import threadpool_limits

from numrnn.kernels.cpu.solvers import euclidean_norm
from numrnn.training.lbfgs import minimize_lbfgs
from numrnn.training.solvers import SGD, SOLVERS, Adam, AdamW, RMSprop

pytestmark = pytest.mark.interpreter

TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
SIZE = 19  # no multiple of a vector

CASES = {
    "sgd": (lambda: SGD(momentum=0.0), lambda w, g: oracle.solvers.sgd(w, g, 0.05)),
    "momentum": (
        lambda: SGD(momentum=0.8, nesterov=False),
        lambda w, g: oracle.solvers.sgd(w, g, 0.05, momentum=0.8),
    ),
    "nesterov": (lambda: SGD(), lambda w, g: oracle.solvers.sgd(w, g, 0.05, momentum=0.9, nesterov=True)),
    "adam": (lambda: Adam(), lambda w, g: oracle.solvers.adam(w, g, 0.05)),
    "adam, other rates": (
        lambda: Adam(beta_1=0.5, beta_2=0.9, epsilon=1e-3),
        lambda w, g: oracle.solvers.adam(w, g, 0.05, beta_1=0.5, beta_2=0.9, epsilon=1e-3),
    ),
    "adamw": (
        lambda: AdamW(weight_decay=0.2),
        lambda w, g: oracle.solvers.adam(w, g, 0.05, weight_decay=0.2),
    ),
    "rmsprop": (lambda: RMSprop(), lambda w, g: oracle.solvers.rmsprop(w, g, 0.05)),
    "rmsprop, other rates": (
        lambda: RMSprop(rho=0.7, epsilon=1e-2),
        lambda w, g: oracle.solvers.rmsprop(w, g, 0.05, decay=0.7, epsilon=1e-2),
    ),
}
every_solver = pytest.mark.parametrize("case", CASES)


def start(rng, dtype="float64", n_steps=12, scale=1.0):
    return rng.normal(size=SIZE).astype(dtype), (scale * rng.normal(size=(n_steps, SIZE))).astype(dtype)


@every_solver
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_follows_the_textbook(case, dtype, rng):
    make, reference = CASES[case]
    parameters, gradients = start(rng, dtype)
    path = reference(parameters.astype(np.float64), list(gradients.astype(np.float64)))
    solver = make()
    for gradient, wanted in zip(gradients, path, strict=True):
        before = gradient.copy()
        norm = solver.update(parameters, gradient, 0.05)
        np.testing.assert_allclose(parameters, wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        np.testing.assert_array_equal(gradient, before)
        np.testing.assert_allclose(norm, np.linalg.norm(gradient.astype(np.float64)), rtol=1e-12)
    assert parameters.dtype == dtype
    assert solver.n_updates == len(gradients)


@every_solver
def test_clips_to_the_global_norm_before_anything_else(case, rng):
    make, reference = CASES[case]
    parameters, gradients = start(rng)
    gradients[::2] *= 0.01
    norms = np.linalg.norm(gradients, axis=1)
    assert norms.min() < 1.5 < norms.max()
    clipped = [oracle.solvers.clip_by_global_norm(g, 1.5) for g in gradients]
    path = reference(parameters, clipped)
    solver = make()
    returned = [solver.update(parameters, g, 0.05, max_norm=1.5) for g in gradients]
    np.testing.assert_allclose(parameters, path[-1], rtol=1e-11)
    np.testing.assert_allclose(returned, norms, rtol=1e-13)


@every_solver
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(case, poison, rng):
    solver = CASES[case][0]()
    parameters, gradients = start(rng)
    solver.update(parameters, gradients[0], 0.05)
    before, state = parameters.copy(), solver.state()
    gradients[1, 7] = poison
    assert not math.isfinite(solver.update(parameters, gradients[1], 0.05, max_norm=1.0))
    np.testing.assert_array_equal(parameters, before)
    assert solver.n_updates == state["n_updates"] == 1
    for name, moment in solver.moments.items():
        np.testing.assert_array_equal(moment, state[name])


@every_solver
@pytest.mark.parametrize("through", ["state", "pickle"])
def test_goes_on_from_a_saved_state_as_if_nothing_had_happened(case, through, rng):
    solver = CASES[case][0]()
    parameters, gradients = start(rng)
    for gradient in gradients[:5]:
        solver.update(parameters, gradient, 0.05)
    if through == "pickle":
        other = pickle.loads(pickle.dumps(solver))
    else:
        other = CASES[case][0]()
        other.restore(solver.state())
    others = parameters.copy()
    for gradient in gradients[5:]:
        solver.update(parameters, gradient, 0.05)
        other.update(others, gradient, 0.05)
    np.testing.assert_array_equal(parameters, others)
    assert other.n_updates == len(gradients)


def test_a_saved_state_does_not_change_with_the_solver(rng):
    solver = Adam()
    parameters, gradients = start(rng)
    solver.update(parameters, gradients[0], 0.05)
    state = solver.state()
    mean = state["mean"].copy()
    solver.update(parameters, gradients[1], 0.05)
    np.testing.assert_array_equal(state["mean"], mean)


def test_adamw_decays_the_chosen_parts_only(rng):
    parameters, gradients = start(rng, n_steps=1)
    whole, none = (oracle.solvers.adam(parameters, gradients, 0.05, weight_decay=decay)[0] for decay in (0.5, 0.0))
    AdamW(weight_decay=0.5, spans=(np.array([2, 9]), np.array([5, 12]))).update(parameters, gradients[0], 0.05)
    decayed = np.isin(np.arange(SIZE), [2, 3, 4, 9, 10, 11])
    np.testing.assert_allclose(parameters, np.where(decayed, whole, none), rtol=1e-13)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 1000])
def test_norm_of_float32_is_summed_in_float64(size, rng):
    vector = (1e25 * rng.normal(size=size)).astype(np.float32)
    np.testing.assert_allclose(euclidean_norm(vector), np.linalg.norm(vector.astype(np.float64)), rtol=1e-13)


@pytest.mark.parametrize("case", [name for name in CASES if "other" not in name])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_agrees_with_torch(case, dtype, rng):
    torch = pytest.importorskip("torch")
    make = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
        "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8),
        "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
        "adam": lambda p: torch.optim.Adam(p, lr=0.05),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.2),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.05),
    }[case]
    parameters, gradients = start(rng, dtype)
    theirs = torch.nn.Parameter(torch.from_numpy(parameters.copy()))
    optimizer, solver = make([theirs]), CASES[case][0]()
    for gradient in gradients:
        theirs.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        solver.update(parameters, gradient, 0.05)
    np.testing.assert_allclose(parameters, theirs.detach().numpy(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_every_name_makes_a_solver_that_goes_downhill():
    for name, make in SOLVERS.items():
        parameters, solver = np.array([3.0, -2.0]), make()
        for _ in range(500):
            solver.update(parameters, parameters.copy(), 0.01, max_norm=1.0)
        assert np.abs(parameters).max() < 0.1, name


# --------------------------------------------------------------------------------------------------------------- L-BFGS
def rosenbrock(x):
    value = 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
    return value, np.array([-400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)])


def test_lbfgs_finds_the_minimum_and_reports_every_accepted_point():
    points = []
    best, converged = minimize_lbfgs(
        rosenbrock,
        np.array([-1.2, 1.0]),
        max_iter=200,
        tol=1e-8,
        on_iteration=lambda x, value: points.append((x.copy(), value)),
    )
    assert converged
    np.testing.assert_allclose(best, [1, 1], atol=1e-5)
    assert len(points) > 10
    for x, value in points:
        assert rosenbrock(x)[0] == value
    assert all(a[1] >= b[1] for a, b in itertools.pairwise(points))


def test_lbfgs_does_not_depend_on_the_threads_of_linear_algebra():
    size = 40_000  # enough for OpenBLAS to divide a product of two vectors
    scale = np.linspace(0.1, 3, size)

    def function(x):
        difference = np.sin(x) - scale
        return 0.5 * math.fsum(difference * difference), difference * np.cos(x)

    found = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            found.append(
                minimize_lbfgs(function, np.zeros(size), max_iter=20, tol=0.0, on_iteration=lambda x, value: None)[0]
            )
    np.testing.assert_array_equal(*found)


def test_lbfgs_says_when_it_ran_out_of_iterations():
    _, converged = minimize_lbfgs(
        rosenbrock, np.array([-1.2, 1.0]), max_iter=3, tol=1e-8, on_iteration=lambda x, value: None
    )
    assert not converged


def test_lbfgs_stops_at_a_value_that_is_not_finite():
    with pytest.raises(FloatingPointError, match="not finite"):
        minimize_lbfgs(lambda x: (math.nan, x), np.ones(2), max_iter=3, tol=1e-8, on_iteration=lambda x, value: None)


def test_a_solver_refuses_arrays_of_another_network():
    solver = Adam()
    solver.update(np.zeros(3), np.ones(3), 0.1)
    with pytest.raises(ValueError, match=r"one shape and type, got .*\(4,\) float64.*\(3,\) float64"):
        solver.update(np.zeros(4), np.ones(4), 0.1)
    with pytest.raises(ValueError, match="float32"):
        solver.update(np.zeros(3), np.ones(3, np.float32), 0.1)
