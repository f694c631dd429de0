"""Threads that run kernels side by side."""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from numbers import Integral
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from numrnn.kernels.barrier import await_begin, await_count
from numrnn.kernels.jit import COMPILED

__all__ = ["Workers", "effective_n_jobs"]

# More arrivals than any barrier waits for.
_NO_WAITING = 2**62
# How often a thread without work looks for some before it sleeps: about a millisecond.
_AWAKE = 2**16
# Floating-point operations that are worth a thread of their own.
_FLOPS_PER_THREAD = 4_000_000
# Looks that take about as long as the way of a task through Python to its kernel, where it leaves the interpreter's
# lock to others. Two threads that want that lock at once would have to be woken by the system.
_THROUGH_PYTHON = 300
# The most looks for a thread that was asked to work and is awake: its processor may be taken.
_UNTIL_BEGUN = 1024


def effective_n_jobs(n_jobs: int | None) -> int:
    """The number of threads that `n_jobs` stands for.

    Parameters
    ----------
    n_jobs : int or None
        A positive number is itself. None and -1 mean every processor this process may use, but no more than the
        environment variables ``OMP_NUM_THREADS`` and ``NUMBA_NUM_THREADS`` allow (joblib sets them in its worker
        processes); -2 one fewer, and so on.

    Raises
    ------
    ValueError
        If `n_jobs` is 0.
    """
    if n_jobs is not None and (isinstance(n_jobs, bool) or not isinstance(n_jobs, Integral) or n_jobs == 0):
        raise ValueError(f"n_jobs must be None or an integer other than 0, got {n_jobs!r}")
    if n_jobs is not None and n_jobs > 0:
        return int(n_jobs)
    available = _processors()
    for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        limit = os.environ.get(variable, "")
        if limit.isdecimal() and int(limit) > 0:
            available = min(available, int(limit))
    return max(1, available + 1 + (-1 if n_jobs is None else n_jobs))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Work:
    """Tasks that several threads take one after the other, each whichever is next."""

    def __init__(self, tasks: Sequence[Callable[[], Any]], release: Callable[[], None]) -> None:
        self.release = release
        self.errors: dict[int, BaseException] = {}
        # The first one is the caller's.
        self._first = tasks[0]
        self._waiting = deque(enumerate(tasks[1:], 1))
        # How often a thread other than the caller's went to look for a task, and how often it was done with it.
        self._begun: list[None] = []
        self._ended: list[None] = []
        self._all_ended: threading.Event | None = None

    def do_next(self) -> bool:
        """Do the next task, if there is one; its error is kept."""
        try:
            number, task = self._waiting.popleft()
        except IndexError:
            return False
        self._do(number, task)
        return True

    def do_first(self) -> None:
        self._do(0, self._first)

    def _do(self, number: int, task: Callable[[], Any]) -> None:
        try:
            task()
        except BaseException as error:
            self.errors[number] = error
            self.release()
            if isinstance(error, KeyboardInterrupt):
                raise

    def help(self) -> None:
        """What the other threads do."""
        more = True
        while more:
            # In this order: who finds no task waiting, and as many ended as begun, knows that none is running.
            self._begun.append(None)
            try:
                more = self.do_next()
            except KeyboardInterrupt:
                pass
            finally:
                self._ended.append(None)
        waiting = self._all_ended
        if waiting is not None and self.is_done:
            waiting.set()

    def cancel(self) -> None:
        """Leave the tasks undone that nobody has begun."""
        self._waiting.clear()

    @property
    def is_done(self) -> bool:
        """Whether no task is left, and no other thread is at one."""
        ended = len(self._ended)
        return not self._waiting and len(self._begun) == ended

    def wait(self) -> None:
        """Sleep until it is done."""
        event = self._all_ended = threading.Event()
        if not self.is_done:
            event.wait()


