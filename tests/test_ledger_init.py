"""The command that makes a ledger's table, where a request never does."""

from __future__ import annotations

from pathlib import Path

import pytest

from cueapi_tasks.cli.main import main
from cueapi_tasks.run.ledger import open_ledger

APP = 'from cueapi_tasks import CueTasks\n\ncue = CueTasks("billing", ledger={url!r})\n'


def written(folder: Path, url: str) -> str:
    (folder / "app.py").write_text(APP.format(url=url))
    return str(folder / "app.py")


def test_the_command_makes_the_table_in_postgresql_and_may_be_run_again(
    tmp_path: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["ledger", "init", written(tmp_path, postgres_url)]) == 0
    assert "ready" in capsys.readouterr().out
    ledger = open_ledger(postgres_url)
    assert ledger.unreported("nobody", limit=1) == []
    ledger.close()


def test_other_ledgers_need_no_such_step(tmp_path: Path) -> None:
    assert main(["ledger", "init", written(tmp_path, "memory:")]) == 0
    assert main(["ledger", "init", written(tmp_path, f"sqlite:///{tmp_path / 'ledger.db'}")]) == 0
    assert not (tmp_path / "ledger.db").exists()
