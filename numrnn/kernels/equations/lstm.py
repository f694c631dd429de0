"""Long short-term memory (Hochreiter and Schmidhuber, 1997) with a forget gate (Gers, Schmidhuber and Cummins, 2000).

With z = W_ih x + b_ih + W_hh h + b_hh in four parts:

    i = sigmoid(z_i)    f = sigmoid(z_f)    g = tanh(z_g)    o = sigmoid(z_o)
    c' = f c + i g      h' = o tanh(c')
"""

# mypy: disable-error-code="no-untyped-def"
from numrnn.kernels.activations import ONE, sigmoid, tanh
from numrnn.kernels.jit import inline
from numrnn.kernels.simd import fma, zeros_like

__all__ = ["adjoint", "step"]


@inline
def step(z, state):
    """Slots: (i, f, g, o). States: (h, c)."""
    i = sigmoid(z[0])
    f = sigmoid(z[1])
    g = tanh(z[2])
    o = sigmoid(z[3])
    c = fma(f, state[1], i * g)
    return (i, f, g, o), (o * tanh(c), c)


@inline
def adjoint(gates, state, d_state):
    """The new cell state is recomputed from the gates: cheaper than keeping it in memory."""
    i, f, g, o = gates
    c_previous = state[1]
    d_h, d_c = d_state
    t = tanh(fma(f, c_previous, i * g))
    d_c = fma(d_h * o, ONE - t * t, d_c)
    d_i = d_c * g * (i * (ONE - i))
    d_f = d_c * c_previous * (f * (ONE - f))
    d_g = d_c * i * (ONE - g * g)
    d_o = d_h * t * (o * (ONE - o))
    return (d_i, d_f, d_g, d_o), (zeros_like(d_h), d_c * f)
