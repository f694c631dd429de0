"""Threads that run kernels side by side."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Workers", "effective_n_jobs"]

# More arrivals than any barrier waits for.
_NO_WAITING = 2**62


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
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        limit = os.environ.get(variable, "")
        if limit.isdecimal() and int(limit) > 0:
            available = min(available, int(limit))
    return max(1, available + 1 + (-1 if n_jobs is None else n_jobs))


def _wait(futures: Sequence[Future[Any]]) -> None:
    """Wait for all, however often somebody presses Ctrl-C meanwhile; then say that it was pressed."""
    interrupt: KeyboardInterrupt | None = None
    for future in futures:
        done = False
        while not done:
            try:
                done = future.done()
                if not done:
                    future.exception()
            except KeyboardInterrupt as error:
                interrupt = error
            except RuntimeError:
                # An interrupt within the lock of the future itself.
                interrupt = interrupt or KeyboardInterrupt()
                time.sleep(1e-4)
    if interrupt is not None:
        raise interrupt


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
        self._start_over()

    def _start_over(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._group = threading.Lock()

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
        if not counters:
            self._run_threads(tasks)
        elif len(tasks) > self.n:
            raise ValueError(f"{len(tasks)} tasks cannot run at once in {self.n} threads")
        else:

            def release() -> None:
                for counter in counters:
                    counter[0] = _NO_WAITING

            def guarded(task: Callable[[], Any]) -> None:
                try:
                    task()
                except BaseException:
                    release()
                    raise

            # Two such groups at a time could each have some of the threads and wait for the others for ever.
            with self._group:
                self._run_threads([partial(guarded, task) for task in tasks], release)

    def _run_threads(self, tasks: Sequence[Callable[[], Any]], release: Callable[[], None] | None = None) -> None:
        futures: list[Future[Any]] = []
        try:
            for task in tasks[1:]:
                futures.append(self._threads().submit(task))
            tasks[0]()
        except BaseException:
            # Also an interrupt from the keyboard before the first task has begun.
            if release is not None:
                release()
            raise
        finally:
            # Tasks write into buffers of the caller: none may be left running, whatever happened here.
            _wait(futures)
        for future in futures:
            future.result()

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.n - 1, thread_name_prefix="numrnn")
            return self._pool

    def close(self) -> None:
        """End the threads. A later `run` starts new ones."""
        if self._process != os.getpid():
            self._start_over()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        return Workers, (self.n_jobs,)
