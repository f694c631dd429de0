"""What a network does and what it has learned, as arrays.

===================  ====================================================================
function             result
===================  ====================================================================
hidden_states        outputs of the units of a layer at every time step
cell_states          memory of the units of an LSTM at every time step
gate_activations     gates of an LSTM or a GRU at every time step, by name
attention_weights    weight of every time step in attention pooling
gradient_norms       norm of the gradient of the loss by the states of every time step
attributions         share of every input value in an output
ablate_units         the model with units held at a constant
unit_importance      how much worse the score is without a unit
===================  ====================================================================

All take a fitted estimator; the first three and `gradient_norms` take a layer (`RNN`, `LSTM`, `GRU`) as well. Results
follow the container of X: an array for an array, a list with one array per sequence for a list. `numrnn.plots` draws
them.
"""

from __future__ import annotations

from numrnn.inspection.ablation import ablate_units, unit_importance
from numrnn.inspection.attribution import attributions
from numrnn.inspection.gradients import gradient_norms
from numrnn.inspection.states import attention_weights, cell_states, gate_activations, hidden_states

__all__ = [
    "ablate_units",
    "attention_weights",
    "attributions",
    "cell_states",
    "gate_activations",
    "gradient_norms",
    "hidden_states",
    "unit_importance",
]
