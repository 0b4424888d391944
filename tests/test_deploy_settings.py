"""What stops the command line: the project's own rules, settings that make no sense, a server that is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cueapi import CueAPI
from cueapi_tasks.cli.main import main
from cueapi_tasks.server.http import HttpServer

from .deploying import NAME, REPORT, embedded, statuses

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "shop.py").write_text(REPORT)
    return tmp_path


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CueAPI]:
    """Run an embedded server that the environment's settings name."""
    with embedded(tmp_path / "data", monkeypatch) as made:
        yield made


def deploy(*flags: str) -> int:
    return main(["deploy", "shop.py", "--yes", *flags])


@pytest.mark.parametrize("command", [["plan"], ["deploy", "--yes"], ["destroy", "--yes"]])
def test_a_project_may_require_an_environment(
    client: CueAPI, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output, command: list[str]
) -> None:
    assert deploy() == 0
    (project / "pyproject.toml").write_text('[tool.cueapi-tasks]\napp = "shop.py"\nrequire_environment = true')
    assert main(command) == 1
    assert "error [environment_required]" in capsys.readouterr().err
    assert statuses(client) == {NAME: "active"}
    monkeypatch.setenv("CUEAPI_ENVIRONMENT", "staging")
    assert main(command) == 0


def test_older_code_is_warned_about_and_refused_where_the_project_says_so(
    client: CueAPI, project: Path, capsys: Output
) -> None:
    assert deploy("--revision", "5") == 0
    assert deploy("--revision", "4") == 0
    assert "warning [older_revision]" in capsys.readouterr().out
    (project / "pyproject.toml").write_text("[tool.cueapi-tasks]\nrefuse_older = true")
    assert deploy("--revision", "4") == 1
    assert "error [older_revision]" in capsys.readouterr().err
    assert deploy("--revision", "6") == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[tool.cueapi-tasks]\nrequire_enviroment = true", "require_enviroment"),
        ("[tool.cueapi-tasks]\nrequire_environment = 'yes'", "require_environment"),
        ("[tool.cueapi-tasks]\nrefuse_older = 1", "refuse_older"),
        ("[tool.cueapi-tasks]\napp = 5", "app"),
        ("[tool]\ncueapi-tasks = 5", "tool.cueapi-tasks"),
        ("tool = 5", "tool"),
        ("[tool.cueapi-tasks", "cannot be read"),
    ],
)
def test_a_key_of_pyproject_that_is_not_understood_is_refused(
    project: Path, capsys: Output, text: str, says: str
) -> None:
    (project / "pyproject.toml").write_text(text)
    assert main(["plan", "shop.py"]) == 1
    error = capsys.readouterr().err
    assert "error [bad_pyproject]" in error
    assert says in error


def test_a_private_callback_is_refused_for_the_hosted_service_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setenv("CUEAPI_API_KEY", "cue_sk_" + "a" * 32)
    monkeypatch.setenv("CUEAPI_CALLBACK_URL", "http://localhost:8000/cueapi")
    for command in (["plan", "shop.py"], ["deploy", "shop.py", "--yes"]):
        assert main(command) == 1
        assert "error [private_callback]" in capsys.readouterr().err


NONSENSE: Mapping[str, tuple[str, bytes]] = {
    "html": ("text/html", b"<html>Sign in</html>"),
    "no json": ("application/json", b"{"),
    "a list": ("application/json", b"[]"),
    "null": ("application/json", b"null"),
    "other keys": ("application/json", b'{"items": []}'),
    "cues of another kind": ("application/json", b'{"cues": [{"id": 5}], "total": 1, "limit": 100, "offset": 0}'),
    "more than it gives": ("application/json", b'{"cues": [], "total": 7, "limit": 100, "offset": 0}'),
}


@pytest.mark.parametrize("answer", NONSENSE)
def test_a_server_that_answers_nonsense_is_one_clear_message_and_gets_no_write(
    monkeypatch: pytest.MonkeyPatch, capsys: Output, answer: str
) -> None:
    kind, body = NONSENSE[answer]
    methods: list[str] = []

    def nonsense(environ: dict[str, Any], start: Callable[[str, Sequence[tuple[str, str]]], Any]) -> list[bytes]:
        methods.append(environ["REQUEST_METHOD"])
        start("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    server = HttpServer(nonsense, host="127.0.0.1", port=0)
    server.start()
    monkeypatch.setenv("CUEAPI_API_KEY", "cue_sk_" + "a" * 32)
    monkeypatch.setenv("CUEAPI_BASE_URL", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("CUEAPI_CALLBACK_URL", "https://example.com/cueapi")
    assert deploy() == 1
    server.stop()
    error = capsys.readouterr().err
    assert "error [" in error
    assert "Traceback" not in error
    assert {*methods} == {"GET"}
