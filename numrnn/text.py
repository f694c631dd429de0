"""From text to sequences of token ids, which an embedding layer turns into vectors."""

from __future__ import annotations

import reprlib
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from itertools import repeat
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.utils._param_validation import HasMethods, Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted

from numrnn.reading import as_list, check_readable, plain_array

__all__ = ["UNKNOWN", "SequenceEncoder"]

# The id of every token that is not in the vocabulary, and of a document that has no token.
UNKNOWN = 0

# A word or a character, or a code that stands for one.
Token = str | int


class SequenceEncoder(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    r"""Documents as sequences of token ids.

    A document is a string, which is split into words or characters as scikit-learn's
    :class:`~sklearn.feature_extraction.text.CountVectorizer` does, or a sequence of tokens that are taken as they are.
    The vocabulary is learned in `fit`: its most frequent token has the id 1, the next the id 2, and so on; equally
    frequent ones are in alphabetical order. Every other token has the id 0, "unknown". The estimators of this package
    take the result as it is and embed the ids if `embedding_dim` is set.

    The order of the tokens is kept, nothing is padded, and no document comes out empty: one without a token, be it an
    empty string or one of stop words alone, is the single id 0.

    What the network learns about the id 0 it learns from tokens that are not in the vocabulary. With the defaults the
    training documents have none; set `min_df` to 2 or more, or `max_features`, if new documents will bring new tokens.

    Parameters
    ----------
    analyzer : {"word", "char"} or callable, default="word"
        Whether the tokens are words or characters; runs of white space count as one character. A function gets the
        document as it is and returns its tokens; nothing else is done to them.
    lowercase : bool, default=True
        Whether strings are converted to lower case first.
    strip_accents : {"ascii", "unicode"}, callable or None, default=None
        How accents are removed before splitting: "ascii" is fast and drops what has no ASCII counterpart.
    preprocessor : callable or None, default=None
        Replaces lower-casing and removal of accents; a function from string to string.
    tokenizer : callable or None, default=None
        Replaces the splitting into words; a function from string to list of strings. Only for ``analyzer="word"``.
    token_pattern : str or None, default=r"(?u)\\b\\w\\w+\\b"
        Regular expression of a word, or of the surroundings of one capturing group. The default, scikit-learn's, takes
        two or more letters or digits, and drops punctuation. Only for ``analyzer="word"`` without a `tokenizer`.
    stop_words : {"english"}, list of str or None, default=None
        Words to leave out of strings. Only for ``analyzer="word"``.
    max_length : int or None, default=None
        Longest sequence; None for no limit.
    truncation : {"head", "tail"}, default="head"
        Which part is kept of a document that is longer than `max_length`: "head" keeps its first tokens, "tail" its
        last ones. The vocabulary is learned from what is kept.
    max_features : int or None, default=None
        Size of the vocabulary, the unknown token not counted: only the most frequent tokens are kept.
    min_df : int or float in [0, 1], default=1
        Tokens of fewer documents are not in the vocabulary; a float is a share of the documents.
    max_df : int or float in [0, 1], default=1.0
        Tokens of more documents are not in the vocabulary; a float is a share of the documents.
    vocabulary : mapping or iterable of tokens, default=None
        The vocabulary, if it is given and not learned: the tokens, which get the ids 1, 2, ... in their order (a set in
        alphabetical order), or a mapping of each of n tokens to one of the ids 1 to n. `max_features`, `min_df` and
        `max_df` have no effect then.
    unknown_token : str, default="<unknown>"
        What stands for the id 0 in `inverse_transform`.

    Attributes
    ----------
    vocabulary_ : dict
        The id of each token, from 1 to ``len(vocabulary_)``, in the order of ids.
    vocabulary_size_ : int
        Number of ids, the unknown one included: ``len(vocabulary_) + 1``, the rows of an embedding.

    See Also
    --------
    sklearn.feature_extraction.text.CountVectorizer : Counts of tokens, without their order.
    RNNClassifier : Embeds ids with `embedding_dim`.

    Examples
    --------
    >>> from numrnn import SequenceEncoder
    >>> documents = ["The cat sat.", "The cat sat on the mat.", ""]
    >>> encoder = SequenceEncoder(min_df=2)
    >>> encoder.fit_transform(documents)
    [array([1, 2, 3]), array([1, 2, 3, 0, 1, 0]), array([0])]
    >>> encoder.vocabulary_
    {'the': 1, 'cat': 2, 'sat': 3}
    >>> encoder.inverse_transform(encoder.transform(["The dog sat"]))
    [['the', '<unknown>', 'sat']]

    Characters:

    >>> encoder = SequenceEncoder(analyzer="char", lowercase=False).fit(["Anna", "Jan"])
    >>> encoder.transform(["Jana"])
    [array([4, 2, 1, 2])]
    >>> encoder.inverse_transform([[4, 2, 1, 2]])
    ['Jana']

    Tokens that come from elsewhere are taken as they are:

    >>> SequenceEncoder().fit_transform([["GT", "AG", "GT"], ["AG", "GT"]])
    [array([1, 2, 1]), array([2, 1])]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "analyzer": [StrOptions({"word", "char"}), callable],
        "lowercase": ["boolean"],
        "strip_accents": [StrOptions({"ascii", "unicode"}), callable, None],
        "preprocessor": [callable, None],
        "tokenizer": [callable, None],
        "token_pattern": [str, None],
        "stop_words": [StrOptions({"english"}), list, None],
        "max_length": [Interval(Integral, 1, None, closed="left"), None],
        "truncation": [StrOptions({"head", "tail"})],
        "max_features": [Interval(Integral, 1, None, closed="left"), None],
        "min_df": [Interval(RealNotInt, 0, 1, closed="both"), Interval(Integral, 1, None, closed="left")],
        "max_df": [Interval(RealNotInt, 0, 1, closed="both"), Interval(Integral, 1, None, closed="left")],
        "vocabulary": [Mapping, HasMethods("__iter__"), None],
        "unknown_token": [str],
    }

    def __init__(
        self,
        *,
        analyzer: str | Callable[[Any], Iterable[Token]] = "word",
        lowercase: bool = True,
        strip_accents: str | Callable[[str], str] | None = None,
        preprocessor: Callable[[str], str] | None = None,
        tokenizer: Callable[[str], list[str]] | None = None,
        token_pattern: str | None = r"(?u)\b\w\w+\b",
        stop_words: str | list[str] | None = None,
        max_length: int | None = None,
        truncation: str = "head",
        max_features: int | None = None,
        min_df: int | float = 1,
        max_df: int | float = 1.0,
        vocabulary: Mapping[Token, int] | Iterable[Token] | None = None,
        unknown_token: str = "<unknown>",
    ) -> None:
        self.analyzer = analyzer
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        self.preprocessor = preprocessor
        self.tokenizer = tokenizer
        self.token_pattern = token_pattern
        self.stop_words = stop_words
        self.max_length = max_length
        self.truncation = truncation
        self.max_features = max_features
        self.min_df = min_df
        self.max_df = max_df
        self.vocabulary = vocabulary
        self.unknown_token = unknown_token

    # ----------------------------------------------------------------------------------------------------- fitting
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the vocabulary.

        Parameters
        ----------
        X : iterable of str, or of sequences of tokens
            Documents. Bytes are read as UTF-8. Tokens are strings or integers.
        y : None
            Ignored.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If a parameter is out of range, if X is a single string, a table or empty, or if no token is left.
        TypeError
            If a document is neither a string nor a sequence of tokens.
        """
        self.fit_transform(X)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X: Any, y: Any = None) -> list[NDArray[np.int64]]:
        """Learn the vocabulary and encode the same documents.

        Parameters
        ----------
        X : iterable of str, or of sequences of tokens
            Documents, as for `fit`.
        y : None
            Ignored.

        Returns
        -------
        sequences : list of ndarray of int64, shape (n_tokens_i,)
            What `transform` would return, in less time than one call after the other.

        Raises
        ------
        ValueError, TypeError
            As for `fit`.
        """
        if self.vocabulary is not None:
            vocabulary = _given_vocabulary(self.vocabulary)
            sequences = self._encode(X, vocabulary)
        else:
            vocabulary, sequences = self._learn(X)
        self.vocabulary_ = vocabulary
        self.vocabulary_size_ = len(vocabulary) + 1
        return sequences

    def _learn(self, X: Any) -> tuple[dict[Token, int], list[NDArray[np.int64]]]:
        """Vocabulary and sequences, from one reading of the documents."""
        numbers: defaultdict[Token, int] = defaultdict()
        numbers.default_factory = numbers.__len__  # tokens are numbered as they come
        parts = [
            np.fromiter(map(numbers.__getitem__, tokens), dtype=np.int64, count=len(tokens))
            for tokens in self._tokens(X)
        ]
        if not parts:
            raise ValueError("X has no document; expected at least one string or sequence of tokens")
        if not numbers:
            raise ValueError(
                f"the {len(parts)} documents of X have no token, so there is no vocabulary to learn: they are empty, "
                "or hold only stop words or what the tokenizer drops"
            )
        ids = self._ids_by_frequency(list(numbers), parts)
        by_id = sorted(
            (number, token) for token, number in zip(numbers, ids.tolist(), strict=True) if number != UNKNOWN
        )
        return {token: number for number, token in by_id}, [_never_empty(ids[part]) for part in parts]

    def _ids_by_frequency(self, tokens: list[Token], parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        """The id of every token, whose numbers `parts` hold for every document; 0 for those that are left out."""
        n_documents, n_tokens = len(parts), len(tokens)
        counts = np.bincount(np.concatenate(parts), minlength=n_tokens)
        least = self.min_df if isinstance(self.min_df, Integral) else self.min_df * n_documents
        most = self.max_df if isinstance(self.max_df, Integral) else self.max_df * n_documents
        kept = np.arange(n_tokens)
        if least > 1 or most < n_documents:
            in_documents = np.zeros(n_tokens, dtype=np.int64)
            for part in parts:
                in_documents[part] += 1  # once, however often the part has the number
            kept = np.flatnonzero((in_documents >= least) & (in_documents <= most))
            if len(kept) == 0:
                raise ValueError(
                    f"no token is in at least min_df={self.min_df!r} and at most max_df={self.max_df!r} of the "
                    f"{n_documents} documents, so the vocabulary is empty; try a lower min_df or a higher max_df"
                )
        try:
            order = sorted(kept.tolist(), key=lambda number: (-counts[number], tokens[number]))
        except TypeError as error:
            raise TypeError(f"tokens must all be strings or all be integers to have an order: {error}") from error
        chosen = np.array(order[: self.max_features], dtype=np.int64)
        ids = np.full(n_tokens, UNKNOWN, dtype=np.int64)
        ids[chosen] = np.arange(1, len(chosen) + 1)
        return ids

    # ---------------------------------------------------------------------------------------------------- encoding
    def transform(self, X: Any) -> list[NDArray[np.int64]]:
        """Encode documents with the vocabulary learned.

        Parameters
        ----------
        X : iterable of str, or of sequences of tokens
            Documents, as for `fit`.

        Returns
        -------
        sequences : list of ndarray of int64, shape (n_tokens_i,)
            Ids from 0 (unknown) to ``vocabulary_size_ - 1``; at least one for every document, at most `max_length`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `fit` was not called.
        ValueError, TypeError
            If X is not as described.
        """
        check_is_fitted(self)
        return self._encode(X, self.vocabulary_)

    def _encode(self, X: Any, vocabulary: Mapping[Token, int]) -> list[NDArray[np.int64]]:
        find = vocabulary.get
        return [
            _never_empty(np.fromiter(map(find, tokens, repeat(UNKNOWN)), dtype=np.int64, count=len(tokens)))
            for tokens in self._tokens(X)
        ]

    def _tokens(self, X: Any) -> Iterator[list[Token]]:
        """The tokens of every document, as many as are kept."""
        analyze = self._build_analyzer()
        for number, document in enumerate(_documents(X)):
            tokens = analyze(number, document)
            if self.max_length is not None and len(tokens) > self.max_length:
                tokens = tokens[: self.max_length] if self.truncation == "head" else tokens[-self.max_length :]
            yield tokens

    def _build_analyzer(self) -> Callable[[int, Any], list[Token]]:
        """The function from a document and its number to tokens."""
        if callable(self.analyzer):
            custom = self.analyzer
            return lambda number, document: _checked_tokens(list(custom(document)), number)
        if self.analyzer == "word" and self.tokenizer is None and self.token_pattern is None:
            raise ValueError("token_pattern and tokenizer are both None: nothing says how words are told apart")
        of_string = CountVectorizer(
            analyzer=self.analyzer,
            lowercase=self.lowercase,
            strip_accents=self.strip_accents,
            preprocessor=self.preprocessor,
            tokenizer=self.tokenizer,
            token_pattern=self.token_pattern,
            stop_words=self.stop_words,
        ).build_analyzer()

        def analyze(number: int, document: Any) -> list[Token]:
            if isinstance(document, (str, bytes)):
                return of_string(document)
            if isinstance(document, Mapping) or not _is_sequence(document):
                raise TypeError(
                    f"document {number} of X is {document!r} ({type(document).__name__}); expected a string or a "
                    "sequence of tokens"
                )
            return _checked_tokens(document.tolist() if hasattr(document, "tolist") else list(document), number)

        return analyze

    # ---------------------------------------------------------------------------------------------------- decoding
    def inverse_transform(self, X: Any) -> list[Any]:
        """The tokens that ids stand for.

        Parameters
        ----------
        X : list of arrays of int, or array of int of shape (n_samples, n_tokens)
            Sequences of ids.

        Returns
        -------
        documents : list of list of str, or list of str
            The tokens of each sequence, `unknown_token` for the id 0; joined to a string for ``analyzer="char"``.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `fit` was not called.
        ValueError
            If a sequence is not one-dimensional, not of integers, or has an id that is out of range.
        """
        check_is_fitted(self)
        tokens = np.empty(self.vocabulary_size_, dtype=object)
        tokens[UNKNOWN] = self.unknown_token
        for token, number in self.vocabulary_.items():
            tokens[number] = token
        documents: list[Any] = []
        for number, sequence in enumerate(as_list(X, "X", "sequences of ids")):
            ids = plain_array(sequence, f"sequence {number} of X")
            if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
                raise ValueError(
                    f"sequence {number} of X has the shape {ids.shape} and the type {ids.dtype}; expected "
                    "one-dimensional arrays of integers"
                )
            wrong = np.flatnonzero((ids < 0) | (ids >= self.vocabulary_size_))
            if len(wrong):
                raise ValueError(
                    f"sequence {number} of X has the id {ids[wrong[0]]} at position {wrong[0]}; ids are from 0 to "
                    f"{self.vocabulary_size_ - 1}"
                )
            found = tokens[ids.astype(np.intp)].tolist()
            documents.append("".join(map(str, found)) if self.analyzer == "char" else found)
        return documents

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """The tokens in the order of their ids, `unknown_token` first.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        tokens : ndarray of object, shape (n_ids,)
            Rows of an embedding are in this order.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `fit` was not called.
        """
        check_is_fitted(self)
        names = sorted(self.vocabulary_, key=self.vocabulary_.__getitem__)
        return np.array([self.unknown_token, *map(str, names)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.transformer_tags.preserves_dtype = []
        return tags


def _documents(X: Any) -> Iterable[Any]:
    """X as an iterable of documents, after what would silently be read in another way than it was meant."""
    if isinstance(X, (str, bytes)):
        raise ValueError("Iterable over raw text documents expected, string object received.")
    check_readable(X, "X", numbers=False)
    if hasattr(X, "columns") or (len(getattr(X, "shape", ())) == 2 and X.shape[1] == 1):
        raise ValueError(
            f"X is a table with the shape {X.shape}; expected an iterable of documents, such as one column of it"
        )
    if isinstance(X, Mapping) or not isinstance(X, Iterable) or getattr(X, "ndim", 1) == 0:
        raise ValueError(f"X is {X!r} ({type(X).__name__}); expected an iterable of strings or sequences of tokens")
    return X


def _is_sequence(document: Any) -> bool:
    return hasattr(document, "__getitem__") and isinstance(document, Collection) and getattr(document, "ndim", 1) > 0


def _checked_tokens(tokens: list[Any], number: int) -> list[Token]:
    """The tokens, none of them something else than a string or an integer."""
    for kind in set(map(type, tokens)):
        if not issubclass(kind, (str, Integral)):
            position = next(i for i, token in enumerate(tokens) if type(token) is kind)
            raise TypeError(
                f"token {position} of document {number} of X is {tokens[position]!r} ({kind.__name__}); tokens are "
                "strings or integers"
            )
    return tokens


def _never_empty(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    return ids if len(ids) else np.array([UNKNOWN], dtype=np.int64)


def _given_vocabulary(vocabulary: Any) -> dict[Token, int]:
    """The vocabulary that a user gave, in the order of ids."""
    if isinstance(vocabulary, str):
        raise ValueError(f"vocabulary is the string {vocabulary!r}; expected a mapping, or an iterable of tokens")
    if isinstance(vocabulary, Mapping):
        for token, number in vocabulary.items():
            if not isinstance(number, Integral):
                raise TypeError(f"the id of the token {token!r} in the vocabulary is {number!r}; ids are integers")
        found = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
        if list(found.values()) != list(range(1, len(found) + 1)):
            raise ValueError(
                f"the ids of a vocabulary of {len(found)} tokens must be 1 to {len(found)}, each of them once (0 is "
                f"for unknown tokens); got {reprlib.repr(list(found.values()))}"
            )
    else:
        tokens = as_list(vocabulary, "vocabulary", "a mapping, or an iterable of tokens")
        found = {}
        for token in sorted(tokens) if isinstance(vocabulary, (set, frozenset)) else tokens:
            if not isinstance(token, Hashable):
                raise TypeError(f"the token {token!r} of the vocabulary is a {type(token).__name__}, which none can be")
            if token in found:
                raise ValueError(f"the token {token!r} occurs more than once in the vocabulary")
            found[token] = len(found) + 1
    if not found:
        raise ValueError("the vocabulary is empty; expected at least one token, or None to learn it")
    return found
