"""Simple recurrent network of rectified units (Le, Jaitly and Hinton, 2015).

h' = max(0, W_ih x + b_ih + W_hh h + b_hh)
"""

# mypy: disable-error-code="no-untyped-def"
from numrnn.kernels.activations import relu, relu_adjoint
from numrnn.kernels.jit import inline
from numrnn.kernels.simd import zeros_like

__all__ = ["adjoint", "step"]


@inline
def step(z, state):
    """Slots: (h'). States: (h,)."""
    h = relu(z[0])
    return (h,), (h,)


@inline
def adjoint(gates, state, d_state):
    """d_z = d_h' where h' > 0."""
    (h,) = gates
    (d_h,) = d_state
    return (relu_adjoint(h, d_h),), (zeros_like(h),)
