"""Run every benchmark, print its figures, and fail where a ratio is beyond twice its target."""

from __future__ import annotations

import argparse
import sys

from . import deploying, importing, pulling, receiving, serving, verifying
from .measure import Ratio

BENCHMARKS = (verifying.run, importing.run, receiving.run, serving.run, deploying.run, pulling.run)


def show(ratio: Ratio) -> str:
    verdict = "ok" if ratio.value <= ratio.target else "over target" if ratio.passes else "FAILED"
    return f"{ratio.name:<58} {ratio.value:8.2f}  target <= {ratio.target:<6g} {verdict:<12} {ratio.detail}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2000, help="how many times the smallest step runs")
    size: int = parser.parse_args().size
    ratios = [ratio for benchmark in BENCHMARKS for ratio in benchmark(size)]
    print("\n".join(show(ratio) for ratio in ratios))
    return 0 if all(ratio.passes for ratio in ratios) else 1


sys.exit(main())
