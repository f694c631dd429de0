"""Gated recurrent unit (Cho et al., 2014), the reset gate applied after the product as in PyTorch and cuDNN.

r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)    z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
n = tanh(W_in x + b_in + r (W_hn h + b_hn))   h' = (1 - z) n + z h
"""

# mypy: disable-error-code="no-untyped-def"
from numrnn.kernels.activations import ONE, sigmoid, tanh
from numrnn.kernels.jit import inline
from numrnn.kernels.simd import fma

__all__ = ["adjoint", "step"]


@inline
def step(z, state):
    """Slots: (n from the input, r, z, n from the hidden state). States: (h,)."""
    r = sigmoid(z[1])
    u = sigmoid(z[2])
    n = tanh(fma(r, z[3], z[0]))
    h = fma(u, state[0] - n, n)
    return (n, r, u, z[3]), (h,)


@inline
def adjoint(gates, state, d_state):
    """The fourth kept value is not a gate but the hidden state's product, which the reset gate multiplies."""
    n, r, u, product = gates
    (h_previous,) = state
    (d_h,) = d_state
    d_n = d_h * (ONE - u) * (ONE - n * n)
    d_u = d_h * (h_previous - n) * (u * (ONE - u))
    d_r = d_n * product * (r * (ONE - r))
    return (d_n, d_r, d_u, d_n * r), (d_h * u,)
