"""Threads that run kernels side by side."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from typing import Any

__all__ = ["Workers", "effective_n_jobs"]


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

    def run(self, tasks: Sequence[Callable[[], Any]], *, together: bool = False) -> None:
        """Run all tasks, the first in the calling thread, and wait for them; the first error among them is raised.

        Parameters
        ----------
        tasks : sequence of callable
        together : bool, default=False
            Whether the tasks wait for one another, so that all must run at once. There may be at most `n` of them.
        """
        if len(tasks) < 2 or self.n < 2:
            for task in tasks:
                task()
            return
        if together:
            if len(tasks) > self.n:
                raise ValueError(f"{len(tasks)} tasks cannot run at once in {self.n} threads")
            # Two such groups at a time could each have some of the threads and wait for the others for ever.
            with self._group:
                self._run_threads(tasks)
        else:
            self._run_threads(tasks)

    def _run_threads(self, tasks: Sequence[Callable[[], Any]]) -> None:
        futures = [self._threads().submit(task) for task in tasks[1:]]
        try:
            tasks[0]()
        finally:
            # Tasks write into buffers of the caller: none may be left running, whatever happened here.
            for future in futures:
                future.exception()
        for future in futures:
            future.result()

    def _threads(self) -> ThreadPoolExecutor:
        if self._process != os.getpid():
            # Forked: the threads stayed behind, and a lock may have been held by one of them.
            self._start_over()
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.n - 1, thread_name_prefix="numrnn")
            return self._pool

    def close(self) -> None:
        """End the threads. A later `run` starts new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
            if pool is not None and self._process == os.getpid():
                pool.shutdown()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        return Workers, (self.n_jobs,)
