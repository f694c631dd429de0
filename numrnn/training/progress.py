"""The progress bar of a training run."""

from __future__ import annotations

import time
from typing import Any, TextIO

__all__ = ["Progress"]


class Progress:
    """One line on the terminal: epochs done, time left, loss, validation score and rate.

    Parameters
    ----------
    n_epochs : int
        How many epochs there will be at most.
    n_units : int
        What an epoch consists of, for the rate: sequences or time steps.
    unit : str, default="samples"
    verbose : bool
        If false, nothing is shown (and tqdm is not imported).
    file : text stream, default=None
        Where to write instead of the standard error stream.
    """

    def __init__(
        self, n_epochs: int, n_units: int, *, unit: str = "samples", verbose: bool, file: TextIO | None = None
    ) -> None:
        self._n_units, self._unit = n_units, unit
        self._bar: Any = None
        if verbose:
            from tqdm import tqdm

            self._bar = tqdm(total=n_epochs, unit="epoch", desc="training", file=file, dynamic_ncols=True)
        self._began = time.perf_counter()

    def epoch(self, loss: float, validation_score: float | None) -> None:
        """An epoch is over."""
        if self._bar is None:
            return
        now = time.perf_counter()
        rate = self._n_units / max(now - self._began, 1e-9)
        self._began = now
        shown = f"loss={loss:.4g}"
        if validation_score is not None:
            shown += f", validation={validation_score:.4g}"
        self._bar.set_postfix_str(f"{shown}, {rate:.3g} {self._unit}/s", refresh=False)
        self._bar.update(1)

    def close(self) -> None:
        """Leave the last state of the line on the terminal."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
