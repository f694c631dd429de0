"""Networks whose training and inference run on a CUDA device.

Nothing here is imported before a device is asked for.
"""
