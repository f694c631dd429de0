"""What an encoder and a decoder write on their own: searches, draws, numbers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from numrnn.packing import Sequences
from numrnn.seq2seq.decoding import Hypotheses, beam, draw, unroll
from numrnn.seq2seq.passes import Passes

__all__ = ["Writing"]


class Writing(Passes):
    """The methods that write."""

    def greedy(
        self,
        sources: Sequences,
        max_lengths: NDArray[np.int64],
        *,
        forbidden: Iterable[int] = (),
        return_attention: bool = False,
    ) -> Hypotheses:
        """The most probable token after those before it, again and again: `beam` of width 1, ranked by nothing."""
        return self.beam(
            sources,
            max_lengths,
            width=1,
            length_normalization=0.0,
            forbidden=forbidden,
            return_attention=return_attention,
        )

    def beam(
        self,
        sources: Sequences,
        max_lengths: NDArray[np.int64],
        *,
        width: int = 5,
        n_best: int = 1,
        length_normalization: float = 1.0,
        coverage_penalty: float = 0.0,
        forbidden: Iterable[int] = (),
        return_attention: bool = False,
    ) -> Hypotheses:
        """Beam search: of all continuations the `width` most probable ones are kept at every step.

        The search in a source ends when `width` hypotheses have ended, or when no other one can get among the best.

        Parameters
        ----------
        sources : Sequences
        max_lengths : ndarray of int64, shape (n_sources,)
            Tokens at most, the end not counted, which is forced then.
        width, n_best : int, default=5, 1
        length_normalization : float, default=1.0
            The score is the log-likelihood divided by (tokens + 1) to this power.
        coverage_penalty : float, default=0.0
            Factor of ``-sum_j log(min(1, a_j))``, which is subtracted from the score; a_j is the attention that row j
            of the source got in all steps together (Wu et al., 2016, arXiv:1609.08144).
        forbidden : iterable of int, default=()
            Ids that are not written.
        return_attention : bool, default=False

        Returns
        -------
        Hypotheses
        """
        most = self._check_decoding(sources, max_lengths, "ids")
        if width < 1 or n_best < 1 or n_best > width:
            raise ValueError(f"width must be at least 1, and n_best from 1 to width, got {width} and {n_best}")
        if length_normalization < 0 or coverage_penalty < 0:
            raise ValueError(
                "length_normalization and coverage_penalty must not be negative, got "
                f"{length_normalization} and {coverage_penalty}"
            )
        return beam(
            self, sources, most, width=width, n_best=n_best, exponent=length_normalization, coverage=coverage_penalty,
            forbidden=tuple(forbidden), with_attention=return_attention,
        )  # fmt: skip

    def sample(
        self,
        sources: Sequences,
        max_lengths: NDArray[np.int64],
        uniforms: NDArray[np.float64],
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        forbidden: Iterable[int] = (),
        return_attention: bool = False,
    ) -> Hypotheses:
        """Draw one target for every source, token by token.

        Parameters
        ----------
        sources, max_lengths, forbidden, return_attention
            As for `beam`.
        uniforms : ndarray of float64, shape (n_sources, at least the largest of max_lengths)
            From 0 to 1, one for every token.
        temperature, top_k, top_p : float, int or None, float
            See `choose`.

        Returns
        -------
        Hypotheses
            With one hypothesis for every source, whose score is its log-likelihood at temperature 1.
        """
        most = self._check_decoding(sources, max_lengths, "ids")
        if uniforms.ndim != 2 or len(uniforms) != len(sources) or uniforms.shape[1] < most.max(initial=0):
            raise ValueError(
                f"expected uniforms of shape ({len(sources)}, at least {most.max(initial=0)}), got {uniforms.shape}"
            )
        if temperature < 0 or (top_k is not None and top_k < 1) or not 0 < top_p <= 1:
            raise ValueError(
                "temperature must not be negative, top_k at least 1 and top_p above 0 and at most 1, got "
                f"{temperature}, {top_k} and {top_p}"
            )
        return draw(
            self, sources, most, np.asarray(uniforms, dtype=np.float64), temperature=temperature,
            top_k=self.n_outputs if top_k is None else top_k, top_p=top_p, forbidden=tuple(forbidden),
            with_attention=return_attention,
        )  # fmt: skip

    def predict_values(
        self, sources: Sequences, lengths: NDArray[np.int64], *, return_attention: bool = False
    ) -> tuple[NDArray, list[NDArray] | None]:
        """Targets that are numbers: every output is the next input.

        Parameters
        ----------
        sources : Sequences
        lengths : ndarray of int64, shape (n_sources,)
            Time steps of every target.
        return_attention : bool, default=False

        Returns
        -------
        values : ndarray of shape (n_steps, target_size)
            Target after target.
        attention : list of ndarray of shape (length, length of the source), or None
        """
        steps = self._check_decoding(sources, lengths, "values")
        return unroll(self, sources, steps, with_attention=return_attention)

    def _check_decoding(self, sources: Sequences, lengths: NDArray, target: str) -> NDArray[np.int64]:
        self._check_sources(sources)
        if self.target != target:
            raise ValueError(f"this is for targets that are {target}, got a network for {self.target}")
        if self.decoder_inputs is not None:
            raise ValueError("a network with decoder_inputs does not read what it writes: see outputs_of")
        lengths = np.ascontiguousarray(lengths, dtype=np.int64)
        if lengths.shape != (len(sources),) or (lengths < 0).any():
            raise ValueError(f"expected one length, not negative, for each of {len(sources)} sources, got {lengths}")
        return lengths
