"""numrnn beside other libraries: the same work, in one process, in turns.

Run ``python -m benchmarks.peers --help``. PyTorch, ONNX Runtime and skorch take part where they are installed.
"""
