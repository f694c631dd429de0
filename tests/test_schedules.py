"""Learning rates by epoch."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

import numrnn.training.schedules
from numrnn.training.schedules import SCHEDULES, Cosine, ReduceOnPlateau, Step, make_schedule


def rates(schedule, n_epochs):
    return [schedule(epoch) for epoch in range(n_epochs)]


def test_constant():
    assert rates(make_schedule("constant", 0.3, 10), 4) == [0.3] * 4


def test_step_by_name_divides_by_ten_after_each_third():
    np.testing.assert_allclose(rates(make_schedule("step", 1.0, 9), 9), [1] * 3 + [0.1] * 3 + [0.01] * 3)
    np.testing.assert_allclose(rates(Step(0.8, every=2, factor=0.5), 5), [0.8, 0.8, 0.4, 0.4, 0.2])


def test_cosine_rises_in_a_straight_line_and_falls_along_half_a_cosine():
    got = rates(Cosine(2.0, n_epochs=12, warm_up=3, final=0.5), 12)
    np.testing.assert_allclose(got[:4], [0.5, 1.0, 1.5, 2.0])
    np.testing.assert_allclose(got[3:], 0.5 + 1.5 * (1 + np.cos(np.pi * np.arange(9) / 9)) / 2)


def test_cosine_without_warm_up_begins_at_the_highest_rate_and_begins_anew_when_it_is_over():
    schedule = Cosine(1.0, n_epochs=4)
    assert schedule(0) == schedule(4) == 1.0
    assert 0 < schedule(3) < 0.2


def test_cosine_by_name_warms_up_for_a_twentieth():
    got = rates(make_schedule("cosine", 1.0, 100), 100)
    assert np.argmax(got) == 5
    assert min(got) > 0
    assert rates(make_schedule("cosine", 1.0, 1), 1) == [1.0]


def test_agrees_with_torch():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.8)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7)
    ours = Cosine(0.8, n_epochs=7)
    for epoch in range(7):
        np.testing.assert_allclose(ours(epoch), optimizer.param_groups[0]["lr"], rtol=1e-12)
        optimizer.step()
        cosine.step()


def test_reduces_on_a_plateau_until_the_rate_is_tiny():
    schedule = make_schedule("adaptive", 1e-3, 10)
    seen = []
    while schedule.on_plateau():
        seen.append(schedule(0))
    np.testing.assert_allclose(seen, [2e-4, 4e-5, 8e-6, 1.6e-6, 3.2e-7])


def test_only_a_plateau_schedule_goes_on_after_a_plateau():
    for name in SCHEDULES:
        assert make_schedule(name, 0.1, 20).on_plateau() == (name == "adaptive")


def test_a_schedule_of_ones_own_or_a_function():
    mine = ReduceOnPlateau(0.1)
    assert make_schedule(mine, 7.0, 10) is mine
    assert rates(make_schedule(lambda epoch: 1 / (1 + epoch), 7.0, 10), 3) == [1.0, 0.5, 1 / 3]


@pytest.mark.parametrize("rate", [-0.1, float("nan"), float("inf")])
def test_a_function_must_return_a_rate(rate):
    with pytest.raises(ValueError, match="epoch 3"):
        make_schedule(lambda epoch: rate, 0.1, 10)(3)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"'constant', 'step', 'cosine', 'adaptive'.*got 'linear'"):
        make_schedule("linear", 0.1, 10)
    with pytest.raises(ValueError, match="every must be a positive"):
        Step(0.1, every=0)
    with pytest.raises(ValueError, match="warm_up must be at least 0 and less than n_epochs = 5, got 5"):
        Cosine(0.1, n_epochs=5, warm_up=5)
    with pytest.raises(ValueError, match="factor must lie between 0 and 1"):
        ReduceOnPlateau(0.1, factor=1.0)


def test_examples_in_the_documentation():
    results = doctest.testmod(numrnn.training.schedules)
    assert results.attempted > 4
    assert results.failed == 0
