"""Simple recurrent network (Elman, 1990): h' = tanh(W_ih x + b_ih + W_hh h + b_hh)."""

# mypy: disable-error-code="no-untyped-def"
from numrnn.kernels.activations import ONE, tanh
from numrnn.kernels.jit import inline
from numrnn.kernels.simd import zeros_like

__all__ = ["adjoint", "step"]


@inline
def step(z, state):
    """Slots: (h'). States: (h,)."""
    h = tanh(z[0])
    return (h,), (h,)


@inline
def adjoint(gates, state, d_state):
    """d_z = d_h' (1 - h'**2)."""
    (h,) = gates
    (d_h,) = d_state
    return (d_h * (ONE - h * h),), (zeros_like(h),)
