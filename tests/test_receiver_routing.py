"""How a delivery finds its task: modules imported in time, and names that something used to have."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cueapi_tasks import AppLoadError, CueTasks, DeclarationError
from cueapi_tasks.cli.loader import load, user_traceback
from cueapi_tasks.web import Request

from .support import SECRET, Clock, answer_of, envelope, receiver_of, signed, stamp_payload, stub_client

APP = """
from cueapi_tasks import CueTasks
cue = CueTasks("billing", webhook_secret="{secret}", include={include!r})
"""
TASK = """
from routed_app import cue
@cue.schedule(cron="0 9 * * *")
def {name}() -> None: ...
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("routed_"):
            del sys.modules[name]


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / f"{name.replace('__in__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def app_of(include: list[str]) -> str:
    return APP.format(secret=SECRET, include=include)


def package(folder: Path) -> None:
    write(
        folder,
        routed_tasks__in__start=TASK.format(name="one"),
        routed_tasks__in__deep__in__end=TASK.format(name="two"),
        routed_app=app_of(["routed_tasks", "routed_single"]),
        routed_single=TASK.format(name="three"),
    )
    for name in ("routed_tasks", "routed_tasks/deep"):
        (folder / name / "__init__.py").write_text("")
    (folder / "routed_tasks" / "__main__.py").write_text("raise SystemExit('a program')")


def send(app: CueTasks, tmp_path: Path, body: dict[str, Any], **arguments: Any) -> tuple[int, str]:
    given = {"includes": app.includes, "former": app.former_owner} | arguments
    with stub_client() as stub, receiver_of(app, tmp_path / "l.db", Clock(), stub.client, **given) as receiver:
        return answer_of(receiver.handle(signed(body)))


def test_the_command_line_sees_the_tasks_of_included_modules_and_packages(folder: Path) -> None:
    package(folder)
    assert [task.name for task in load("routed_app").tasks] == ["two", "one", "three"]


def test_the_receiver_imports_them_before_the_first_delivery_runs(folder: Path) -> None:
    package(folder)
    app = __import__("routed_app").cue
    assert len(app.tasks) == 0
    assert send(app, folder, envelope(payload=stamp_payload("two"))) == (200, "completed")


def test_a_stranger_makes_nothing_be_imported(folder: Path) -> None:
    package(folder)
    app: CueTasks = __import__("routed_app").cue
    with receiver_of(app, folder / "l.db", Clock(), None, includes=app.includes) as receiver:
        receiver.handle(Request(method="POST", headers={}, body=b"{}"))
    assert len(app.tasks) == 0


def test_a_module_that_fails_is_a_refusal_that_the_next_delivery_overcomes(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, routed_app=app_of(["routed_broken"]), routed_broken="import no_such_thing")
    app = __import__("routed_app").cue
    body = envelope(payload=stamp_payload("late"))
    assert send(app, folder, body) == (503, "include_failed")
    assert "No module named 'no_such_thing'" in caplog.text
    write(folder, routed_broken=TASK.format(name="late") + "# another size, so that no cached bytecode is used")
    assert send(app, folder, body) == (200, "completed")


def test_on_the_command_line_a_module_that_fails_shows_its_own_traceback(folder: Path) -> None:
    write(folder, routed_app=app_of(["routed_broken"]), routed_broken="1 / 0")
    with pytest.raises(AppLoadError, match="include= of 'billing'") as raised:
        load("routed_app")
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    shown = user_traceback(raised.value.__cause__)
    assert "routed_broken.py" in shown
    assert "cueapi_tasks" not in shown


def test_a_text_is_not_taken_for_a_list_of_letters() -> None:
    with pytest.raises(DeclarationError, match=r"include=\['tasks'\]"):
        CueTasks("billing", include="tasks")


def test_a_receiver_without_tasks_says_so_once(
    cue: CueTasks, caplog: pytest.LogCaptureFixture, clock: Clock, tmp_path: Path
) -> None:
    with receiver_of(cue, tmp_path / "l.db", clock, None) as receiver:
        for _ in range(2):
            assert answer_of(receiver.handle(signed(envelope()))) == (404, "other_environment")
    assert caplog.text.count("knows no task") == 1


@pytest.fixture
def renamed() -> CueTasks:
    app = CueTasks("billing", was="invoices")

    @app.schedule(cron="0 9 * * 6", name="ends", was="digest:old")
    @app.schedule(cron="0 9 * * 1-5", name="days", was="report")
    def digest() -> None: ...

    return app


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        (stamp_payload("report"), "billing/report"),
        (stamp_payload("digest", schedule="days"), "billing/digest:days"),
        (stamp_payload("digest", schedule="old"), "billing/digest:old"),
        (stamp_payload("report", app="invoices"), "invoices/report"),
        (stamp_payload("report", schedule="gone"), "billing/report:gone"),
        ({}, "billing/report"),
        ({}, "invoices/digest:ends"),
        ({"task": "invoices/report"}, "made by a program"),
    ],
)
def test_a_delivery_of_a_former_name_finds_its_task(
    renamed: CueTasks, tmp_path: Path, payload: dict[str, Any], name: str
) -> None:
    assert send(renamed, tmp_path, envelope(name, payload=payload)) == (200, "completed")


@pytest.mark.parametrize(
    ("names", "now"),
    [
        (("digest", "days"), ("digest", "days")),
        (("report", None), ("digest", "days")),
        (("digest", "old"), ("digest", "ends")),
        (("report", "gone"), ("digest", "gone")),
        (("digest", "gone"), ("digest", "gone")),
        (("unheard", None), None),
    ],
)
def test_former_names_lead_to_what_they_became(renamed: CueTasks, names: tuple[str, str | None], now: object) -> None:
    assert renamed.registry.find(*names) == now


def test_a_name_that_is_declared_wins_over_the_same_former_one(tmp_path: Path, cue: CueTasks) -> None:
    runs: list[str] = []

    @cue.schedule(cron="0 9 * * *", was="report")
    def digest() -> None:
        runs.append("digest")

    @cue.schedule(cron="0 9 * * *")
    def report() -> None:
        runs.append("report")

    assert send(cue, tmp_path, envelope(payload=stamp_payload("report"))) == (200, "completed")
    assert runs == ["report"]
