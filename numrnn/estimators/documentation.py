"""What the docstrings of all estimators have in common, written once."""

from __future__ import annotations

import inspect
import re
from typing import Any, TypeVar

__all__ = ["documented"]

Class = TypeVar("Class", bound=type[Any])

_PARAMETERS = """
hidden_layer_sizes : int or sequence of int, default=(64,)
    Units of each recurrent layer, from the input up.
cell : {"lstm", "gru", "rnn"}, default="lstm"
    Long short-term memory [1]_, gated recurrent unit [2]_ (reset gate after the product) or simple recurrence [3]_.
activation : {"tanh", "relu"}, default="tanh"
    Of the simple recurrence; the others have their own.
bidirectional : bool, default=False
    Whether every layer also reads the sequences from their ends. Doubles the number of features.
dropout : float in [0, 1), default=0.0
    Share of the outputs of every layer but the last that is left out in training.
input_dropout : float in [0, 1), default=0.0
    Share of the features of every time step, as they reach the first recurrent layer, that is left out in training.
recurrent_dropout : float in [0, 1), default=0.0
    Share of the recurrent connections' inputs that is left out in training, the same units at all time steps of a
    sequence (variational dropout [5]_).
output_dropout : float in [0, 1), default=0.0
    Share of the features that are read out which is left out in training.
residual : bool, default=False
    Whether the input of every layer but the first is added to its output [6]_, where the two have the same size. For
    deep stacks.
embedding_dim : int, sequence of int or None, default=None
    Size of the vectors that stand for ids. X then holds whole numbers from 0 on, not measurements: token ids, or
    codes of categories; each is replaced by a vector that is learned. One size for all categorical features, or one
    for each. None: X holds measurements, also where they are whole numbers.
vocabulary_size : int, sequence of int or None, default=None
    Number of ids of each categorical feature. None is the largest one in the first fit and 1, or what
    `embedding_weights` say. Other ids are an error, in training and later.
categorical_features : sequence of int or str, or None, default=None
    The features of a time step that are ids; all others are measurements and stay as they are. Numbers of columns, or
    names if X is a list of DataFrames. None, with `embedding_dim`: all features are ids.
embedding_weights : array-like of shape (vocabulary_size, embedding_dim), list of such or None, default=None
    Vectors to start from, such as pretrained ones. For several categorical features a list, with None for features
    without.
padding_id : int or None, default=None
    With `embedding_dim`: time steps at the beginning and the end of a sequence whose ids are all equal to it are cut
    off, so that sequences of different lengths can be the rows of one matrix. A sequence that is nothing but padding
    keeps one step of it.
convolution : Convolution, list of Convolution or None, default=None
    What stands between the input (and its embedding) and the recurrent layers.
solver : {"adam", "adamw", "sgd", "rmsprop", "lbfgs"}, default="adam"
    "sgd" has a Nesterov momentum of 0.9; "adamw" takes `alpha` as decoupled weight decay; "lbfgs" uses all data for
    every step, for small data.
learning_rate_init : float, default=1e-3
    The learning rate to start from.
learning_rate : {"constant", "step", "cosine", "adaptive"} or callable, default="constant"
    "step" divides by 10 after each third of `max_iter`; "cosine" warms up over a twentieth of `max_iter`, then
    falls to zero; "adaptive" divides by 5 whenever training stops improving; a function gives the rate of each
    epoch, counted from 0.
alpha : float, default=0.0
    Strength of the L2 penalty ``alpha / 2 * ||W||**2`` of the weights, which like the loss is divided by the sum of
    the weights of the targets.
batch_size : int or "auto", default="auto"
    Sequences in a minibatch. "auto" is all of them up to 16, else the square root of their number, between 8 and
    256.
max_iter : int, default=100
    Epochs (for "lbfgs", iterations) at most.
tol : float, default=1e-4
    Smallest improvement of the loss (with `early_stopping`, of the validation score) that counts.
n_iter_no_change : int, default=10
    Training ends after more than so many epochs in a row without improvement.
early_stopping : bool, default=False
    Whether to set aside part of the training sequences, judge by the `score` on them, and keep the weights of the best
    epoch.
validation_fraction : float, default=0.1
    The part that is set aside. A classifier sets aside the same share of every class.
max_grad_norm : float or None, default=1.0
    A longer gradient is scaled to this Euclidean norm [4]_.
bptt_steps : int or None, default=None
    Truncated backpropagation through time: gradients flow back over windows of so many time steps, and memory grows
    with the window instead of the sequence. None is the whole sequence. Not for bidirectional networks.
shuffle : bool, default=True
    Whether minibatches are drawn anew in each epoch, from sequences of similar length.
warm_start : bool, default=False
    Whether `fit` goes on from the present weights. Everything else about the network stays as it was first fitted.
random_state : int, RandomState instance or None, default=None
    Initial weights, the validation split, minibatches and dropout. An int gives the same model every time, whatever
    `n_jobs` is.
dtype : {"float32", "float64"}, default="float32"
    Floating-point type of the network.
matmul_precision : {None, "bfloat16"}, default=None
    With "bfloat16" the recurrent layers round the factors of their products to it and sum in float32, in which weights
    and everything else are kept ("mixed precision"): about half the time for large layers on processors with AVX-512
    BF16, results that differ in the third decimal place. None computes in `dtype`. For ``dtype="float32"`` on the CPU,
    which `device` "auto" then is. A fitted estimator can be set to the other.
device : {"cpu", "cuda", "auto"}, default="cpu"
    What trains and predicts. "cuda" is an NVIDIA GPU, with the extra ``numrnn[cuda]``, or an error; "auto" is the GPU
    if there is one and enough work for it. A fitted estimator can be set to another device.
n_jobs : int or None, default=None
    Threads. None is one for each processor; -1 the same, -2 one fewer.
verbose : bool, default=False
    Whether to show a progress bar.
"""