class _Helper:
    """A thread that waits for work: awake for a short while after the last one, then asleep.

    To wake a sleeping thread takes as long as a small pass over a batch.
    """

    def __init__(self, stays_awake: bool) -> None:
        self.is_awake = stays_awake
        self._looks = _AWAKE if stays_awake else 0
        # How often it was asked to work, which of these it has begun, and after which it waits again; each in a cache
        # line of its own.
        self._counts = np.zeros((4, 16), dtype=np.int64)
        self._asked, self._begun, self._idle, self._nothing = self._counts[:, :1]
        self._condition = threading.Condition()
        self._work: _Work | None = None
        self._thread = threading.Thread(target=self._run, name="numrnn", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        done = 0
        while True:
            if not (self._looks and await_count(self._idle, done, self._asked, done + 1, self._looks)):
                with self._condition:
                    self.is_awake = False
                    while self._asked[0] <= done:
                        self._condition.wait()
                    self.is_awake = self._looks > 0
            done = int(self._asked[0])
            work = self._work
            self._begun[0] = done
            if work is None:
                return
            work.help()
            del work

    def ask(self, work: _Work | None) -> None:
        """Give it work; None is its end."""
        self._work = work
        asked = int(self._asked[0]) + 1
        if self.is_awake:
            # Asked where nobody holds the interpreter's lock, and left alone with that until it is through Python.
            await_begin(self._asked, asked, self._begun, asked, _UNTIL_BEGUN, _THROUGH_PYTHON)
        else:
            self._asked[0] = asked
        # It may have fallen asleep before it could see that.
        if not self.is_awake:
            with self._condition:
                self._condition.notify()

    def await_idle(self) -> None:
        """Look for a while whether it has done its work."""
        if self._looks:
            await_count(self._nothing, 0, self._idle, int(self._asked[0]), _AWAKE)

    def join(self) -> None:
        self._thread.join()


class Workers:
    """A pool of threads, started when first needed.

    It belongs to whoever made it. A process forked while it was in use, and a copy made by pickling, start threads of
    their own.

    Parameters
    ----------
    n_jobs : int or None, default=None
        See `effective_n_jobs`.

    Attributes
    ----------
    n : int
        Number of threads that work at once, the calling one included.
    """

    def __init__(self, n_jobs: int | None = None) -> None:
        self.n_jobs = n_jobs
        self.n = effective_n_jobs(n_jobs)
        # Threads that wait by looking would take the processors of those that work.
        self._stay_awake = COMPILED and self.n <= _processors()
        self._start_over()

    def _start_over(self) -> None:
        self._helpers: list[_Helper] = []
        self._process = os.getpid()
        self._busy = threading.Lock()

    def run(self, tasks: Sequence[Callable[[], Any]], *, counters: Sequence[NDArray[np.int64]] = ()) -> None:
        """Run all tasks, the first in the calling thread, and wait for them; the first error among them is raised.

        Parameters
        ----------
        tasks : sequence of callable
        counters : sequence of ndarray, default=()
            If tasks wait for one another, the counters of the barriers where they do. Then all tasks run at once, so
            that there may be at most `n` of them. Should one of them fail, the others do not wait any longer.

        Raises
        ------
        ValueError
            If there are more tasks with barriers than threads.
        """
        if len(tasks) < 2 or self.n < 2:
            for task in tasks:
                task()
            return
        if self._process != os.getpid():
            # Forked: the threads stayed behind, and a lock may have been held by one of them.
            self._start_over()
        if len(tasks) > self.n and counters:
            raise ValueError(f"{len(tasks)} tasks cannot run at once in {self.n} threads")

        def release() -> None:
            for counter in counters:
                counter[0] = _NO_WAITING

        work = _Work(tasks, release)
        # Tasks that wait for one another need the helpers. Others are done here if somebody else is using them.
        alone = not self._busy.acquire(blocking=bool(counters))
        try:
            self._run(work, [] if alone else self._awake_helpers(len(tasks) - 1))
        finally:
            if not alone:
                self._busy.release()
        if work.errors:
            raise work.errors[min(work.errors)]

    def worth(self, flops: int) -> int:
        """How many threads so many floating-point operations are worth: at least 1."""
        return max(1, min(self.n, flops // _FLOPS_PER_THREAD))

    def divide(self, count: int, flops: int, task: Callable[[int, int], Any], *, step: int = 1) -> None:
        """Call ``task(begin, end)`` for ranges that cover 0 to `count`, in as many threads as the work is worth.

        Parameters
        ----------
        count : int
        flops : int
            Floating-point operations of all ranges together.
        task : callable
        step : int, default=1
            Ranges begin at multiples of it.
        """
        parts = min(self.worth(flops), -(-count // step))
        if parts < 2:
            if count:
                task(0, count)
            return
        bounds = [min(count, -(-count * part // (parts * step)) * step) for part in range(parts)] + [count]
        self.run([partial(task, *pair) for pair in pairwise(bounds) if pair[1] > pair[0]])

    def _run(self, work: _Work, helpers: list[_Helper]) -> None:
        interrupt: KeyboardInterrupt | None = None
        try:
            for helper in helpers:
                helper.ask(work)
            work.do_first()
            while work.do_next():
                pass
        except KeyboardInterrupt as error:
            interrupt = error
        # Tasks write into buffers of the caller: none may be left running, whatever happened here, and however often
        # somebody presses Ctrl-C meanwhile.
        while interrupt is not None or not work.is_done:
            try:
                if interrupt is not None:
                    work.cancel()
                    work.release()
                if work.is_done:
                    break
                for helper in helpers:
                    helper.await_idle()
                if not work.is_done:
                    work.wait()
            except KeyboardInterrupt as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt

    def _awake_helpers(self, count: int) -> list[_Helper]:
        count = min(count, self.n - 1)
        while len(self._helpers) < count:
            if not self._helpers:
                _POOLS.add(self)
            self._helpers.append(_Helper(self._stay_awake))
        return self._helpers[:count]

    def _end(self) -> list[_Helper]:
        helpers, self._helpers = self._helpers, []
        if self._process != os.getpid():
            return []
        for helper in helpers:
            helper.ask(None)
        return helpers

    def close(self) -> None:
        """End the threads. A later `run` starts new ones."""
        if self._process != os.getpid():
            self._start_over()
        with self._busy:
            helpers = self._end()
        for helper in helpers:
            helper.join()

    def __del__(self) -> None:
        if getattr(self, "_helpers", None):
            self._end()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        return Workers, (self.n_jobs,)


# Those that have threads. At the end of the process these must be gone before the interpreter is.
_POOLS: WeakSet[Workers] = WeakSet()


@atexit.register
def _close_all() -> None:
    for workers in list(_POOLS):
        workers.close()
