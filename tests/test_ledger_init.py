"""The command that makes a ledger's table, where a request never does."""

from __future__ import annotations

from contextlib import closing
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
    with closing(open_ledger(postgres_url)) as ledger:
        assert ledger.unreported("nobody", limit=1) == []


@pytest.mark.parametrize("url", ["memory:", "sqlite:///{folder}/ledger.db"])
def test_other_ledgers_need_no_such_step_and_are_looked_at(tmp_path: Path, url: str) -> None:
    assert main(["ledger", "init", written(tmp_path, url.format(folder=tmp_path))]) == 0


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("rubbish", "unknown_ledger"),
        ("mysql://host/0", "unknown_ledger"),
        ("sqlite:/x", "bad_ledger"),
        ("sqlite:////proc/none/ledger.db", "ledger_unavailable"),
        ("redis://127.0.0.1:1/0", "ledger_unavailable"),
        ("postgresql://127.0.0.1:1/none", "ledger_unavailable"),
    ],
)
def test_a_ledger_that_cannot_be_used_is_not_called_ready(
    tmp_path: Path, url: str, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ledger", "init", written(tmp_path, url)]) == 1
    assert f"[{code}]" in capsys.readouterr().err
