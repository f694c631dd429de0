"""The pool of threads."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from numrnn.workers import Workers, effective_n_jobs


@pytest.fixture
def processors(monkeypatch):
    """A machine of 8 processors without limits in its environment."""
    for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("n_jobs", "expected"), [(None, 8), (1, 1), (3, 3), (20, 20), (-1, 8), (-2, 7), (-8, 1), (-99, 1)]
)
def test_n_jobs_counts_as_in_scikit_learn(processors, n_jobs, expected):
    assert effective_n_jobs(n_jobs) == expected
    assert Workers(n_jobs).n == expected


def test_the_environment_limits_what_nobody_chose(processors, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert effective_n_jobs(None) == effective_n_jobs(-1) == 2
    assert effective_n_jobs(5) == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "4")
    assert effective_n_jobs(None) == 4


@pytest.mark.parametrize("n_jobs", [0, 1.5, True, "two"])
def test_other_values_are_refused(n_jobs):
    with pytest.raises(ValueError, match=f"n_jobs must be None or an integer other than 0, got {n_jobs!r}"):
        Workers(n_jobs)


@pytest.mark.parametrize("n_jobs", [1, 2, 3])
@pytest.mark.parametrize("n_tasks", [0, 1, 2, 7])
def test_every_task_runs_once_before_run_returns(n_jobs, n_tasks):
    done = []
    with Workers(n_jobs) as workers:
        workers.run([lambda i=i: (time.sleep(0.002), done.append(i)) for i in range(n_tasks)])
        assert sorted(done) == list(range(n_tasks))


def test_tasks_run_side_by_side():
    barrier = threading.Barrier(3, timeout=20)
    with Workers(3) as workers:
        workers.run([barrier.wait] * 3)  # would time out if one waited for another
    assert not barrier.broken


def test_one_job_stays_in_the_calling_thread():
    threads = []
    with Workers(1) as workers:
        workers.run([lambda: threads.append(threading.get_ident())] * 3)
    assert threads == [threading.get_ident()] * 3


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("culprit", [0, 1, 2])
def test_the_error_of_a_task_reaches_the_caller(n_jobs, culprit):
    finished = []

    def task(i):
        if i == culprit:
            raise ZeroDivisionError(f"task {i}")
        time.sleep(0.01)
        finished.append(i)

    with Workers(n_jobs) as workers:
        with pytest.raises(ZeroDivisionError, match=f"task {culprit}"):
            workers.run([lambda i=i: task(i) for i in range(3)])
        if n_jobs > 1:
            assert sorted(finished) == sorted({0, 1, 2} - {culprit})  # nothing is left running
        workers.run([lambda: finished.append("again")] * 2)
    assert finished.count("again") == 2


def test_several_threads_share_one_pool():
    counts = [0] * 4
    with Workers(2) as workers:

        def count(i):
            for _ in range(50):
                done = []
                workers.run([lambda: done.append(None)] * 3)  # noqa: B023
                counts[i] += len(done)

        threads = [threading.Thread(target=count, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
    assert counts == [150] * 4


def test_closing_ends_the_threads_and_a_later_run_starts_new_ones():
    workers = Workers(3)
    before = threading.active_count()
    workers.run([lambda: time.sleep(0.01)] * 3)
    assert threading.active_count() > before
    workers.close()
    workers.close()
    assert threading.active_count() == before
    done = []
    workers.run([lambda: done.append(1)] * 3)
    assert len(done) == 3
    workers.close()


def test_threads_end_with_their_owner():
    before = threading.active_count()
    workers = Workers(3)
    workers.run([lambda: time.sleep(0.01)] * 3)
    del workers
    end = time.monotonic() + 30
    while threading.active_count() > before:
        assert time.monotonic() < end, "the threads outlive their pool"
        time.sleep(0.001)


def test_a_sleeping_thread_is_woken_and_one_that_is_awake_is_not_needed_to_finish():
    done = []
    with Workers(2) as workers:
        for pause in (0, 0, 0.05, 0, 0.05):  # longer than a thread stays awake
            time.sleep(pause)
            barrier = threading.Barrier(2, timeout=30)
            workers.run([barrier.wait] * 2)
            workers.run([lambda: done.append(None)] * 5)
    assert len(done) == 25


def test_a_task_may_use_the_pool_that_runs_it():
    done = []
    with Workers(2) as workers:
        workers.run([lambda: workers.run([lambda: done.append(None)] * 2)] * 2)
    assert len(done) == 4


def test_a_pickle_is_its_number_of_jobs():
    with Workers(2) as workers:
        workers.run([lambda: None] * 2)
        copy = pickle.loads(pickle.dumps(workers))
    assert (copy.n, copy.n_jobs) == (2, 2)
    assert pickle.loads(pickle.dumps(Workers())).n_jobs is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_starts_threads_of_its_own():
    program = """
import os, sys
from numrnn.workers import Workers
workers, done = Workers(2), []
workers.run([lambda: done.append(1)] * 2)
child = os.fork()
if child == 0:
    workers.run([lambda: done.append(1)] * 2)
    os._exit(0 if len(done) == 4 else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    process = subprocess.run([sys.executable, "-W", "ignore", "-c", program], env=environment, timeout=60)
    assert process.returncode == 0


def test_a_program_ends_without_closing():
    program = "from numrnn.workers import Workers; w = Workers(2); w.run([lambda: None] * 2); print('end')"
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    process = subprocess.run(
        [sys.executable, "-c", program], env=environment, timeout=60, capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "end" and not process.stderr


def test_groups_run_at_once_and_one_after_the_other():
    # Every task of a group waits for all others of its group; two groups at a time would need four threads.
    with Workers(2) as workers:

        def group() -> None:
            barrier = threading.Barrier(2, timeout=30)
            workers.run([barrier.wait, barrier.wait], counters=[np.zeros(1, np.int64)])

        callers = [threading.Thread(target=group) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(timeout=60)
        assert not any(caller.is_alive() for caller in callers)


def test_a_group_larger_than_the_pool_is_refused():
    with Workers(2) as workers, pytest.raises(ValueError, match=r"3 tasks cannot run at once in 2 threads"):
        workers.run([int, int, int], counters=[np.zeros(1, np.int64)])


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failed_task_releases_those_that_wait_for_it(failing):
    counter = np.zeros(1, np.int64)

    def wait() -> None:
        end = time.monotonic() + 30
        while counter[0] < 2:
            assert time.monotonic() < end, "nobody released the barrier"
            time.sleep(0.001)

    def fail() -> None:
        raise RuntimeError("out of order")

    tasks = [wait, wait]
    tasks[failing] = fail
    with Workers(2) as workers, pytest.raises(RuntimeError, match="out of order"):
        workers.run(tasks, counters=[counter])


def test_an_interrupt_does_not_leave_tasks_running(tmp_path):
    # The main thread is interrupted while it waits: the task in the other thread is finished first.
    script = """
import os, signal, threading, time
from numrnn.workers import Workers
# Programs in the background of a shell are started with the signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
finished, begun = [], threading.Event()
def long():
    begun.set()
    time.sleep(0.5)
    finished.append(True)
def interrupt():
    begun.wait()
    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    Workers(2).run([interrupt, long])
except KeyboardInterrupt:
    print("interrupted", finished)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "interrupted [True]\n", done.stderr
