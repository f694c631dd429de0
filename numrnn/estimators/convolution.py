"""The convolutional front end as estimators are told of it."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

__all__ = ["Convolution", "convolution_settings"]


@dataclass(eq=False, repr=False)
class Convolution(BaseEstimator):
    """A convolution, rectification and max-pooling before the recurrent layers.

    Passed to an estimator as its parameter `convolution`, one of these or a list of them, from the input up. The
    parameters are reached through the estimator, as ``convolution__filters`` in a grid search.

    Parameters
    ----------
    kind : {"1d", "2d"}, default="1d"
        "1d" is a convolution over time, of all features of a time step: for signals. "2d" reads the features of a
        time step as a row of an image and the steps as its rows: for images; a sequence of images of handwritten
        digits, row by row, has 28 steps of 28 features.
    filters : int, default=32
        Number of feature maps. A "2d" convolution of rows `w` pixels wide gives the next layer
        ``ceil(w / pool_size) * filters`` features a step, a "1d" convolution `filters`.
    kernel_size : int, default=3
        Steps (and for "2d" pixels) that a filter sees at once. The input is padded with zeros so that the output has
        as many steps.
    pool_size : int, default=2
        The maximum is taken over so many steps (and pixels) that follow one another, which makes the sequences shorter
        by this factor, rounded up. 1 is no pooling, as it must be with targets for every time step.
    channels : int, default=1
        Of the image that a first "2d" convolution reads, such as 3 for red, green and blue: a time step is a row of
        pixels, one after the other, each with all of its channels. Later ones have the feature maps before them as
        channels.

    See Also
    --------
    RNNClassifier, RNNRegressor, RNNTagger : Estimators with the parameter `convolution`.

    References
    ----------
    LeCun, Y., Bottou, L., Bengio, Y. and Haffner, P. (1998). Gradient-based learning applied to document recognition.
    Proceedings of the IEEE 86, 2278-2324.

    Examples
    --------
    >>> from numrnn import Convolution, RNNClassifier
    >>> model = RNNClassifier((32,), convolution=[Convolution(filters=16, kernel_size=5), Convolution(filters=32)])
    >>> RNNClassifier((32,), convolution=Convolution(filters=16)).get_params()["convolution__filters"]
    16
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "kind": [StrOptions({"1d", "2d"})],
        "filters": [Interval(Integral, 1, None, closed="left")],
        "kernel_size": [Interval(Integral, 1, None, closed="left")],
        "pool_size": [Interval(Integral, 1, None, closed="left")],
        "channels": [Interval(Integral, 1, None, closed="left")],
    }

    kind: str = "1d"
    filters: int = 32
    kernel_size: int = 3
    pool_size: int = 2
    channels: int = 1


def convolution_settings(estimator: Any) -> tuple[dict[str, Any], ...]:
    """The convolutions of an estimator in the form that a network takes.

    Raises
    ------
    ValueError
        If one of their parameters is not as described.
    TypeError
        If the parameter `convolution` holds something else.
    """
    given = estimator.convolution
    if given is None:
        return ()
    settings = []
    for convolution in given if isinstance(given, (list, tuple)) else [given]:
        if not isinstance(convolution, Convolution):
            raise TypeError(
                f"The 'convolution' parameter of {type(estimator).__name__} must be a numrnn.Convolution, a list of "
                f"them or None. Got {convolution!r} instead."
            )
        convolution._validate_params()
        sizes = {key: int(getattr(convolution, key)) for key in ("filters", "kernel_size", "pool_size")}
        if convolution.channels != 1:
            sizes["channels"] = int(convolution.channels)
        settings.append({"kind": convolution.kind, **sizes})
    return tuple(settings)
