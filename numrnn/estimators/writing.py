"""What a fitted encoder and decoder are asked for: predictions, draws, likelihoods, attention, scores."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import r2_score
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from numrnn.estimators.sides import Numbers, Tokens, check_pairs
from numrnn.packing import Sequences
from numrnn.reading import plain_array
from numrnn.seq2seq import CompiledTranslator, EncoderDecoder, PairBatch, compile_translator
from numrnn.text import UNKNOWN

if TYPE_CHECKING:
    from numrnn.seq2seq import Hypotheses

__all__ = ["AttentionMap", "Hypothesis", "Writer"]


class Hypothesis(NamedTuple):
    """One of several predictions for a source.

    Attributes
    ----------
    prediction : str, list of str or ndarray
        Of the kind of y.
    score : float
        What the search ranks by: the log-likelihood, divided by a power of the length, less a penalty of coverage.
    """

    prediction: Any
    score: float


class AttentionMap(NamedTuple):
    """Where a decoder looked.

    Attributes
    ----------
    weights : ndarray of shape (n_target_steps, n_source_steps)
        Rows sum to 1.
    source, target : list
        Tokens of both sides, or numbers of time steps where they hold measurements. The end of a target, which is
        written too, is ``"<end>"``.
    """

    weights: NDArray
    source: list[Any]
    target: list[Any]


class Writer:
    """The methods of a fitted `RNNSeq2Seq` that leave it as it is."""

    beam_width: int
    length_normalization: float
    coverage_penalty: float
    unknown: str
    max_length: int | None
    max_length_: int
    _network: EncoderDecoder
    _source: Tokens | Numbers
    _target: Tokens | Numbers

    if TYPE_CHECKING:

        def _sources(self, X: Any, dtype: np.dtype) -> Sequences: ...
        def _targets(self, y: Any, dtype: np.dtype) -> Sequences: ...
        def _batch(self, X: Any, y: Any) -> PairBatch: ...

    def predict(self, X: Any, *, lengths: Any = None) -> Any:
        """The target of every source.

        Parameters
        ----------
        X : list or array
            Sources, as for `fit`.
        lengths : int or sequence of int, default=None
            For targets of measurements, which have no token that ends them: the number of time steps of every
            prediction. None is `max_length_`, the length of the longest target of training.

        Returns
        -------
        predictions : list or ndarray
            Of the kind of y: a list of str, of lists of str, or of arrays of int; for measurements an array or a list
            of arrays, as y was. A prediction of tokens ends where the model ends it, or after `max_length_` tokens.

        Raises
        ------
        ValueError
            If X is not of the kind of the first fit, or `lengths` are given for tokens.
        """
        check_is_fitted(self)
        sources = self._sources(X, self._network.dtype)
        if isinstance(self._target, Numbers):
            steps = self._lengths(lengths, len(sources))
            rows, _ = self._network.predict_values(sources, steps)
            return self._target.restore(np.split(rows, np.cumsum(steps)[:-1]))
        if lengths is not None:
            raise ValueError("lengths are for targets of measurements; tokens end by themselves")
        return [found[0].prediction for found in self._search(X, sources, int(self.beam_width), 1)]

    def predict_n_best(self, X: Any, n: int = 5, *, beam_width: int | None = None) -> list[list[Hypothesis]]:
        """The best predictions for every source that a beam search finds, with their scores.

        Parameters
        ----------
        X : list or array
            Sources, as for `fit`.
        n : int, default=5
            Predictions for each of them.
        beam_width : int, default=None
            Hypotheses that are kept at each step, at least n. None is the larger one of n and the parameter.

        Returns
        -------
        hypotheses : list of list of Hypothesis
            The best first. Fewer than n where the search has not found as many.
        """
        check_is_fitted(self)
        self._check_writes_tokens("predict_n_best")
        if not (isinstance(n, Integral) and n >= 1):
            raise ValueError(f"n must be a positive integer, got {n!r}")
        width = max(int(n), int(self.beam_width)) if beam_width is None else beam_width
        if not (isinstance(width, Integral) and width >= n):
            raise ValueError(f"beam_width must be an integer that is at least n = {n}, got {width!r}")
        return self._search(X, self._sources(X, self._network.dtype), int(width), int(n))

    def sample(
        self,
        X: Any,
        n: int = 1,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        random_state: Any = None,
    ) -> list[list[Any]]:
        """Targets drawn by their probability.

        Parameters
        ----------
        X : list or array
            Sources, as for `fit`.
        n : int, default=1
            Targets for each of them.
        temperature : float, default=1.0
            Logits are divided by it: below 1 what is drawn gets more probable, at 0 it is what greedy decoding finds.
        top_k : int, default=None
            Draw among so many most probable tokens only.
        top_p : float in (0, 1], default=None
            Draw among the fewest most probable tokens that have this share of the probability.
        random_state : int, RandomState or None, default=None

        Returns
        -------
        samples : list of list
            For every source n targets of the kind of y.
        """
        check_is_fitted(self)
        self._check_writes_tokens("sample")
        if not (isinstance(n, Integral) and n >= 1):
            raise ValueError(f"n must be a positive integer, got {n!r}")
        if not (isinstance(temperature, Real) and 0 <= temperature < math.inf):
            raise ValueError(f"temperature must be a finite number of at least 0, got {temperature!r}")
        if top_k is not None and not (isinstance(top_k, Integral) and top_k >= 1):
            raise ValueError(f"top_k must be a positive integer or None, got {top_k!r}")
        if top_p is not None and not (isinstance(top_p, Real) and 0 < top_p <= 1):
            raise ValueError(f"top_p must be above 0 and at most 1, or None, got {top_p!r}")
        sources = self._sources(X, self._network.dtype)
        repeated = sources.take(np.repeat(np.arange(len(sources)), int(n)))
        uniforms = check_random_state(random_state).random_sample((len(repeated), self.max_length_ + 1))
        found = self._network.sample(
            repeated,
            self._most_tokens(len(repeated)),
            uniforms,
            temperature=float(temperature),
            top_k=None if top_k is None else int(top_k),
            top_p=1.0 if top_p is None else float(top_p),
            forbidden=self._forbidden(),
            return_attention=self._attends,
        )
        flat = self._written(X, found, np.repeat(np.arange(len(sources)), int(n)))
        samples = [hypotheses[0].prediction for hypotheses in flat]
        return [samples[first : first + n] for first in range(0, len(samples), int(n))]

    def log_likelihood(self, X: Any, y: Any) -> NDArray[np.float64]:
        """The logarithm of the probability of each target given its source, in nats, the end included.

        Parameters
        ----------
        X, y : list or array
            As for `fit`; y has tokens.

        Returns
        -------
        log_likelihoods : ndarray of float64, shape (n_samples,)
        """
        check_is_fitted(self)
        self._check_writes_tokens("log_likelihood")
        batch = self._batch(X, y)
        values = self._network.log_likelihoods(batch)
        ends = np.cumsum(batch.targets.lengths + 1)
        return np.add.reduceat(values, ends - batch.targets.lengths - 1)

    def attention_maps(self, X: Any, y: Any = None) -> list[AttentionMap]:
        """Where the decoder looks while it writes.

        Parameters
        ----------
        X : list or array
            Sources, as for `fit`.
        y : list or array, default=None
            Targets that it is made to write. None for what it predicts.

        Returns
        -------
        maps : list of AttentionMap
            For every pair the weights of the source's steps at every step of the target, the mean over the heads, and
            the tokens of both.
        """
        check_is_fitted(self)
        if self._network.attention is None:
            raise ValueError("attention_maps needs a model with attention, this one was fitted without")
        batch = self._batch(X, self.predict(X) if y is None else y)
        weights = self._network.attention_weights(batch)
        labels = []
        for side, data, sequences, end in (
            (self._source, X, batch.sources, []),
            (self._target, y, batch.targets, ["<end>"]),
        ):
            if isinstance(side, Tokens):
                if data is None:
                    labels.append([[side.by_id[int(i)] for i in part[:, 0]] + end for part in sequences])
                else:
                    labels.append([tokens + end for tokens in side.tokens_of(data, "X")])
            else:
                labels.append([list(range(int(length))) for length in sequences.lengths])
        return [AttentionMap(*parts) for parts in zip(weights, *labels, strict=True)]

    def transform(self, X: Any) -> Any:
        """The states of the encoder.

        Parameters
        ----------
        X : list or array
            Sources, as for `fit`.

        Returns
        -------
        states : list of ndarray of shape (n_timesteps_i, n_units), or ndarray of shape (n_samples, n_units)
            The states of the top layer after every step of each source, both directions side by side. For feature
            vectors, which have no encoder, the first hidden state of the decoder's last layer.
        """
        check_is_fitted(self)
        sources = self._sources(X, self._network.dtype)
        states, final = self._network.encode(sources)
        if self._source.kind == "vectors":
            # The bridge: of the states that it makes the hidden one comes first.
            top, size = len(self._network.decoder_sizes) - 1, self._network.decoder_sizes[-1]
            weight, bias = (self._network.parameters[f"bridge_{part}_l{top}"][:size] for part in ("weight", "bias"))
            return np.tanh(final @ weight.T + bias)
        return np.split(states, np.cumsum(sources.lengths)[:-1])

    def score(self, X: Any, y: Any, *, metric: str = "exact_match") -> float:
        """How good the predictions are.

        Parameters
        ----------
        X, y : list or array
            As for `fit`.
        metric : {"exact_match", "token_accuracy"}, default="exact_match"
            For tokens: the share of targets that were predicted as they are, or the share of the places of the longer
            one of target and prediction that hold the same token in both. For measurements it is R² in any case, each
            prediction as long as its target, the mean over the columns.

        Returns
        -------
        score : float
            The higher, the better.
        """
        check_is_fitted(self)
        check_pairs(X, y)
        dtype = self._network.dtype
        sources, targets = self._sources(X, dtype), self._targets(y, dtype)
        if isinstance(self._target, Numbers):
            rows, _ = self._network.predict_values(sources, targets.lengths)
            return float(r2_score(targets.values[targets.rows()], rows))
        if metric not in ("exact_match", "token_accuracy"):
            raise ValueError(f"metric must be 'exact_match' or 'token_accuracy', got {metric!r}")
        found = self._search(X, sources, int(self.beam_width), 1)
        predicted = self._target.tokens_of([hypotheses[0].prediction for hypotheses in found], "the predictions")
        scores = [
            _agreement(one, other, metric) for one, other in zip(self._target.tokens_of(y, "y"), predicted, strict=True)
        ]
        return float(np.mean(scores))

    def compile(self) -> CompiledTranslator:
        """The model for compiled code: a function that predicts the target of one source, for your own ``@njit`` code.

        There is no `stream`: the first token of a target may depend on the last one of its source.

        Returns
        -------
        compiled : CompiledTranslator
            It does what `predict` does, with the beam that the parameters say now. Unknown tokens stay id 0, also with
            ``unknown="attend"``.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the model is not fitted.
        """
        check_is_fitted(self)
        if isinstance(self._target, Numbers):
            units = np.stack([self._target.scale, self._target.mean])
            return compile_translator(self._network, longest=self.max_length_, units=units)
        return compile_translator(
            self._network, longest=int(self._most_tokens(1)[0]), forbidden=self._forbidden(), **self._beam()
        )

    # --------------------------------------------------------------------------------------------------------- helpers
    def _check_writes_tokens(self, method: str) -> None:
        if isinstance(self._target, Numbers):
            raise ValueError(f"{method} is for targets of tokens; this model was fitted on measurements")

    def _lengths(self, lengths: Any, n_sources: int) -> NDArray[np.int64]:
        """Time steps of every prediction of measurements."""
        if lengths is None:
            lengths = self.max_length_
        steps = plain_array(lengths, "lengths")
        if steps.ndim == 0:
            steps = np.full(n_sources, steps)
        if steps.shape != (n_sources,) or steps.dtype.kind not in "iu" or (steps < 1).any():
            raise ValueError(f"lengths must be one positive integer, or one for each of {n_sources} sources")
        return steps.astype(np.int64)

    def _most_tokens(self, n_sources: int) -> NDArray[np.int64]:
        return np.full(n_sources, self.max_length_ if self.max_length is None else self.max_length, dtype=np.int64)

    @property
    def _attends(self) -> bool:
        """Whether what is written depends on the weights of attention."""
        assert isinstance(self._target, Tokens)
        replaces = self.unknown == "attend" and self._target.knows_unknown
        if replaces and (not isinstance(self._source, Tokens) or self._network.attention is None):
            raise ValueError(
                f"The 'unknown' parameter of {type(self).__name__} can be 'attend' only with attention to a source of "
                "tokens."
            )
        if replaces and (self._source.kind == "ids") != (self._target.kind == "ids"):
            raise ValueError(
                f"The 'unknown' parameter of {type(self).__name__} can be 'attend' only if the tokens of both sides "
                "are strings, or those of both are integers."
            )
        return replaces

    def _forbidden(self) -> tuple[int, ...]:
        assert isinstance(self._target, Tokens)
        return (UNKNOWN,) if self.unknown == "forbid" or not self._target.knows_unknown else ()

    def _beam(self) -> dict[str, Any]:
        """The search that the parameters ask for, as `compile_translator` calls it."""
        if self.beam_width == 1:
            return {}
        return {
            "width": int(self.beam_width),
            "exponent": float(self.length_normalization),
            "coverage": float(self.coverage_penalty) if self._network.attention is not None else 0.0,
        }

    def _search(self, X: Any, sources: Sequences, width: int, n_best: int) -> list[list[Hypothesis]]:
        common: dict[str, Any] = {"forbidden": self._forbidden(), "return_attention": self._attends}
        most = self._most_tokens(len(sources))
        if width == 1:
            found = self._network.greedy(sources, most, **common)
        else:
            found = self._network.beam(
                sources,
                most,
                width=width,
                n_best=n_best,
                length_normalization=float(self.length_normalization),
                coverage_penalty=float(self.coverage_penalty) if self._network.attention is not None else 0.0,
                **common,
            )
        return self._written(X, found, np.arange(len(sources)))

    def _written(self, X: Any, found: Hypotheses, numbers: NDArray[np.int64]) -> list[list[Hypothesis]]:
        """Hypotheses in the form of y. The source of each is that sample of X."""
        target = self._target
        assert isinstance(target, Tokens)
        of_sources: list[list[Any]] = []
        if found.attention is not None:
            assert isinstance(self._source, Tokens)
            of_sources = self._source.tokens_of(X, "X")
        written = []
        by_id = target.by_id
        for place, number in enumerate(numbers.tolist()):
            hypotheses = []
            for rank, length in enumerate(found.lengths[place].tolist()):
                if length < 0:
                    continue
                ids = found.tokens[place, rank, :length].tolist()
                tokens = [by_id[i] for i in ids]
                if found.attention is not None and of_sources[number]:
                    for step in (step for step, i in enumerate(ids) if i == UNKNOWN):
                        tokens[step] = of_sources[number][int(found.attention[place][rank][step].argmax())]
                hypotheses.append(Hypothesis(target.join(tokens), float(found.scores[place, rank])))
            written.append(hypotheses)
        return written


def _agreement(one: list[Any], other: list[Any], metric: str) -> float:
    if metric == "exact_match":
        return float(one == other)
    longest = max(len(one), len(other))
    return sum(a == b for a, b in zip(one, other, strict=False)) / longest if longest else 1.0
