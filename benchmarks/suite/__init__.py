"""The asv suite. Modules hold the benchmarks of one part each; `workloads` and `machine` are what they share."""
