"""Language models: characters and words of tiny Shakespeare, surnames of 18 languages, DNA.

``python -m benchmarks.experiments.language NAME [--data DIR]`` runs one of them; ``--help`` names them. ``--quick``
shows in seconds that it works, ``--write`` keeps the result in ``benchmarks/results/experiments``.
"""
