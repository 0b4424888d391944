"""What importing the SDK costs, in a new process, against what it loads in any case."""

from __future__ import annotations

import statistics
import subprocess
import sys

from .measure import ROUNDS, Ratio


def run(size: int) -> list[Ratio]:
    pairs = [
        (_seconds("import cueapi"), _seconds("import httpx, pydantic")) for _ in range(ROUNDS if size > 5000 else 5)
    ]
    ours, heavy = (statistics.median(column) for column in zip(*pairs, strict=True))
    detail = f"{ours * 1e3:.0f} ms against {heavy * 1e3:.0f} ms"
    return [
        Ratio(
            name="import cueapi / import of what 0.1.3 loads (httpx, pydantic)",
            value=ours / heavy,
            target=1,
            detail=detail,
        )
    ]


def _seconds(statement: str) -> float:
    code = f"import time; begun = time.perf_counter(); {statement}; print(time.perf_counter() - begun)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
