"""How the network of an estimator is kept without its threads and scratch memory, and built again."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator

from numrnn.network import Network
from numrnn.seq2seq import EncoderDecoder
from numrnn.workers import Workers

__all__ = ["KeptNetwork", "network_from", "network_settings"]


def network_settings(network: Network | EncoderDecoder) -> dict[str, Any]:
    """What has to be known of a network, beside its parameters, to build it again; in terms of JSON."""
    return {key: _lists(value) for key, value in network._form().items() if key != "workers"}


def network_from(settings: dict[str, Any], n_jobs: int | None) -> Any:
    """A network of the form that `network_settings` describes: a `Network`, or with a decoder an `EncoderDecoder`."""
    form: dict[str, Any] = {key: _tuples(value) for key, value in settings.items()}
    kind: Any = EncoderDecoder if "decoder_sizes" in form else Network
    return kind(**form, workers=Workers(n_jobs))


def _lists(value: Any) -> Any:
    return [_lists(part) for part in value] if isinstance(value, tuple) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, (list, tuple)) else value


class KeptNetwork(BaseEstimator):
    """What pickles and copies hold of an estimator with a `_network`."""

    _network: Any
    n_jobs: int | None

    def __getstate__(self) -> dict[str, Any]:
        # The network is rebuilt: threads and scratch memory stay behind.
        state = dict(super().__getstate__())
        if "_network" in state:
            network = state.pop("_network")
            state["_weights"] = network.parameters.flat.copy()
            state["_settings"] = network_settings(network)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        weights, settings = state.pop("_weights", None), state.pop("_settings", None)
        super().__setstate__(state)
        if settings is not None:
            self._network = network_from(settings, self.n_jobs)
            self._network.parameters.flat[:] = weights
