"""Declaring: what the decorator makes, and what it refuses."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from cueapi_tasks import CueTasks, DeclarationError, DuplicateTaskError, Task
from cueapi_tasks.declare.spec import STAMP_VERSION, Owner, Stamp, cue_name, read_stamp


def test_a_declared_task_is_still_the_function(cue: CueTasks) -> None:
    @cue.schedule(cron="0 9 * * *", payload={"left": 1})
    def add(left: int, right: int = 2) -> int:
        """Add two numbers.

        And more.
        """
        return left + right

    assert isinstance(add, Task)
    assert repr(add).startswith("<Task add: tests.test_declaring")
    assert add(1) == 3
    assert (vars(add)["__name__"], add.__doc__, add.__module__) == ("add", add.function.__doc__, __name__)


def test_a_spec_holds_all_that_was_declared(cue: CueTasks) -> None:
    @cue.schedule(
        cron="0 9 * * 1-5",
        timezone="America/New_York",
        payload={"region": "eu"},
        retry={"max_attempts": 5},
        on_failure={"pause": True},
    )
    def report(region: str) -> None:
        """Send the report."""

    (spec,) = cue.specs()
    assert (spec.name, spec.description, spec.schedule.timezone) == (
        "billing/report",
        "Send the report.",
        "America/New_York",
    )
    assert (spec.retry.max_attempts, spec.retry.backoff_minutes) == (5, (1, 5, 15))
    assert (spec.on_failure.pause, spec.on_failure.email) == (True, True)


def test_the_wire_payload_carries_the_routing_key_and_the_complete_stamp(cue: CueTasks) -> None:
    cue.override(environment="staging")
    cue.schedule(every="1h", payload={"n": 1}, name="hourly")(noop_n)
    (spec,) = cue.specs()
    assert spec.name == "billing@staging/noop_n:hourly"
    assert spec.wire_payload() == {
        "n": 1,
        "task": "billing@staging/noop_n",
        "_cueapi_tasks": {
            "v": STAMP_VERSION,
            "app": "billing",
            "env": "staging",
            "task": "noop_n",
            "schedule": "hourly",
            "max_attempts": 3,
            "revision": None,
        },
    }


def noop_n(n: int) -> None:
    """Take a number."""


def test_a_stamp_is_read_back_as_it_was_written() -> None:
    stamp = Stamp(app="a", environment=None, task="t", schedule="s", max_attempts=4, revision=7, paused_by="deploy")
    assert read_stamp({"_cueapi_tasks": stamp.to_json()}) == stamp


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        [],
        {},
        {"v": 2},
        {"v": 1},
        {"v": 1, "app": "a"},
        {"v": 1, "app": 3, "task": "t"},
        {"v": 1, "app": "a", "task": "t", "max_attempts": True},
    ],
)
def test_what_is_no_stamp_of_this_version_is_none(value: Any) -> None:
    assert read_stamp({"_cueapi_tasks": value}) is None


def test_two_functions_of_one_name_are_refused_naming_both_places(cue: CueTasks) -> None:
    @cue.schedule(cron="0 9 * * *", task="report")
    def first() -> None: ...

    with pytest.raises(DuplicateTaskError, match=r"first .*test_declaring.*second .*test_declaring"):

        @cue.schedule(cron="0 9 * * *", task="report")
        def second() -> None: ...

    assert [task.function for task in cue.tasks] == [first.function]


def test_the_same_function_registering_again_replaces_as_on_a_reload(cue: CueTasks) -> None:
    def make() -> Task[[], None]:
        @cue.schedule(cron="0 9 * * *")
        def report() -> None: ...

        return report

    make()
    again = make()
    assert [task.function for task in cue.tasks] == [again.function]


def test_two_functions_of_one_name_in_one_module_are_said(cue: CueTasks, caplog: pytest.LogCaptureFixture) -> None:
    @cue.schedule(cron="0 9 * * *")
    def report() -> None: ...

    first = report

    @cue.schedule(cron="0 10 * * *")  # type: ignore[no-redef]
    def report() -> None: ...

    assert [task.function for task in cue.tasks] == [report.function]
    assert first is not report
    assert "the task 'report' is declared twice in" in caplog.text


def test_a_module_run_as_main_and_imported_by_name_registers_once(cue: CueTasks) -> None:
    source = "def report() -> None: ..."
    for name in ("__main__", "app"):
        module = types.ModuleType(name)
        exec(compile(source, "app.py", "exec"), module.__dict__)
        cue.schedule(cron="0 9 * * *")(module.report)
    assert len(cue.tasks) == 1


def test_stacked_schedules_each_have_a_name(cue: CueTasks) -> None:
    @cue.schedule(cron="0 10 * * 6", name="weekend")
    @cue.schedule(cron="0 9 * * 1-5", name="weekdays")
    def report() -> str:
        return "sent"

    assert [spec.name for spec in cue.specs()] == ["billing/report:weekdays", "billing/report:weekend"]
    assert report() == "sent"


def test_a_stacked_schedule_without_a_name_with_a_taken_one_or_of_another_task_is_refused(cue: CueTasks) -> None:
    task = cue.schedule(cron="0 9 * * *", name="one")(noop)
    with pytest.raises(DeclarationError, match="give each its own name="):
        cue.schedule(cron="0 10 * * *")(task)
    with pytest.raises(DuplicateTaskError, match="declared twice"):
        cue.schedule(cron="0 10 * * *", name="one")(task)
    with pytest.raises(DeclarationError, match="give task= on the lowest decorator"):
        cue.schedule(cron="0 10 * * *", name="two", task="other")(task)
    assert [spec.name for spec in cue.specs()] == ["billing/noop:one"]


def noop() -> None:
    """Do nothing."""


def takes_task(task: str) -> None:
    """Use the reserved name."""


def takes_region(region: str, since: date | None = None) -> None:
    """Use a payload."""


@pytest.mark.parametrize(
    ("arguments", "function", "says"),
    [
        ({}, noop, "exactly one of cron=, every= and at="),
        ({"cron": "0 9 * * *", "every": "1h"}, noop, "cron and every is given"),
        ({"cron": "0 9 * * *", "task": "a/b"}, noop, "letters, digits"),
        ({"cron": "0 9 * * *", "name": "week end"}, noop, "letters, digits"),
        ({"cron": "0 9 * * *", "task": "a" * 300}, noop, "over 255 characters"),
        ({"cron": "0 9 * * *"}, takes_task, "rename the parameter"),
        ({"cron": "0 9 * * *", "payload": {"task": 1}}, noop, "CueAPI's own"),
        ({"cron": "0 9 * * *", "payload": {"region": 1}}, takes_region, "region: Input should be a valid string"),
        (
            {"cron": "0 9 * * *", "payload": {"regoin": "eu"}},
            takes_region,
            "region: required.*regoin: the function has no",
        ),
        ({"cron": "0 9 * * *", "payload": {"region": "eu", "since": "soon"}}, takes_region, "since: "),
        ({"cron": "0 9 * * *", "payload": {"region": object()}}, takes_region, "not JSON"),
        ({"cron": "0 9 * * *", "payload": {"region": float("nan")}}, takes_region, "not JSON"),
        ({"cron": "0 9 * * *"}, takes_region, "region: required"),
        ({"cron": "0 9 * * *", "retry": {"max_attempts": 11}}, noop, "from 1 to 10"),
        ({"cron": "0 9 * * *", "retry": {"attempts": 1}}, noop, "no key 'attempts'"),
        ({"cron": "0 9 * * *", "retry": {"backoff_minutes": []}}, noop, "at least one"),
        ({"cron": "0 9 * * *", "on_failure": {"slack": "x"}}, noop, "no key 'slack'"),
        ({"cron": "0 9 * * *"}, 5, "decorate a function"),
        ({"cron": "0 9 * * *"}, functools.partial(noop), "give task="),
    ],
)
def test_a_declaration_that_could_not_run_is_refused(
    cue: CueTasks, arguments: dict[str, Any], function: Callable[..., Any], says: str
) -> None:
    with pytest.raises(DeclarationError, match=f"(?s){says}"):
        cue.schedule(**arguments)(function)
    assert cue.tasks == ()


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a@b"])
def test_an_app_whose_name_could_not_be_read_back_is_refused(name: str) -> None:
    with pytest.raises(DeclarationError, match="letters, digits"):
        CueTasks(name)


def test_a_payload_for_an_annotation_defined_further_down_is_checked_when_it_runs(cue: CueTasks) -> None:
    def report(day: Later) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    cue.schedule(cron="0 9 * * *", payload={"day": "x"})(report)
    assert len(cue.tasks) == 1


def test_names_say_app_environment_task_and_schedule() -> None:
    assert cue_name(Owner(app="billing"), "report", None) == "billing/report"
    assert (
        cue_name(Owner(app="billing", environment="staging"), "report", "weekend") == "billing@staging/report:weekend"
    )
