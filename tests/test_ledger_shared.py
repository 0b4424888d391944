"""One SQLite file under several processes with several threads each."""

from __future__ import annotations

from pathlib import Path

import pytest

from .claiming import contend


@pytest.mark.slow
def test_each_execution_is_claimed_once_by_four_processes_of_four_threads(tmp_path: Path) -> None:
    contest = contend(tmp_path / "ledger.db", 4000)
    assert sorted(contest.claimed) == sorted(f"execution-{number}" for number in range(4000))
