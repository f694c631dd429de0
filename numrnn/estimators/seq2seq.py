"""One sequence into another: encoder, attention, decoder."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions, validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted

from numrnn.devices import check_device, engine_of
from numrnn.estimators.base import automatic_batch_size, shared_constraints
from numrnn.estimators.fitting import leaving_results, loop_parameters, unchanged_if_unlearned, unchanged_on_error
from numrnn.estimators.sides import ANALYZERS, Numbers, Tokens, check_pairs, kind_of
from numrnn.estimators.validation import check_sizes_and_threads, hidden_sizes_of
from numrnn.estimators.writing import AttentionMap, Hypothesis, Writer
from numrnn.packing import Sequences
from numrnn.seq2seq import EncoderDecoder, PairBatch, Pairs
from numrnn.text import UNKNOWN
from numrnn.training.loop import TrainingState, train
from numrnn.workers import Workers

__all__ = ["AttentionMap", "Hypothesis", "RNNSeq2Seq"]

_COUNT = Interval(Integral, 1, None, closed="left")


class RNNSeq2Seq(Writer, BaseEstimator):
    """Recurrent encoder and decoder with attention: writes a sequence for every sequence that it reads.

    The encoder reads the source; a bridge, a dense layer, makes the first state of the decoder of the encoder's last
    one; the decoder writes the target, one token or row after the other, and looks back at the states of the encoder
    with attention [1]_ [2]_ [3]_. The decoder without a source sequence starts from a feature vector alone.

    Each side of the pairs is a list of one of these, and not necessarily both of the same:

    ================================================  ===================================================
    X or y                                            what it is
    ================================================  ===================================================
    list of str                                       texts, which `analyzer` splits into tokens
    list of lists of str                              tokens, as they are
    list of arrays of int, array of int (n, steps)    integers, each of which is a token
    list of arrays of float, array (n, steps, cols)   measurements: y is predicted by squared error
    X: array of float (n, n_features)                 feature vectors, which start the decoder
    y: array of float (n, steps)                      measurements, one at every step
    ================================================  ===================================================

    An empty source is read as one unknown token, an empty target is one that ends at once; sequences of measurements
    have at least one time step. Tokens that are not in the vocabulary are one token, "unknown"; what the network knows
    of it, it learned from such tokens in training (see `min_df` and `max_features`): without any, the unknown token is
    no more than a place in the source.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(128,)
        Units of each layer of the encoder, from the input up.
    decoder_layer_sizes : int, sequence of int or None, default=None
        Units of each layer of the decoder; None is `hidden_layer_sizes`.
    cell : {"gru", "lstm", "rnn"}, default="gru"
        Of both.
    bidirectional : bool, default=True
        Whether the encoder reads from both ends.
    attention : {"additive", "multiplicative", "multihead"} or None, default="additive"
        How the decoder finds the states of the encoder: by a layer of tanh units [1]_, by a bilinear form [2]_, or by
        `n_heads` scaled dot products side by side [3]_.
    n_heads : int, default=4
        For ``attention="multihead"``: heads, which must divide the units of the last layer of the decoder.
    embedding_dim : int or pair of int, default=64
        Length of the vectors of tokens. This and the parameters of `analyzer` to `max_features` are one value for both
        sides, or a pair (source, target).
    tied_embeddings : bool, default=False
        Whether the vectors of target tokens are also the weights of the output [4]_.
    analyzer : {"word", "split", "char", "subword"} or callable, or pair of them, default="word"
        How texts become tokens, and predicted tokens texts. "word": words and runs of punctuation, each with the blank
        before it. "split": what stands between white space, for texts that are tokenised already. "char": characters.
        "subword": pieces of words by byte-pair encoding, learned in the first fit; needs sentencepiece
        (``pip install "numrnn[subword]"``). A function from text to list of str; predicted tokens are joined by blanks,
        or by its method `join` if it has one.
    lowercase : bool or pair of bool, default=False
        Whether texts and tokens are converted to lower case.
    min_df : int or float in [0, 1], or pair, default=1
        Tokens in fewer samples are unknown ones; a float is a share of the samples.
    max_features : int or None, or pair, default=None
        Largest vocabulary, the most frequent tokens are kept; for ``analyzer="subword"`` the number of pieces, 8000 if
        None.
    dropout, input_dropout, output_dropout : float in [0, 1), default=0.0
        Share of what is left out in training: between layers, of the vectors of tokens (or the measurements), and of
        what the output reads.
    label_smoothing : float in [0, 1), default=0.0
        Share of each target's probability that is spread over the vocabulary in training [5]_.
    scheduled_sampling : float in [0, 1], default=0.0
        The decoder learns with the true tokens before each ("teacher forcing"). In the last epoch this share of them
        are its own predictions instead; the share grows linearly from 0 in the first epoch [6]_.
    max_length : int or None, default=None
        Tokens of the longest target, in training and in prediction. None is the longest one of the first fit. For
        measurements see `predict`.
    beam_width : int, default=1
        Hypotheses that are kept at each step of `predict`; 1 is greedy decoding.
    length_normalization : float, default=1.0
        Hypotheses are ranked by their log-likelihood divided by their length to this power: 0 prefers short ones.
    coverage_penalty : float, default=0.0
        Weight of a penalty for source tokens that got less than the attention of one target token [7]_.
    unknown : {"forbid", "attend", "keep"}, default="forbid"
        What happens to the unknown token in predictions: it is never predicted; it is replaced by the source token
        that got the highest attention; or it stays, as ``"<unknown>"`` or -1. Training without unknown tokens is
        always "forbid".
    solver : {"adam", "adamw", "sgd", "rmsprop"}, default="adam"
    learning_rate_init : float, default=1e-3
    learning_rate : {"constant", "step", "cosine", "adaptive"} or callable, default="constant"
        As of `RNNClassifier`.
    alpha : float, default=0.0
        Strength of the L2 penalty (for "adamw" of the weight decay).
    batch_size : int or "auto", default="auto"
        Pairs in a minibatch; "auto" as of `RNNClassifier`.
    max_iter : int, default=20
        Epochs at most.
    tol, n_iter_no_change : float, int, default=1e-4, 10
        When training stops for want of improvement, as of `RNNClassifier`.
    early_stopping : bool, default=False
        Whether every epoch is judged by the log-likelihood of held-out pairs, to end with the best epoch's parameters.
    validation_fraction : float in (0, 1), default=0.1
        Share of the pairs that is held out, if `fit` is not given any.
    max_grad_norm : float or None, default=1.0
        Longer gradients are scaled to this norm.
    warm_start : bool, default=False
        Whether `fit` goes on from the present parameters, with the present vocabularies.
    random_state : int, RandomState or None, default=None
    dtype : {"float32", "float64"}, default="float32"
    device : {"cpu", "cuda", "auto"}, default="cpu"
        What trains, as of :class:`RNNClassifier`, and judges held-out pairs. `scheduled_sampling` needs the CPU, and
        everything that a fitted model does is done by the CPU, whatever this is.
    n_jobs : int or None, default=None
        Threads; results do not depend on it.
    verbose : bool, default=False
        Whether to show a progress bar.

    Attributes
    ----------
    source_vocabulary_, target_vocabulary_ : dict
        Tokens and their ids, the most frequent first, where a side has tokens. 0 is the unknown one.
    max_length_ : int
        Tokens (or time steps) of the longest target.
    loss_curve_ : list of float
        Mean loss of each epoch, with dropout: nats per target token, or the squared error of standardised targets.
    validation_scores_ : list of float or None
        Minus the mean loss of the held-out pairs after each epoch, with `early_stopping`.
    best_validation_score_ : float or None
    n_iter_ : int
        Epochs of the last `fit`.
    device_ : {"cpu", "cuda"}
        Where the last fit ran.
    n_parameters_ : int

    See Also
    --------
    RNNTagger : A label for every time step of the source.
    RNNLanguageModel : Sequences without a source.

    References
    ----------
    .. [1] Bahdanau, D., Cho, K. and Bengio, Y. (2015). Neural machine translation by jointly learning to align and
       translate. ICLR.
    .. [2] Luong, M.-T., Pham, H. and Manning, C. D. (2015). Effective approaches to attention-based neural machine
       translation. EMNLP.
    .. [3] Vaswani, A. et al. (2017). Attention is all you need. NeurIPS.
    .. [4] Press, O. and Wolf, L. (2017). Using the output embedding to improve language models. EACL.
    .. [5] Szegedy, C. et al. (2016). Rethinking the inception architecture for computer vision. CVPR.
    .. [6] Bengio, S. et al. (2015). Scheduled sampling for sequence prediction with recurrent neural networks. NeurIPS.
    .. [7] Wu, Y. et al. (2016). Google's neural machine translation system. arXiv:1609.08144.

    Examples
    --------
    Words spelled backwards:

    >>> from itertools import permutations
    >>> from numrnn import RNNSeq2Seq
    >>> X = ["".join(letters) for letters in permutations("abcde", 4)]
    >>> y = [word[::-1] for word in X]
    >>> model = RNNSeq2Seq((32,), analyzer="char", embedding_dim=16, learning_rate_init=0.01, max_iter=40, tol=0.0)
    >>> model = model.set_params(random_state=0).fit(X[:100], y[:100])
    >>> model.predict(["abce", "edba"])
    ['ecba', 'abde']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **shared_constraints("bidirectional", "input_dropout", "output_dropout", "batch_size", "warm_start", "device"),
        "decoder_layer_sizes": ["array-like", _COUNT, None],
        "attention": [StrOptions({"additive", "multiplicative", "multihead"}), None],
        "n_heads": [_COUNT],
        "embedding_dim": [_COUNT, tuple, list],
        "tied_embeddings": ["boolean"],
        "analyzer": [StrOptions(set(ANALYZERS)), callable, tuple, list],
        "lowercase": ["boolean", tuple, list],
        "min_df": [_COUNT, Interval(RealNotInt, 0, 1, closed="both"), tuple, list],
        "max_features": [_COUNT, None, tuple, list],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "scheduled_sampling": [Interval(Real, 0, 1, closed="both")],
        "max_length": [_COUNT, None],
        "beam_width": [_COUNT],
        "length_normalization": [Interval(Real, 0, None, closed="left")],
        "coverage_penalty": [Interval(Real, 0, None, closed="left")],
        "unknown": [StrOptions({"forbid", "attend", "keep"})],
        "solver": [StrOptions({"adam", "adamw", "sgd", "rmsprop"})],
    }

    _network: EncoderDecoder
    _state: TrainingState
    _random: np.random.RandomState
    _source: Tokens | Numbers
    _target: Tokens | Numbers
    max_length_: int
    validation_scores_: list[float] | None

    def __init__(
        self,
        hidden_layer_sizes: Any = (128,),
        *,
        decoder_layer_sizes: Any = None,
        cell: str = "gru",
        bidirectional: bool = True,
        attention: str | None = "additive",
        n_heads: int = 4,
        embedding_dim: Any = 64,
        tied_embeddings: bool = False,
        analyzer: Any = "word",
        lowercase: Any = False,
        min_df: Any = 1,
        max_features: Any = None,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
        label_smoothing: float = 0.0,
        scheduled_sampling: float = 0.0,
        max_length: int | None = None,
        beam_width: int = 1,
        length_normalization: float = 1.0,
        coverage_penalty: float = 0.0,
        unknown: str = "forbid",
        solver: str = "adam",
        learning_rate_init: float = 1e-3,
        learning_rate: Any = "constant",
        alpha: float = 0.0,
        batch_size: int | str = "auto",
        max_iter: int = 20,
        tol: float = 1e-4,
        n_iter_no_change: Any = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        max_grad_norm: float | None = 1.0,
        warm_start: bool = False,
        random_state: Any = None,
        dtype: Any = "float32",
        device: str = "cpu",
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.decoder_layer_sizes = decoder_layer_sizes
        self.cell = cell
        self.bidirectional = bidirectional
        self.attention = attention
        self.n_heads = n_heads
        self.embedding_dim = embedding_dim
        self.tied_embeddings = tied_embeddings
        self.analyzer = analyzer
        self.lowercase = lowercase
        self.min_df = min_df
        self.max_features = max_features
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.output_dropout = output_dropout
        self.label_smoothing = label_smoothing
        self.scheduled_sampling = scheduled_sampling
        self.max_length = max_length
        self.beam_width = beam_width
        self.length_normalization = length_normalization
        self.coverage_penalty = coverage_penalty
        self.unknown = unknown
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.alpha = alpha
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.max_grad_norm = max_grad_norm
        self.warm_start = warm_start
        self.random_state = random_state
        self.dtype = dtype
        self.device = device
        self.n_jobs = n_jobs
        self.verbose = verbose

    # ------------------------------------------------------------------------------------------------------ training
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, *, X_val: Any = None, y_val: Any = None) -> Self:
        """Learn from pairs of sequences.

        Parameters
        ----------
        X : list or array
            Sources: texts, sequences of tokens or of measurements, or feature vectors; see the table above.
        y : list or array
            As many targets.
        X_val, y_val : list or array, default=None
            Pairs to judge epochs by, with `early_stopping`; None holds out a share of X and y.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If X, y or a parameter is not as described; the message says how.
        FloatingPointError
            If the loss stops being finite. The model has the parameters of the last good epoch then.
        RuntimeError
            If ``device="cuda"`` cannot be had, or fails: the model has the weights of the last whole epoch then.
        MemoryError
            If a minibatch does not fit on the device; the message says what would.

        Notes
        -----
        Training that is interrupted from the keyboard ends with a warning, and the model is as good as it is by then.
        """
        return self._fit(X, y, X_val, y_val, reset=not (self.warm_start and hasattr(self, "_network")))

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any) -> Self:
        """One epoch over X and y; the first call builds vocabularies, which later ones use.

        Parameters
        ----------
        X, y : list or array
            As for `fit`.

        Returns
        -------
        self : object
        """
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        return self._fit(X, y, None, None, reset=not hasattr(self, "_network"), incremental=True)

    def _fit(self, X: Any, y: Any, X_val: Any, y_val: Any, *, reset: bool, incremental: bool = False) -> Self:
        self._check_parameters()
        if y is None:
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but the target y is None.")
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val go together: one of them was given without the other")
        if X_val is not None and not self.early_stopping:
            raise ValueError("X_val and y_val are for early_stopping=True; got early_stopping=False")
        with unchanged_on_error(self) as before:
            training, validation = self._get_ready(X, y, X_val, y_val, reset=reset)
        if not (reset or incremental):
            self._state.no_improvement_count = 0
        with unchanged_if_unlearned(self, before, reset=reset):
            self._train(training, validation, incremental=incremental)
        return self

    def _get_ready(self, X: Any, y: Any, X_val: Any, y_val: Any, *, reset: bool) -> tuple[Pairs, Pairs | None]:
        """Pairs to train on and to judge by, and the network that they ask for."""
        dtype = np.dtype(self.dtype) if reset else self._network.dtype
        source_kind, target_kind = kind_of(X, "X", vectors=True), kind_of(y, "y", vectors=False)
        check_pairs(X, y)
        if reset:
            self._source, sources = self._learn(X, source_kind, "X", 0, dtype)
            self._target, targets = self._learn(y, target_kind, "y", 1, dtype)
            longest = int(targets.lengths.max())
            self.max_length_ = longest if self.max_length is None else int(self.max_length)
            self._random = check_random_state(self.random_state)
        else:
            sources, targets = self._sources(X, dtype), self._targets(y, dtype)
            if not hasattr(self, "_random"):  # read from a file
                self._random = check_random_state(self.random_state)
        self._check_lengths(targets)
        if reset:
            self._network = self._build_network(dtype)
            self._network.initialize(self._random)
            self._state = TrainingState()
        pairs, validation = Pairs(self._network, sources, targets), None
        if X_val is not None:
            if len(X_val) != len(y_val):
                raise ValueError(f"X_val has {len(X_val)} samples, but y_val has {len(y_val)}")
            validation = Pairs(self._network, self._sources(X_val, dtype), self._targets(y_val, dtype))
        elif self.early_stopping:
            pairs, validation = self._hold_out(pairs)
        return pairs, validation

    def _learn(self, data: Any, kind: str, name: str, side: int, dtype: np.dtype) -> tuple[Tokens | Numbers, Sequences]:
        """What one side holds, and its samples as the network takes them."""
        if kind in ("numbers", "vectors"):
            numbers, rows = Numbers.learn(self, data, kind, name, dtype, standardise=side == 1)
            return numbers, rows
        tokens, ids = Tokens.learn(
            data,
            kind,
            name,
            analyzer=self._of_side("analyzer", side),
            lowercase=bool(self._of_side("lowercase", side)),
            min_df=self._of_side("min_df", side),
            max_features=self._of_side("max_features", side),
        )
        return tokens, _column(ids, dtype, never_empty=side == 0)

    def _of_side(self, parameter: str, side: int) -> Any:
        """The value of a parameter for the source (0) or the target (1)."""
        value = getattr(self, parameter)
        return value[side] if isinstance(value, (tuple, list)) else value

    def _check_lengths(self, targets: Sequences) -> None:
        too_long = np.flatnonzero(targets.lengths > self.max_length_)
        if len(too_long) and self.max_length is not None:
            number = int(too_long[0])
            raise ValueError(
                f"target {number} of y has {targets.lengths[number]} tokens or time steps, but max_length="
                f"{self.max_length!r}: {len(too_long)} of {len(targets)} are longer. Leave them out or cut them, or "
                "raise max_length."
            )

    def _hold_out(self, pairs: Pairs) -> tuple[Pairs, Pairs]:
        n_held_out = math.ceil(len(pairs) * self.validation_fraction)
        if len(pairs) - n_held_out < 1:
            raise ValueError(
                f"The 'validation_fraction' parameter of {type(self).__name__} must leave pairs to train on. Got "
                f"{self.validation_fraction!r} of {len(pairs)} pairs instead."
            )
        order = self._random.permutation(len(pairs))
        return pairs.take(np.sort(order[n_held_out:])), pairs.take(np.sort(order[:n_held_out]))

    def _train(self, training: Pairs, validation: Pairs | None, *, incremental: bool) -> None:
        n_pairs, state = len(training), self._state
        network: Any = self._network  # it has what training needs of a network, and is called with pairs
        if self.scheduled_sampling:
            begin, last = 0 if incremental else state.n_epochs, max(int(self.max_iter) - 1, 1)

            def sample_more() -> None:
                network.sampling_share = float(self.scheduled_sampling) * min((state.n_epochs - begin) / last, 1.0)

            training = replace(training, hook=sample_more)
        size = automatic_batch_size(n_pairs) if isinstance(self.batch_size, str) else int(self.batch_size)
        device = "cpu" if self.scheduled_sampling and self.device == "auto" else self.device
        engine = engine_of(device, network, training.lengths, size, self.solver)
        self.device_ = engine.device_name
        with leaving_results(self, incremental=incremental):
            train(
                network,
                training,
                **loop_parameters(self),
                engine=engine,
                batch_size=size,
                early_stopping=validation is not None,
                validation=validation,
                incremental=incremental,
            )
        if not (incremental or state.converged or state.interrupted or self.early_stopping):
            warnings.warn(
                f"Maximum number of epochs ({self.max_iter}) reached and the optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=4,
            )

    # ------------------------------------------------------------------------------------------------------- the parts
    @property
    def source_vocabulary_(self) -> dict[Any, int]:
        return self._vocabulary("_source", "source_vocabulary_")

    @property
    def target_vocabulary_(self) -> dict[Any, int]:
        return self._vocabulary("_target", "target_vocabulary_")

    def _vocabulary(self, side: str, name: str) -> dict[Any, int]:
        tokens = getattr(self, side, None)
        if not isinstance(tokens, Tokens):
            raise AttributeError(f"{type(self).__name__} has a {name} only when it was fitted on tokens on that side")
        return tokens.vocabulary

    def _check_parameters(self) -> None:
        """What the constraints of single parameters do not tell."""
        name = type(self).__name__
        check_sizes_and_threads(self)
        if self.scheduled_sampling and self.device == "cuda":
            raise ValueError(
                f"The 'device' parameter of {name} must be 'cpu' or 'auto' with scheduled_sampling="
                f"{self.scheduled_sampling!r}, since what the decoder writes on its own is computed on the CPU. Got "
                "'cuda' instead."
            )
        check_device(self.device)
        if self.decoder_layer_sizes is not None:
            sizes = self._decoder_sizes()
            if not sizes or any(not isinstance(size, Integral) or size < 1 for size in sizes):
                raise ValueError(
                    f"The 'decoder_layer_sizes' parameter of {name} must be None, a positive integer or a sequence of "
                    f"them. Got {self.decoder_layer_sizes!r} instead."
                )
        for parameter in ("embedding_dim", "analyzer", "lowercase", "min_df", "max_features"):
            value = getattr(self, parameter)
            if not isinstance(value, (tuple, list)):
                continue
            if len(value) != 2:
                raise ValueError(
                    f"The '{parameter}' parameter of {name} must be one value, or a pair (source, target). Got "
                    f"{value!r} instead."
                )
            constraints = [c for c in self._parameter_constraints[parameter] if c not in (tuple, list)]
            for each in value:
                validate_parameter_constraints({parameter: constraints}, {parameter: each}, caller_name=name)

    def _decoder_sizes(self) -> tuple[Any, ...]:
        sizes = self.decoder_layer_sizes
        if sizes is None:
            return hidden_sizes_of(self)
        return (sizes,) if isinstance(sizes, Integral) else tuple(sizes)

    def _build_network(self, dtype: np.dtype) -> EncoderDecoder:
        vectors, writes_tokens = self._source.kind == "vectors", isinstance(self._target, Tokens)
        decoder_sizes = tuple(int(size) for size in self._decoder_sizes())
        if self.attention == "multihead" and decoder_sizes[-1] % self.n_heads and not vectors:
            raise ValueError(
                f"The 'n_heads' parameter of {type(self).__name__} must divide the {decoder_sizes[-1]} units of the "
                f"last layer of the decoder. Got {self.n_heads!r} instead."
            )
        return EncoderDecoder(
            cell="rnn_tanh" if self.cell == "rnn" else self.cell,
            source=self._source.form,
            source_size=self._source.size,
            target=self._target.form,
            target_size=self._target.size,
            encoder_sizes=() if vectors else tuple(int(size) for size in hidden_sizes_of(self)),
            decoder_sizes=decoder_sizes,
            bidirectional=bool(self.bidirectional) and not vectors,
            attention=None if vectors else self.attention,
            n_heads=int(self.n_heads) if self.attention == "multihead" and not vectors else 1,
            source_embedding=int(self._of_side("embedding_dim", 0)),
            target_embedding=int(self._of_side("embedding_dim", 1)),
            tied_embeddings=bool(self.tied_embeddings) and writes_tokens,
            dropout=float(self.dropout),
            input_dropout=float(self.input_dropout),
            output_dropout=float(self.output_dropout),
            label_smoothing=float(self.label_smoothing) if writes_tokens else 0.0,
            dtype=dtype.name,
            workers=Workers(self.n_jobs),
        )

    def _sources(self, X: Any, dtype: np.dtype) -> Sequences:
        return self._side(self._source, X, "X", dtype)

    def _targets(self, y: Any, dtype: np.dtype) -> Sequences:
        return self._side(self._target, y, "y", dtype)

    def _side(self, side: Tokens | Numbers, data: Any, name: str, dtype: np.dtype) -> Sequences:
        if isinstance(side, Numbers):
            return side.rows_of(self, data, name, dtype)
        return _column(side.encode(side.tokens_of(data, name)), dtype, never_empty=side is self._source)

    def _batch(self, X: Any, y: Any) -> PairBatch:
        check_pairs(X, y)
        dtype = self._network.dtype
        return PairBatch(self._sources(X, dtype), self._targets(y, dtype))

    # --------------------------------------------------------------------------------------------------- keeping
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model, vocabularies included, to a file that `numrnn.load` reads.

        The file is in the safetensors format; reading it executes nothing. The state of training is not kept, so that
        a warm start from a file is that of a new solver.

        Parameters
        ----------
        path : str or path-like
            An existing file is replaced, but only when the new one is complete.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the model is not fitted.
        ValueError
            If a parameter cannot be written: an analyzer or a learning rate that is a function. Split texts before, and
            fit on lists of tokens, or use pickle.
        OSError
            If the file cannot be written.
        """
        from numrnn.persistence import save

        save(self, path)

    def _check_fitted(self) -> None:
        check_is_fitted(self)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_network")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.three_d_array = True
        tags.target_tags.required = True
        tags.target_tags.one_d_labels = False
        return tags


def _column(ids: list[NDArray[np.int64]], dtype: np.dtype, *, never_empty: bool = False) -> Sequences:
    """Ids as a column of the type of the network, sample after sample; an empty one is one unknown token if asked."""
    if never_empty:
        ids = [row if len(row) else np.full(1, UNKNOWN) for row in ids]
    lengths = np.array([len(row) for row in ids], dtype=np.int64)
    values = np.concatenate(ids).astype(dtype)[:, np.newaxis]
    return Sequences(values, np.cumsum(lengths) - lengths, lengths)
