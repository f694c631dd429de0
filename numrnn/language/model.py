"""Language models: the next symbol of a text, given those before it."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from numrnn.compiled import CompiledNetwork, compile_network
from numrnn.devices import check_device, engine_of
from numrnn.estimators.base import shared_constraints
from numrnn.estimators.fitting import leaving_results, loop_parameters
from numrnn.estimators.validation import check_sizes_and_threads, hidden_sizes_of
from numrnn.kernels.cpu.sampling import SYMBOLS
from numrnn.language.generation import CHUNK, check_arguments, write
from numrnn.language.streams import SymbolStream
from numrnn.language.symbols import Splitter, Vocabulary, texts_of
from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.parameters import Parameters
from numrnn.text import UNKNOWN, SequenceEncoder
from numrnn.training.loop import TrainingState, train
from numrnn.training.streams import StreamWindows, cut_into_streams
from numrnn.workers import Workers

__all__ = ["RNNLanguageModel"]

# Streams in which held-out text is read at the same time, and symbols below which another is not worth it.
_VALIDATION_STREAMS, _SHORTEST_STREAM = 16, 1000


class RNNLanguageModel(BaseEstimator):
    """Recurrent network that predicts the next character, word or other symbol, and so writes text.

    Symbols are embedded, read by a stack of recurrent layers, and a dense layer gives the logits of the next symbol.

    A single training text is cut into as many contiguous streams as `batch_size` says, which are read side by side in
    windows of `bptt_steps` symbols; the state flows from each window into the next, gradients do not [1]_. Of several
    texts each is read by itself, `batch_size` of them side by side, and the model learns how texts begin and end.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(128,)
        Units of each recurrent layer, from the input up.
    analyzer : {"char", "word"} or callable, default="char"
        What a symbol is: a character; a word with the blank before it, or a run of punctuation; or what a function from
        a text to a list of symbols returns. Texts that are lists are taken as they are.
    max_features, min_df : int or None, int or float, default=None, 1
        Which symbols the vocabulary has, see `SequenceEncoder`; `min_df` counts texts. Others are "unknown".
    embedding_dim : int, default=64
        Length of a symbol's vector.
    tied_weights : bool, default=False
        Whether the vectors of the symbols are also the weights of the readout [3]_, which then has few parameters of
        its own: worth it where the vocabulary is large. If the top layer has other than `embedding_dim` units, a dense
        layer of that size stands between them.
    sampled_softmax : int or None, default=None
        Train the readout with so many outputs drawn anew for every minibatch, of which the more frequent are the more
        likely, in place of all outputs [4]_. Judging and writing always see all. Worth it from some thousand symbols
        on; `loss_curve_` is then that of the drawn outputs, which is lower than that of all.
    cell : {"lstm", "gru", "rnn"}, default="lstm"
    residual : bool, default=False
        Whether the input of a layer is added to its output, from the second layer up.
    dropout, input_dropout, recurrent_dropout, output_dropout : float in [0, 1), default=0.0
        Share of what is left out in training: between layers, of the embedded symbols, of the hidden states on their
        way to the next step (one mask for a window), and before the readout.
    solver : {"adam", "adamw", "sgd", "rmsprop"}, default="adam"
    learning_rate_init : float, default=2e-3
    learning_rate : {"constant", "step", "cosine", "adaptive"} or callable, default="constant"
        As of `RNNClassifier`.
    alpha : float, default=0.0
        Strength of the L2 penalty (for "adamw" of the weight decay).
    batch_size : int, default=64
        Streams of a single text (fewer if it is too short for so many windows), or texts in a minibatch.
    bptt_steps : int, default=100
        Symbols of a window.
    max_iter : int, default=10
        Epochs at most.
    tol, n_iter_no_change : float, int, default=1e-4, 10
        When training stops for want of improvement, as of `RNNClassifier`.
    early_stopping : bool, default=False
        Whether to judge every epoch by held-out text, and to end with the best epoch's parameters.
    validation_fraction : float in (0, 1), default=0.1
        The tail of the text (of several, the last texts) that is held out for early stopping.
    max_grad_norm : float or None, default=1.0
        Longer gradients are scaled to this norm [2]_.
    warm_start : bool, default=False
        Whether `fit` goes on from the present parameters.
    random_state : int, RandomState or None, default=None
    dtype : {"float32", "float64"}, default="float32"
    matmul_precision : {None, "bfloat16"}, default=None
        Of training, as of `RNNClassifier`. Texts are judged in it, too, but written in `dtype`.
    device : {"cpu", "cuda", "auto"}, default="cpu"
        What trains, as of `RNNClassifier`. Judging and writing text, symbol by symbol, are for the CPU always.
    n_jobs : int or None, default=None
        Threads; results do not depend on it.
    verbose : bool, default=False
        Whether to show a progress bar.

    Attributes
    ----------
    symbols_ : list
        The vocabulary: ``symbols_[i]`` has the id ``i``. The first one stands for unknown symbols; for a model of
        several texts the last one is the boundary between them.
    loss_curve_ : list of float
        Mean loss of each epoch in nats per symbol, with dropout.
    validation_scores_ : list of float or None
        Mean log-likelihood of a held-out symbol after each epoch, with `early_stopping`.
    best_validation_score_ : float or None
    n_iter_ : int
        Epochs of the last `fit`.
    device_ : {"cpu", "cuda"}
        Where the last `fit` or `partial_fit` ran.
    n_parameters_ : int

    References
    ----------
    .. [1] Mikolov, T. et al. (2010). Recurrent neural network based language model. Interspeech.
    .. [2] Pascanu, R., Mikolov, T. and Bengio, Y. (2013). On the difficulty of training recurrent neural networks.
       ICML.
    .. [3] Press, O. and Wolf, L. (2017). Using the output embedding to improve language models. EACL.
    .. [4] Jean, S. et al. (2015). On using very large target vocabulary for neural machine translation. ACL.

    Examples
    --------
    >>> from numrnn import RNNLanguageModel
    >>> model = RNNLanguageModel((32,), batch_size=4, bptt_steps=20, learning_rate_init=0.01, max_iter=40, tol=0.0)
    >>> model = model.set_params(random_state=0).fit("how much wood would a woodchuck chuck " * 20)
    >>> model.generate("how much ", length=14, temperature=0)
    'wood would a w'
    >>> model.perplexity("a woodchuck") < 2
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **shared_constraints(
            "residual",
            "input_dropout",
            "recurrent_dropout",
            "output_dropout",
            "warm_start",
            "matmul_precision",
            "device",
        ),
        "analyzer": [StrOptions({"char", "word"}), callable],
        "max_features": [Interval(Integral, 1, None, closed="left"), None],
        "min_df": [Interval(Real, 0, None, closed="left")],
        "embedding_dim": [Interval(Integral, 1, None, closed="left")],
        "tied_weights": ["boolean"],
        "sampled_softmax": [Interval(Integral, 1, None, closed="left"), None],
        "solver": [StrOptions({"adam", "adamw", "sgd", "rmsprop"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "bptt_steps": [Interval(Integral, 1, None, closed="left")],
    }

    _network: Network
    _state: TrainingState
    _random: np.random.RandomState
    _several: bool
    _knows_unknown: bool
    _frequencies: NDArray[np.float64]
    _vocabulary: Vocabulary
    _compiled: CompiledNetwork | None
    symbols_: list[Any]
    validation_scores_: list[float] | None

    def __init__(
        self,
        hidden_layer_sizes: Any = (128,),
        *,
        analyzer: Any = "char",
        max_features: int | None = None,
        min_df: int | float = 1,
        embedding_dim: int = 64,
        tied_weights: bool = False,
        sampled_softmax: int | None = None,
        cell: str = "lstm",
        residual: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        output_dropout: float = 0.0,
        solver: str = "adam",
        learning_rate_init: float = 2e-3,
        learning_rate: Any = "constant",
        alpha: float = 0.0,
        batch_size: int = 64,
        bptt_steps: int = 100,
        max_iter: int = 10,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        max_grad_norm: float | None = 1.0,
        warm_start: bool = False,
        random_state: Any = None,
        dtype: Any = "float32",
        matmul_precision: str | None = None,
        device: str = "cpu",
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.analyzer = analyzer
        self.max_features = max_features
        self.min_df = min_df
        self.embedding_dim = embedding_dim
        self.tied_weights = tied_weights
        self.sampled_softmax = sampled_softmax
        self.cell = cell
        self.residual = residual
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.recurrent_dropout = recurrent_dropout
        self.output_dropout = output_dropout
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.alpha = alpha
        self.batch_size = batch_size
        self.bptt_steps = bptt_steps
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.max_grad_norm = max_grad_norm
        self.warm_start = warm_start
        self.random_state = random_state
        self.dtype = dtype
        self.matmul_precision = matmul_precision
        self.device = device
        self.n_jobs = n_jobs
        self.verbose = verbose

    # --------------------------------------------------------------------------------------------------------- files
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to a file, from which `numrnn.load` reads it.

        The state of training is in it: with `warm_start`, or by `partial_fit`, training goes on bit for bit as it would
        have without the file.

        Parameters
        ----------
        path : str or path-like
            An existing file is replaced, but only when the new one is complete.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the model is not fitted.
        ValueError
            If a parameter or a symbol cannot be written.
        OSError
            If the file cannot be written.
        """
        from numrnn.persistence import save

        save(self, path)

    def _check_fitted(self) -> None:
        check_is_fitted(self)

    def _restore(self, state: TrainingState, rng: np.random.RandomState | None) -> None:
        """Make what can be derived from attributes that a file holds, and take the state of training."""
        self._vocabulary = Vocabulary(self.symbols_, self._several, self._knows_unknown, Splitter(self.analyzer))
        if len(self._frequencies) != len(self.symbols_):
            raise ValueError(f"{len(self.symbols_)} symbols have {len(self._frequencies)} frequencies")
        self._compiled = None
        self._state = state
        self._random = check_random_state(self.random_state) if rng is None else rng
        self.loss_curve_ = state.loss_curve
        if self.validation_scores_ is not None:
            self.validation_scores_ = state.validation_scores

    # ------------------------------------------------------------------------------------------------------ training
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from text.

        Parameters
        ----------
        X : str, or list of str or of sequences of symbols
            One text, or several.
        y : None
            Ignored.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If X is empty or shorter than two symbols, if a text has a symbol that a warm start does not know, or if a
            parameter is out of range.
        FloatingPointError
            If the loss stops being finite. The model has the parameters of the last good epoch then.
        RuntimeError
            If ``device="cuda"`` cannot be had, or fails: the model has the parameters of the last whole epoch then.
        """
        check_sizes_and_threads(self)
        check_device(self.device, self.matmul_precision, self.dtype)
        return self._fit(X, reset=not (self.warm_start and hasattr(self, "_network")), incremental=False)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """One epoch over X; the first call builds the vocabulary, which must hold the symbols of later ones.

        Parameters
        ----------
        X : str, or list of str or of sequences of symbols
        y : None
            Ignored.

        Returns
        -------
        self : object
        """
        check_sizes_and_threads(self)
        check_device(self.device, self.matmul_precision, self.dtype)
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        return self._fit(X, reset=not hasattr(self, "_network"), incremental=True)

    def _fit(self, X: Any, *, reset: bool, incremental: bool) -> Self:
        texts, several = texts_of(X)
        if reset:
            vocabulary, parts = self._learn_symbols(texts, several)
        else:
            if several and not self._several:
                raise ValueError(
                    "the model was fitted on a single text, and has no boundary between several; got a list"
                )
            vocabulary = self._vocabulary
            parts = [vocabulary.ids_of(text) for text in texts]
        held_out: list[NDArray[np.int64]] = []
        if self.early_stopping:
            parts, held_out = self._hold_out(parts, several)
        ids = vocabulary.joined(parts)
        if len(ids) < 2:
            raise ValueError(f"a language model needs at least 2 symbols to learn from, got {len(ids)}")
        if reset:
            self._random = check_random_state(self.random_state)
            network = self._build_network(len(vocabulary.symbols))
            network.initialize(self._random)
            if not self.tied_weights:
                # Vectors of unit variance: with every symbol so much seen, learning is faster the further they are
                # apart. (As weights of the readout they would make it too sure of itself.)
                network.parameters["embedding_0"][...] *= math.sqrt(self.embedding_dim)
            self._network, self._state = network, TrainingState()
            vocabulary.knows_unknown = self._knows_unknown = bool((ids == UNKNOWN).any())
            self._vocabulary, self.symbols_, self._several = vocabulary, vocabulary.symbols, several
            self._frequencies = np.bincount(ids, minlength=len(vocabulary.symbols)) / len(ids)
        elif not incremental:
            self._state.no_improvement_count = 0
        self._compiled = None
        training: dict[str, Any]
        data: tuple[Any, ...]
        validation: Any = None
        if self._several:
            # Each text by itself, from its boundary to its boundary.
            training = {"batch_size": int(self.batch_size), "bptt_steps": int(self.bptt_steps)}
            data = _one_by_one(parts, vocabulary.boundary, self.dtype)
            validation = (*_one_by_one(held_out, vocabulary.boundary, self.dtype), None) if held_out else None
        else:
            training = {"batch_size": 1, "shuffle": False}
            streams = cut_into_streams(ids, int(self.batch_size), int(self.bptt_steps), self.dtype)
            data = (StreamWindows(*streams, int(self.bptt_steps)),)
            if held_out:
                streams = cut_into_streams(held_out[0], _VALIDATION_STREAMS, _SHORTEST_STREAM, self.dtype)
                validation = (*streams, None)
        state = self._state
        at_once = int(self.bptt_steps) * int(self.batch_size)
        self._network.matmul_precision = self.matmul_precision
        engine = engine_of(self.device, self._network, np.array([at_once]), 1, self.solver)
        self.device_ = engine.device_name
        with leaving_results(self, incremental=incremental, totals=False):
            train(
                self._network,
                *data,
                **(loop_parameters(self) | training),
                early_stopping=validation is not None,
                validation=validation,
                incremental=incremental,
                engine=engine,
            )
        if not (incremental or state.converged or state.interrupted) and not self.early_stopping:
            warnings.warn(
                f"Maximum number of epochs ({self.max_iter}) reached and the optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=4,
            )
        return self

    def _learn_symbols(self, texts: list[Any], several: bool) -> tuple[Vocabulary, list[NDArray[np.int64]]]:
        """The symbols of some texts, and the texts as their numbers."""
        split = Splitter(self.analyzer)
        encoder = SequenceEncoder(
            analyzer=split, max_features=self.max_features, min_df=self._least_documents(len(texts))
        )
        encoded = encoder.fit_transform(texts)
        # The encoder makes the unknown symbol of a text that has none.
        parts = [ids[: len(split(text))] if len(ids) == 1 else ids for ids, text in zip(encoded, texts, strict=True)]
        symbols = ["", *encoder.vocabulary_, *([""] if several else [])]
        return Vocabulary(symbols, several, True, split), parts

    def _build_network(self, n_symbols: int) -> Network:
        return Network(
            cell="rnn_tanh" if self.cell == "rnn" else self.cell,
            input_size=1,
            hidden_sizes=tuple(int(size) for size in hidden_sizes_of(self)),
            n_outputs=n_symbols,
            pooling=None,
            loss="cross_entropy",
            embeddings=((0, n_symbols, int(self.embedding_dim)),),
            tied_weights=bool(self.tied_weights),
            n_samples=None if self.sampled_softmax is None else int(self.sampled_softmax),
            residual=bool(self.residual),
            dropout=float(self.dropout),
            input_dropout=float(self.input_dropout),
            recurrent_dropout=float(self.recurrent_dropout),
            output_dropout=float(self.output_dropout),
            dtype=np.dtype(self.dtype).name,
            matmul_precision=self.matmul_precision,
            workers=Workers(self.n_jobs),
        )

    def _least_documents(self, n_texts: int) -> Any:
        least = self.min_df
        return int(least) if isinstance(least, Integral) else float(least)

    def _hold_out(
        self, parts: list[NDArray[np.int64]], several: bool
    ) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
        """The tail of the text, or the last texts, for validation."""
        if several:
            kept = len(parts) - math.ceil(len(parts) * self.validation_fraction)
            training, held_out = parts[:kept], parts[kept:]
        else:
            cut = len(parts[0]) - math.ceil(len(parts[0]) * self.validation_fraction)
            training, held_out = [parts[0][:cut]], [parts[0][cut:]]
        if not training or sum(map(len, held_out)) < 2:
            raise ValueError(
                "early stopping needs text to train on and at least 2 symbols to validate with: validation_fraction="
                f"{self.validation_fraction!r} leaves {sum(map(len, training))} and {sum(map(len, held_out))} symbols"
            )
        return training, held_out

    # ----------------------------------------------------------------------------------------------------- judgement
    def log_likelihood(self, X: Any) -> NDArray[np.float64]:
        """The logarithm of the probability of each text.

        Parameters
        ----------
        X : str, or list of str or of sequences of symbols

        Returns
        -------
        log_likelihoods : ndarray of float64, shape (n_texts,)
            In nats: the sum over all symbols given those before. If the model was fitted on several texts, that
            includes the first symbol and the end; else the first symbol is given.

        Raises
        ------
        ValueError
            If a text has unknown symbols and the training text had none, or if it is too short.
        """
        return np.array([values.sum() for values in self._symbol_log_likelihoods(X)])

    def _symbol_log_likelihoods(self, X: Any) -> list[NDArray[np.float64]]:
        check_is_fitted(self)
        vocabulary = self._vocabulary
        texts = [vocabulary.joined([vocabulary.ids_of(text)]) for text in texts_of(X)[0]]
        for number, ids in enumerate(texts):
            if len(ids) < 2:
                raise ValueError(f"text {number} has {len(ids)} symbols; the first one is given, so 2 are needed")
        made = [np.empty(len(ids) - 1) for ids in texts]
        compiled = self._compile()
        read = SYMBOLS[compiled.cell].log_likelihoods

        def judge(first: int, last: int) -> None:
            logits, shares, x = np.empty(compiled.n_outputs), np.empty(compiled.n_outputs), np.empty(1)
            state = compiled.initial_state()
            for ids, values in zip(texts[first:last], made[first:last], strict=True):
                state[:] = 0
                read(compiled.parameters, state, ids, logits, shares, x, values)

        with Workers(self.n_jobs) as workers:
            n_parts = min(workers.n, len(texts))
            total = np.cumsum([0, *map(len, texts)])
            cuts = [int(np.searchsorted(total, total[-1] * part / n_parts)) for part in range(n_parts + 1)]
            workers.run([partial(judge, *pair) for pair in pairwise(cuts)])
        return made

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log-likelihood of a symbol, in nats; the higher, the better.

        Parameters
        ----------
        X : str, or list of str or of sequences of symbols
        y : None
            Ignored.

        Returns
        -------
        score : float
        """
        return float(np.concatenate(self._symbol_log_likelihoods(X)).mean())

    def perplexity(self, X: Any) -> float:
        """``exp(-score(X))``: between how many equally probable symbols the model would have to choose."""
        return math.exp(-self.score(X))

    def bits_per_character(self, X: Any) -> float:
        """Bits that an ideal code would spend on a character of X, whatever the symbols are.

        Parameters
        ----------
        X : str, or list of str

        Returns
        -------
        bits : float
            The negative log-likelihood in bits, divided by the number of characters.
        """
        texts, _ = texts_of(X)
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("bits_per_character counts characters; X must be a string or a list of strings")
        nats = -sum(values.sum() for values in self._symbol_log_likelihoods(X))
        return float(nats / math.log(2) / sum(map(len, texts)))

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of every symbol after each text.

        Parameters
        ----------
        X : str, or list of str or of sequences of symbols
            Beginnings. An empty one is allowed if the model was fitted on several texts.

        Returns
        -------
        probabilities : ndarray of float64, shape (n_texts, n_symbols)
            Columns in the order of `symbols_`.
        """
        check_is_fitted(self)
        compiled = self._compile()
        texts, _ = texts_of(X)
        probabilities = np.empty((len(texts), compiled.n_outputs))
        for row, text in zip(probabilities, texts, strict=True):
            self._read(self._vocabulary.beginning(text), row)
            row -= row.max()
            np.exp(row, out=row)
            row /= row.sum()
        return probabilities

    # ---------------------------------------------------------------------------------------------------- generation
    def generate(
        self,
        prompt: Any = "",
        length: int = 200,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        random_state: Any = None,
        stop: str | None = None,
    ) -> Any:
        """Write on after a beginning.

        Parameters
        ----------
        prompt : str or sequence of symbols, default=""
            The beginning. An empty one is the beginning of a text if the model knows several texts; else the first
            symbol is drawn by the frequencies of the training text.
        length : int, default=200
            Symbols to write at most. A model of several texts ends where a text ends.
        temperature : float, default=1.0
            Logits are divided by it: below 1 the text gets more predictable, at 0 every symbol is the most probable.
        top_k : int, default=None
            Draw among so many most probable symbols only.
        top_p : float in (0, 1], default=None
            Draw among the fewest most probable symbols that have this share of the probability [1]_.
        random_state : int, RandomState or None, default=None
        stop : str, default=None
            End before the first occurrence of this string.

        Returns
        -------
        text : str, or list of symbols if these are no strings
            What was written, without the prompt.

        Raises
        ------
        ValueError
            If an argument is out of range, or the prompt has a symbol that training had not.

        References
        ----------
        .. [1] Holtzman, A. et al. (2020). The curious case of neural text degeneration. ICLR.
        """
        pieces = list(
            self.iterate(
                prompt,
                length,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                random_state=random_state,
                stop=stop,
                at_a_time=length if stop is None else CHUNK,
            )
        )
        if all(isinstance(piece, str) for piece in pieces):
            return "".join(pieces)
        return [symbol for piece in pieces for symbol in piece]

    def iterate(
        self,
        prompt: Any = "",
        length: int | None = None,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        random_state: Any = None,
        stop: str | None = None,
        at_a_time: int = 1,
    ) -> Iterator[Any]:
        """Write on after a beginning, piece by piece.

        Parameters
        ----------
        prompt, temperature, top_k, top_p, random_state, stop
            As for `generate`: the pieces together are what it returns.
        length : int or None, default=None
            Symbols to write at most. None writes on without end.
        at_a_time : int, default=1
            Symbols of a piece.

        Returns
        -------
        pieces : iterator of str, or of lists of symbols
        """
        check_is_fitted(self)
        manner = check_arguments(length, temperature, top_k, top_p, stop, at_a_time, len(self.symbols_))
        rng = check_random_state(random_state)
        vocabulary, compiled = self._vocabulary, self._compile()
        drawn = np.zeros(0, dtype=np.int64)
        if not vocabulary.boundary and len(vocabulary.split(prompt)) == 0:
            # Nothing to read: the first symbol by its frequency alone.
            drawn = np.array([rng.choice(len(self._frequencies), p=self._frequencies)], dtype=np.int64)
        read = drawn if len(drawn) else vocabulary.beginning(prompt)
        return write(compiled, vocabulary, read, drawn, length, manner, rng, stop, at_a_time)

    # ------------------------------------------------------------------------------------------------ symbol by symbol
    def compile(self, weights: str | None = None) -> CompiledNetwork:
        """The network for compiled code: arrays and functions to be used in your own ``@njit`` functions.

        Parameters
        ----------
        weights : {None, "bfloat16"}, default=None
            The type of the weight matrices; None is the one they have. With "bfloat16" they take half the memory, and a
            step of more than some 50 units little more than half the time, since it waits for its weights; each of them
            is rounded to 8 bits. Inputs, states, biases and sums stay float32. See :doc:`/compiled`.

        Returns
        -------
        compiled : CompiledNetwork
            From the number of a symbol, its place in `symbols_`, to the probabilities of the next one, in that order.
            A text of a model of several texts begins with the last symbol, the boundary.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the model is not fitted.
        ValueError
            If `weights` is none of these, or "bfloat16" for a model with ``dtype="float64"``.
        """
        check_is_fitted(self)
        return self._compile_with("softmax", weights)

    def stream(self, n_streams: int | None = None, *, weights: str | None = None) -> SymbolStream:
        """A text that is given one symbol at a time, or several texts side by side.

        Parameters
        ----------
        n_streams : int, default=None
            Number of independent texts.
        weights : {None, "bfloat16"}, default=None
            As in `compile`.

        Returns
        -------
        stream : SymbolStream
            After each `update` it returns what `predict_proba` would for the symbols so far (but for bfloat16).

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the model is not fitted.
        ValueError
            As `compile`.

        Examples
        --------
        >>> from numrnn import RNNLanguageModel
        >>> model = RNNLanguageModel((8,), batch_size=4, bptt_steps=20, max_iter=2, tol=0.0, random_state=0)
        >>> model = model.fit("how much wood would a woodchuck chuck " * 20)
        >>> stream = model.stream()
        >>> for symbol in "a wood":
        ...     probabilities = stream.update(symbol)
        >>> bool((abs(probabilities - model.predict_proba(["a wood"])[0]) < 1e-9).all())
        True
        """
        return SymbolStream(self.compile(weights), self._vocabulary, n_streams)

    # ------------------------------------------------------------------------------------------------------- reading
    def _read(self, ids: NDArray[np.int64], logits: NDArray[np.float64]) -> None:
        compiled = self._compile()
        read = SYMBOLS[compiled.cell].read
        read(compiled.parameters, compiled.initial_state(), ids, logits, np.empty(1))

    def _compile(self) -> CompiledNetwork:
        """The network from a symbol to the logits of the next one."""
        if self._compiled is None:
            self._compiled = self._compile_with("linear")
        return self._compiled

    def _compile_with(self, head: str, weights: str | None = None) -> CompiledNetwork:
        """The network for one symbol after the other. It never expects the unknown symbol unless it has seen it."""
        network = self._network
        weight, bias = network.readout_parameters()
        arrays = {**network.parameters, "weight_out": weight, "bias_out": bias}
        parameters = Parameters({name: array.shape for name, array in arrays.items()}, network.dtype)
        for name, array in arrays.items():
            parameters[name][...] = array
        if not self._knows_unknown:
            parameters["bias_out"][UNKNOWN] = -1e30
        return compile_network(
            network.cell,
            network.stack.input_size,
            network.hidden_sizes,
            parameters,
            residual=network.residual,
            head=head,
            embeddings=network.embeddings,
            weights=weights,
        )


def _one_by_one(parts: list[NDArray[np.int64]], boundary: list[int], dtype: Any) -> tuple[Sequences, NDArray[np.int64]]:
    """Texts as sequences that begin with the boundary, and what follows every symbol: at the end the boundary."""
    border = np.array(boundary, dtype=np.int64)
    values = [np.concatenate([border, part]).astype(np.dtype(dtype))[:, np.newaxis] for part in parts]
    return Sequences.from_list(values), np.concatenate([piece for part in parts for piece in (part, border)])
