"""
Vanishing and exploding gradients
=================================

How much of the gradient of the last output reaches the time steps before it, in new networks of 32 units. On a
logarithmic scale, straight lines are exponential growth or decay. The mathematics page says why.
"""

# %%
import numpy as np

from numrnn import GRU, LSTM, RNN
from numrnn.plots import GradientFlowDisplay

X = np.random.RandomState(0).standard_normal((20, 150, 8))
d_y = np.zeros((20, 150, 32))
d_y[:, -1] = np.random.RandomState(1).standard_normal((20, 32)) / np.sqrt(32)

# %%
# The cells as they begin
# -----------------------
ax = None
for layer in (RNN(8, 32, random_state=0), GRU(8, 32, random_state=0), LSTM(8, 32, random_state=0)):
    ax = GradientFlowDisplay.from_estimator(layer, X, d_y, ax=ax).ax_

# %%
# Recurrent weights of a simple RNN, times a factor
# -------------------------------------------------
# They begin as a rotation. Larger ones make the gradient explode, as far as the units are not saturated.

ax = None
for factor in (0.5, 1.0, 2.0, 4.0):
    layer = RNN(8, 32, random_state=0)
    layer.parameters["weight_hh_l0"][...] *= factor
    ax = GradientFlowDisplay.from_estimator(layer, X, d_y, name=f"times {factor:g}", ax=ax).ax_

# %%
# The bias of the forget gates of an LSTM
# ---------------------------------------
ax = None
for bias in (0.0, 1.0, 3.0, 5.0):
    layer = LSTM(8, 32, random_state=0)
    layer.parameters["bias_ih_l0"][32:64] = bias
    ax = GradientFlowDisplay.from_estimator(layer, X, d_y, name=f"forget bias {bias:g}", ax=ax).ax_
