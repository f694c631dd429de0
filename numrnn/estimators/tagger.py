"""A label for every time step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import _fit_context
from sklearn.metrics import accuracy_score
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions

from numrnn.estimators.base import Prepared, RecurrentEstimator, only_stochastic
from numrnn.estimators.documentation import documented
from numrnn.estimators.labels import encode_labels, to_labels
from numrnn.estimators.targets import Targets
from numrnn.estimators.validation import check_sample_weight, words_of
from numrnn.estimators.words import WordEncoder
from numrnn.heads import RandomFieldHead
from numrnn.packing import Sequences
from numrnn.training.loop import Scorer

__all__ = ["RNNTagger"]

# Of words, if `embedding_dim` does not say.
_WORD_DIM = 64


class _FittedOnWords:
    """An attribute of a fitted tagger that is no parameter of its constructor: the vocabularies, if X holds words."""

    _words: WordEncoder | None = None


@documented
@dataclass(eq=False, repr=False, kw_only=True)
class RNNTagger(_FittedOnWords, RecurrentEstimator):
    """Recurrent network that assigns a label to every time step of a sequence.

    A stack of recurrent layers reads the sequence; a dense layer turns the hidden state after every time step into a
    score for each label. The labels of the steps are independent of one another given the sequence (``"softmax"``), or
    come with scores for the transitions from label to label (``"crf"``, a linear-chain conditional random field [8]_).
    For most tasks the network should be `bidirectional`, so that a label can depend on what follows.

    A sequence is a list of words, an array of ids or an array of measurements:

    ==============================================  =======================================================
    X                                               what a time step is
    ==============================================  =======================================================
    list of lists of str                            a word; embedded together with what its letters tell
    list of integer arrays, with `embedding_dim`    one or several ids, and measurements
    list of arrays (n_timesteps_i, n_features)      measurements
    ==============================================  =======================================================

    Arrays (n_samples, n_timesteps, n_features) and (n_samples, n_timesteps) are sequences of one length.

    The words that occur in at least `min_df` of the sequences of the first fit, whatever their weights, are embedded.
    So are, with `word_features`, the first one, two and three letters of a word, its last one to four, and its shape:
    capitals, digits and other characters, repetitions left out. They say much about a word that is rare or was never
    seen [9]_. What is in none of the vocabularies shares one vector; to train that vector, rare words are now and then
    replaced by the unknown one, see `word_dropout`.

    Parameters
    ----------
    <common parameters>
    output : {"softmax", "crf"}, default="softmax"
        How the labels of a sequence depend on one another. "crf" pays where not every label may follow every other, as
        in IOB tags of names; it predicts the most probable sequence of labels, "softmax" the most probable label of
        each step.
    label_smoothing : float in [0, 1), default=0.0
        Part of the target's probability that is spread evenly over all classes in training. Only for "softmax".
    word_features : bool, default=True
        Whether beginnings, endings and shapes of words are embedded too. As all that follows, for words only; the size
        of the vectors of words is `embedding_dim`; None is that of the vectors of `embedding_weights`, or 64.
        `embedding_weights` may be a dict that gives words, in lower case if `lowercase`, the vectors to start from.
    word_feature_dim : int, default=16
        Size of their vectors.
    min_df : int or float in [0, 1], default=1
        A word has a vector of its own if at least so many sequences contain it; a float is a share of the sequences.
    lowercase : bool, default=True
        Whether words that differ in capitals only are one. Shapes tell capitals in any case.
    word_dropout : float, default=0.25
        In training an occurrence of a word that occurs n times in the data is the unknown word with the probability
        ``word_dropout / (word_dropout + n)`` [10]_. It is drawn once for every call of `fit` or `partial_fit`; held-out
        data is left as it is, and so are the features of the word's letters. 0 is never.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    vocabulary_ : dict of str to int
        Words and their ids, if X holds words. 0 is the id of all others.
    <common attributes>

    See Also
    --------
    RNNClassifier : One label for a sequence.
    numrnn.metrics.entity_f1_score : How many of the entities that IOB labels mark were found.

    References
    ----------
    <common references>
    .. [8] Lafferty, J., McCallum, A. and Pereira, F. (2001). Conditional random fields: probabilistic models for
       segmenting and labeling sequence data. ICML.
    .. [9] Huang, Z., Xu, W. and Yu, K. (2015). Bidirectional LSTM-CRF models for sequence tagging. arXiv:1508.01991.
    .. [10] Kiperwasser, E. and Goldberg, Y. (2016). Simple and accurate dependency parsing using bidirectional LSTM
       feature representations. TACL 4.

    Examples
    --------
    >>> from numrnn import RNNTagger
    >>> X = [["the", "dog", "barks"], ["a", "cat", "sleeps"], ["the", "cat", "barks"], ["dogs", "sleep"]] * 10
    >>> y = [["DET", "NOUN", "VERB"]] * 3 + [["NOUN", "VERB"]]
    >>> tagger = RNNTagger((16,), bidirectional=True, learning_rate_init=0.01, max_iter=30, random_state=0)
    >>> tagger.fit(X, y * 10).predict([["a", "dog", "sleeps"]])
    [array(['DET', 'NOUN', 'VERB'], dtype='<U4')]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **RecurrentEstimator._parameter_constraints,
        "embedding_weights": ["array-like", Mapping, None],
        "output": [StrOptions({"softmax", "crf"})],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "word_features": ["boolean"],
        "word_feature_dim": [Interval(Integral, 1, None, closed="left")],
        "min_df": [Interval(Integral, 1, None, closed="left"), Interval(RealNotInt, 0, 1, closed="both")],
        "lowercase": ["boolean"],
        "word_dropout": [Interval(Real, 0, None, closed="left")],
    }

    output: str = "softmax"
    label_smoothing: float = 0.0
    word_features: bool = True
    word_feature_dim: int = 16
    min_df: float = 1
    lowercase: bool = True
    word_dropout: float = 0.25

    @property
    def vocabulary_(self) -> dict[str, int]:
        if self._words is None:
            raise AttributeError(f"{type(self).__name__} has a vocabulary_ only when it was fitted on words")
        return self._words.vocabularies["word"]

    def _check_parameters(self) -> None:
        super()._check_parameters()
        name = type(self).__name__
        if self.output == "crf" and self.label_smoothing:
            raise ValueError(
                f"The 'label_smoothing' parameter of {name} must be 0 if 'output' is 'crf'. Got "
                f"{self.label_smoothing!r} instead."
            )
        if self.output == "crf" and self.bptt_steps is not None:
            raise ValueError(
                f"The 'bptt_steps' parameter of {name} must be None if 'output' is 'crf': labels of whole sequences "
                f"cannot be judged in windows. Got {self.bptt_steps!r} instead."
            )

    # ----------------------------------------------------------------------------------------------------- sequences
    def _to_sequences(self, X: Any, dtype: np.dtype, *, reset: bool) -> Sequences:
        words = words_of(X)
        nothing = isinstance(X, (list, tuple)) and not X
        if not reset and not nothing and (words is None) != (self._words is None):
            forms = ("words", "arrays of numbers")
            raise ValueError(
                f"X holds {forms[words is None]}, but {type(self).__name__} was first fitted on "
                f"{forms[self._words is None]}"
            )
        if words is None:
            if reset:
                self.__dict__.pop("_words", None)
            return super()._to_sequences(X, dtype, reset=reset)
        if reset:
            self._learn_words(words)
        assert self._words is not None
        values = self._words.encode(chain.from_iterable(words)).astype(dtype)
        lengths = np.array([len(sequence) for sequence in words], dtype=np.int64)
        return Sequences(values, np.cumsum(lengths) - lengths, lengths)

    def _learn_words(self, words: list[list[str]]) -> None:
        name = type(self).__name__
        for parameter in ("vocabulary_size", "categorical_features", "padding_id"):
            if getattr(self, parameter) is not None:
                raise ValueError(
                    f"The '{parameter}' parameter of {name} must be None if X holds words. Got "
                    f"{getattr(self, parameter)!r} instead."
                )
        if not isinstance(self.embedding_dim, (Integral, type(None))):
            raise ValueError(
                f"The 'embedding_dim' parameter of {name} must be one number if X holds words. Got "
                f"{self.embedding_dim!r} instead."
            )
        if self.embedding_weights is not None and not isinstance(self.embedding_weights, Mapping):
            raise ValueError(
                f"The 'embedding_weights' parameter of {name} must be a dict of words and vectors, or None, if X holds "
                f"words. Got {type(self.embedding_weights).__name__} instead."
            )
        encoder = WordEncoder.learn(
            words, min_df=self.min_df, lowercase=bool(self.lowercase), letters=bool(self.word_features)
        )
        vectors: Mapping[str, Any] = self.embedding_weights or {}
        if self.embedding_dim is not None:
            word_dim = int(self.embedding_dim)
        else:
            word_dim = max((np.size(vector) for vector in vectors.values()), default=_WORD_DIM)
        dims = [word_dim] + [int(self.word_feature_dim)] * (len(encoder.sizes) - 1)
        for word, vector in vectors.items():
            if np.shape(vector) != (word_dim,) or not np.isfinite(vector).all():
                raise ValueError(
                    f"The 'embedding_weights' parameter of {name} must give every word {word_dim} finite numbers, by "
                    f"embedding_dim={self.embedding_dim!r}. Got an array of shape {np.shape(vector)} for {word!r}."
                )
        self._words = encoder
        self._embeddings = tuple(
            (column, size, dim) for column, (size, dim) in enumerate(zip(encoder.sizes, dims, strict=True))
        )
        self.__dict__.pop("feature_names_in_", None)
        self.n_features_in_ = 1
        self._input_size = len(dims)
        self._univariate_columns = False

    def _write_embeddings(self) -> None:
        if self._words is None or self.embedding_weights is None:
            super()._write_embeddings()
            return
        matrix = self._network.parameters["embedding_0"]
        for word, number in self._words.vocabularies["word"].items():
            if word in self.embedding_weights:
                matrix[number] = self.embedding_weights[word]

    def _for_training(self, sequences: Sequences) -> Sequences:
        if self._words is None or not self.word_dropout:
            return sequences
        values = sequences.values[sequences.rows()]
        words = values[:, 0].astype(np.int64)
        count = np.bincount(words)[words]
        values[self._random.uniform(size=len(words)) < self.word_dropout / (self.word_dropout + count), 0] = 0
        return Sequences(values, np.cumsum(sequences.lengths) - sequences.lengths, sequences.lengths)

    def _in_form_of(self, X: Any, sequences: Sequences, rows: NDArray) -> list[NDArray]:
        """Always a list: whether sentences happen to be of one length does not matter."""
        return np.split(rows, np.cumsum(sequences.lengths)[:-1])

    # --------------------------------------------------------------------------------------------------- targets
    def _check_y(self, y: Any) -> Targets:
        return to_labels(self, y)

    def _encode(self, targets: Targets, *, reset: bool, classes: Any) -> Targets:
        return encode_labels(self, targets, reset=reset, classes=classes)

    def _prepare(self, rows: NDArray, weights: NDArray[np.float64] | None, *, reset: bool) -> Prepared:
        return rows, weights

    def _network_targets(self, rows: NDArray) -> NDArray:
        return rows

    def _readout_settings(self) -> dict[str, Any]:
        return {
            "n_outputs": len(self.classes_),
            "loss": "crf" if self.output == "crf" else "cross_entropy",
            "pooling": None,
            "label_smoothing": float(self.label_smoothing),
        }

    def _validation_score(self, outputs: NDArray, targets: NDArray, weights: NDArray | None) -> float:
        return float(accuracy_score(targets, outputs.argmax(axis=1), sample_weight=weights))

    def _scorer(self, sequences: Sequences) -> Scorer:
        network, head, lengths = self._network, self._network.head, sequences.lengths
        if not isinstance(head, RandomFieldHead):
            return self._validation_score
        starts = np.cumsum(lengths) - lengths

        def score(outputs: NDArray, targets: NDArray, weights: NDArray | None) -> float:
            best = head.field.decode(network.parameters, outputs, starts, lengths)
            return float(accuracy_score(targets, best, sample_weight=weights))

        return score

    # --------------------------------------------------------------------------------------------------- fitting
    @only_stochastic
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """One epoch of training with the given data. The vocabularies are those of the first call.

        Parameters
        ----------
        X : list of sequences
            As for `fit`.
        y : list of sequences of labels
            One label for each time step.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever occur. Needed in the first call, later it can be left out.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the sequences.

        Returns
        -------
        self : object
        """
        if classes is None and not hasattr(self, "_network"):
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return self._partial_fit(X, y, sample_weight, classes)

    # ------------------------------------------------------------------------------------------------- inference
    def _best(self, sequences: Sequences) -> NDArray[np.int64]:
        """The number of the label of every time step."""
        if self._network.loss_name == "crf":
            return self._reader(sequences).decode(sequences)
        return self._outputs(sequences).argmax(axis=1)

    def predict(self, X: Any) -> list[NDArray]:
        """The labels of each sequence.

        Parameters
        ----------
        X : list of sequences
            As for `fit`. Words that were never seen are unknown ones.

        Returns
        -------
        labels : list of ndarray of shape (n_timesteps_i,)
        """
        sequences = self._sequences(X)
        return self._in_form_of(X, sequences, self.classes_[self._best(sequences)])

    def _of_outputs(self, outputs: NDArray) -> NDArray:
        return self.classes_[outputs.argmax(axis=1)]

    def predict_proba(self, X: Any) -> list[NDArray[np.float64]]:
        """The probability of each label at each time step.

        Parameters
        ----------
        X : list of sequences
            As for `fit`.

        Returns
        -------
        probabilities : list of ndarray of float64, shape (n_timesteps_i, n_classes)
            Columns in the order of `classes_`; rows sum to 1. With the output "crf" these are the marginals: the
            probability of all sequences of labels together that have the label at this step.
        """
        sequences = self._sequences(X)
        if self._network.loss_name == "crf":
            rows = self._reader(sequences).marginals(sequences).astype(np.float64)
        else:
            rows = softmax(self._outputs(sequences), axis=1)
        return self._in_form_of(X, sequences, rows)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of time steps whose label is right.

        Parameters
        ----------
        X : list of sequences
            As for `fit`.
        y : list of sequences of labels
            One label for each time step. One that is not among `classes_` counts as not found.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the sequences; each time step has the weight of its sequence.

        Returns
        -------
        float
        """
        sequences = self._sequences(X)
        targets = to_labels(self, y)
        check_consistent_length(sequences, targets)
        targets.check_steps(sequences)
        weights = targets.spread(check_sample_weight(sample_weight, len(sequences)))
        right = targets.rows() == self.classes_[self._best(sequences)]
        return float(np.average(right, weights=weights))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.target_tags.one_d_labels = False
        return tags
