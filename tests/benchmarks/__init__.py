"""Speed, as ratios within one run: `python -m tests.benchmarks [--size N]`."""

from __future__ import annotations
