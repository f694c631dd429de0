"""The commands of `numrnn` that have more to say than a line: one module each."""
