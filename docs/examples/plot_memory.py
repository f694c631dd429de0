"""
What a network remembers
========================

Sequences of 30 symbols, most of them noise. Two of them matter, each an X or a Y, and the class is their order. A look
inside: how training went, what the units hold, and which symbols the answer rests on.
"""

# %%
import warnings

from numrnn import RNNClassifier
from numrnn.datasets import make_temporal_order

warnings.simplefilter("ignore")  # ten epochs are enough here, and not for the criterion of convergence
X, y = make_temporal_order(1500, 30, random_state=0)
X_test, y_test = make_temporal_order(300, 30, random_state=1)
model = RNNClassifier(
    (32,), learning_rate_init=0.01, max_iter=12, tol=0.0, early_stopping=True, n_iter_no_change=12, random_state=0
)
model.fit(X, y)
print(f"accuracy on other sequences: {model.score(X_test, y_test):.2f}")

# %%
# How training went
# -----------------
from numrnn.plots import AttributionDisplay, HiddenStateDisplay, TrainingCurveDisplay

TrainingCurveDisplay.from_estimator(model)

# %%
# What the units hold
# -------------------
# Cell states change at an X or Y and hold what they have in between.

symbols = ["EBabcdXY"[code] for code in X_test[1].argmax(axis=1)]
HiddenStateDisplay.from_estimator(
    model, X_test, sample=1, quantity="cell", labels=symbols, sort=True, name="cell states of an LSTM"
)

# %%
# The forget gates
# ----------------
HiddenStateDisplay.from_estimator(
    model, X_test, sample=1, quantity="forget", labels=symbols, name="forget gates of an LSTM"
)

# %%
# Which symbols the answer rests on
# ---------------------------------
# The attributions of a symbol's eight inputs, one of which is 1, are summed.

from numrnn.inspection import attributions

shares = attributions(model, X_test[1:2], baseline=X.mean(axis=(0, 1)))[0]
AttributionDisplay(shares.sum(axis=1), labels=symbols, name="share of every symbol in the score").plot()
