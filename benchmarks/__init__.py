"""Measurements: each `bench_*.py` runs alone with `--json`; `python -m benchmarks` runs all and writes docs/benchmarks.md."""
