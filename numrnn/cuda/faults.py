"""What becomes of an error of the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from numrnn.kernels.cuda.availability import is_device_error, is_out_of_memory

__all__ = ["device_errors"]


@contextmanager
def device_errors(doing: str, consequence: str = "") -> Iterator[None]:
    """Turn errors of the device into one that says what was being done, and what is left.

    Parameters
    ----------
    doing : str
        Such as "training in epoch 3".
    consequence : str, default=""
        A sentence.

    Raises
    ------
    MemoryError
        If the device has no memory left.
    RuntimeError
        For everything else.
    """
    try:
        yield
    except Exception as error:
        if not is_device_error(error):
            raise
        end = f" {consequence}" if consequence else ""
        if is_out_of_memory(error):
            raise MemoryError(
                f"the CUDA device ran out of memory in {doing}: {error}.{end} Remedies: a smaller batch_size or "
                "bptt_steps, nothing else that uses the device, device='cpu'."
            ) from error
        raise RuntimeError(
            f"the CUDA device failed in {doing}: {type(error).__name__}: {error}.{end} After an illegal address or a "
            "lost device this process cannot use it any more; device='cpu' goes on."
        ) from error