_POOLING = """
pooling : {"last", "mean", "max", "attention"}, default="last"
    What of the last layer is read out for a sequence: its state after the last time step, its mean or maximum over
    time, or a mean whose weights are computed from the states themselves (additive attention [7]_).
"""

_ATTRIBUTES = """
n_features_in_ : int
    Features of a time step; for a matrix of univariate sequences, its columns, unless there is a `padding_id`.
feature_names_in_ : ndarray of shape (`n_features_in_`,)
    Names of the columns, if X was a DataFrame, or a list of them, whose column names are all strings.
loss_curve_ : list of float
    Mean training loss of every epoch, earlier fits of a warm start included.
best_loss_ : float
    The lowest of them.
validation_scores_ : list of float or None
    Score on the held-out data after each epoch; None without `early_stopping`.
best_validation_score_ : float or None
    The highest of them.
n_iter_ : int
    Epochs of the last fit, or of all calls of `partial_fit`.
device_ : {"cpu", "cuda"}
    Where the last fit ran.
n_parameters_ : int
    Number of trained weights and biases.
t_ : int
    Sequences seen in training, repetitions counted.
"""

_REFERENCES = """
.. [1] Hochreiter, S. and Schmidhuber, J. (1997). Long short-term memory. Neural Computation 9, 1735-1780.
.. [2] Cho, K. et al. (2014). Learning phrase representations using RNN encoder-decoder for statistical machine
   translation. EMNLP.
.. [3] Elman, J. L. (1990). Finding structure in time. Cognitive Science 14, 179-211.
.. [4] Pascanu, R., Mikolov, T. and Bengio, Y. (2013). On the difficulty of training recurrent neural networks.
   ICML.
.. [5] Gal, Y. and Ghahramani, Z. (2016). A theoretically grounded application of dropout in recurrent neural networks.
   NIPS.
.. [6] He, K., Zhang, X., Ren, S. and Sun, J. (2016). Deep residual learning for image recognition. CVPR.
.. [7] Bahdanau, D., Cho, K. and Bengio, Y. (2015). Neural machine translation by jointly learning to align and
   translate. ICLR.
"""

_PARTS = {"parameters": _PARAMETERS, "pooling": _POOLING, "attributes": _ATTRIBUTES, "references": _REFERENCES}
_PLACE = re.compile(r"^<common (\w+)>$", flags=re.MULTILINE)


def documented(estimator: Class) -> Class:
    """Complete the docstring of an estimator: a line ``<common parameters>`` is replaced by what all have in common.

    The other parts are called pooling, attributes and references.
    """
    if estimator.__doc__:  # there is none under python -OO
        text = inspect.cleandoc(estimator.__doc__)
        estimator.__doc__ = _PLACE.sub(lambda place: _PARTS[place.group(1)].strip("\n"), text)
    return estimator
