"""The options of a declaration, and what the policies among them decide."""

from __future__ import annotations

import functools
import zoneinfo
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Optional

import pytest

from cueapi_tasks import CueTasks, DeclarationError, Done
from cueapi_tasks.declare.options import is_async
from cueapi_tasks.declare.policy import DST, LATE, RUN, Policy, decide
from cueapi_tasks.declare.schedules import Once, Recurring, Schedule

UTC = timezone.utc
FIRST, SECOND = datetime(2027, 11, 7, 5, 30, tzinfo=UTC), datetime(2027, 11, 7, 6, 30, tzinfo=UTC)
"""Half past one in New York, twice."""
NINE = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def plain() -> None: ...
def anything() -> Any: ...
def unannotated():  # type: ignore[no-untyped-def]
    ...
def done() -> Done: ...  # type: ignore[empty-body]
def maybe_done() -> Done | None: ...
def perhaps_done() -> Optional[Done]: ...  # noqa: UP045 - the older spelling
def text() -> str | None: ...
def later() -> Later: ...  # type: ignore[name-defined]  # noqa: F821
async def waits() -> None: ...


class Callme:
    """An object that is called like a function."""

    async def __call__(self) -> None: ...


class Returns:
    """An object whose call returns evidence."""

    def __call__(self) -> Done: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("every", 60),
        ("cron", 5),
        ("at", 1),
        ("retry", 3),
        ("on_failure", "me@x.example"),
        ("was", ["a", "b"]),
        ("timezone", zoneinfo.ZoneInfo("Europe/Berlin")),
        ("timeout", "1m"),
        ("payload", [1]),
        ("paused", "yes"),
        ("callback_headers", ["a"]),
    ],
)
def test_an_argument_of_the_wrong_kind_is_named(argument: str, value: Any) -> None:
    schedule: Any = CueTasks("billing").schedule
    with pytest.raises(DeclarationError, match=argument) as refused:
        schedule(**({"cron": "0 9 * * *"} | {argument: value}))(plain)
    assert refused.value.code == f"bad_{argument}"


class Yields:
    """An object whose call gives a generator."""

    def __call__(self) -> Iterator[int]:
        yield 1


def yields() -> Iterator[int]:
    yield 1


async def yields_later() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [yields, yields_later, Yields(), functools.partial(yields)])
def test_a_generator_is_no_task_since_nobody_would_run_it(function: Callable[..., Any]) -> None:
    with pytest.raises(DeclarationError, match="use return") as refused:
        CueTasks("billing").schedule(cron="0 9 * * *", task="t")(function)
    assert refused.value.code == "generator_function"


def of_new_york(cron: str) -> Recurring:
    return Recurring(cron=cron, timezone="America/New_York")


@pytest.mark.parametrize(
    ("cron", "run", "once"),
    [
        ("30 1 * * *", FIRST, RUN),
        ("30 1 * * *", SECOND, DST),
        ("*/30 1 * * *", SECOND, DST),
        ("30 0-23 * * *", SECOND, RUN),
        ("30 * * * *", SECOND, RUN),
        ("*/30 * * * *", SECOND, RUN),
        ("30 1 * * *", SECOND + timedelta(seconds=7), RUN),
        ("30 4 * * *", SECOND, RUN),
    ],
)
def test_the_second_copy_of_an_hour_is_left_out_unless_the_policy_is_twice(cron: str, run: datetime, once: str) -> None:
    assert decide(Policy(dst="once"), of_new_york(cron), run, run) == once
    assert decide(Policy(dst="twice"), of_new_york(cron), run, run) == RUN


@pytest.mark.parametrize(
    ("policy", "schedule", "run", "late", "decided"),
    [
        (Policy(), Recurring(cron="0 9 * * *", timezone="UTC"), NINE, 1e6, RUN),
        (Policy(late="skip", max_late=600), Recurring(cron="0 9 * * *", timezone="UTC"), NINE, 600, RUN),
        (Policy(late="skip", max_late=600), Recurring(cron="0 9 * * *", timezone="UTC"), NINE, 601, LATE),
        (Policy(late="skip", max_late=600), Once(at=NINE, timezone="UTC"), NINE, 601, LATE),
        (Policy(late="skip", max_late=600), None, NINE, 601, LATE),
        (Policy(late="latest"), Recurring(cron="0 9 * * *", timezone="UTC"), NINE, 86_399, RUN),
        (Policy(late="latest"), Recurring(cron="0 9 * * *", timezone="UTC"), NINE, 86_400, LATE),
        (Policy(late="latest"), Recurring(cron="0 9 * * *", timezone="UTC"), NINE + timedelta(seconds=1), 1e6, RUN),
        (Policy(late="latest"), Recurring(cron="0 9 24 11 * 0 2026", timezone="UTC"), NINE, 1e6, RUN),
        (Policy(late="latest"), Once(at=NINE, timezone="UTC"), NINE, 1e6, RUN),
        (Policy(late="latest"), None, NINE, 1e6, RUN),
    ],
)
def test_a_late_run_is_decided_by_policy_and_one_fired_by_hand_is_no_slot(
    policy: Policy, schedule: Schedule | None, run: datetime, late: float, decided: str
) -> None:
    assert decide(policy, schedule, run, run + timedelta(seconds=late)) == decided


@pytest.mark.parametrize(
    ("options", "function", "code"),
    [
        ({"retry": {"max_attempts": 0}}, plain, "bad_retry"),
        ({"retry": {"max_attempts": True}}, plain, "bad_retry"),
        ({"retry": {"backoff_minutes": [-1]}}, plain, "bad_retry"),
        ({"retry": {"backoff_minutes": "15"}}, plain, "bad_retry"),
        ({"retry": {"backoff_minutes": [0.5]}}, plain, "bad_retry"),
        ({"on_failure": {"mail": True}}, plain, "bad_on_failure"),
        ({"on_failure": {"email": "yes"}}, plain, "bad_on_failure"),
        ({"on_failure": {"pause": 1}}, plain, "bad_on_failure"),
        ({"on_failure": {"webhook": 5}}, plain, "bad_on_failure"),
        ({"dst": "thrice"}, plain, "bad_dst"),
        ({"late": "never"}, plain, "bad_late"),
        ({"overlap": "queue"}, plain, "bad_overlap"),
        ({"after_crash": "skip"}, plain, "bad_after_crash"),
        ({"transport": "pigeon"}, plain, "bad_transport"),
        ({"late": "skip"}, plain, "bad_policy"),
        ({"max_late": "10m"}, plain, "bad_policy"),
        ({"late": "latest", "max_late": 5}, plain, "bad_policy"),
        ({"late": "skip", "max_late": "soon"}, plain, "bad_interval"),
        ({"timeout": 0}, waits, "bad_timeout"),
        ({"timeout": 5}, plain, "timeout_needs_async"),
        ({"verification": "require_luck"}, plain, "bad_verification"),
        ({"verification": "require_external_id"}, plain, "bad_verification"),
        ({"verification": "require_artifacts"}, text, "bad_verification"),
        ({"verification": "require_external_id", "overlap": "skip"}, done, "bad_verification"),
        ({"verification": "require_result_url", "late": "latest"}, done, "bad_verification"),
        ({"callback_headers": {"X": 1}}, plain, "bad_headers"),
        ({"was": "a/b"}, plain, "bad_name"),
        ({"was": "a:b c"}, plain, "bad_name"),
        ({"timezone": "Mars"}, plain, "unknown_timezone"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_with_its_code(
    cue: CueTasks, options: Mapping[str, Any], function: Callable[..., Any], code: str
) -> None:
    with pytest.raises(DeclarationError) as caught:
        cue.schedule(cron="0 9 * * *", **options)(function)
    assert caught.value.code == code
    assert cue.tasks == ()


@pytest.mark.parametrize(
    ("options", "function"),
    [
        ({"verification": "manual", "overlap": "skip"}, plain),
        *(
            ({"verification": "require_external_id", "task": "t"}, each)
            for each in (
                done,
                maybe_done,
                perhaps_done,
                anything,
                unannotated,
                later,
                functools.partial(done),
                Returns(),
            )
        ),
        ({"timeout": 5}, waits),
        ({"timeout": 5, "task": "t"}, functools.partial(waits)),
        ({"timeout": 5, "task": "t"}, Callme()),
    ],
)
def test_an_option_that_makes_sense_is_taken(cue: CueTasks, options: Mapping[str, Any], function: Any) -> None:
    cue.schedule(cron="0 9 * * *", **options)(function)
    assert len(cue.tasks) == 1


@pytest.mark.parametrize(("given", "seconds"), [(90, 90.0), ("10m", 600.0), (timedelta(hours=1), 3600.0)])
def test_max_late_is_a_duration_in_any_form(cue: CueTasks, given: Any, seconds: float) -> None:
    cue.schedule(cron="0 9 * * *", late="skip", max_late=given)(plain)
    assert cue.specs()[0].policy.max_late == seconds


def test_what_is_async() -> None:
    assert [is_async(each) for each in (waits, functools.partial(waits), Callme(), plain)] == [True, True, True, False]


def test_a_schedule_is_found_by_its_name_and_its_cue_by_a_former_one(cue: CueTasks) -> None:
    task = cue.schedule(cron="0 9 * * *", name="early", was="old:early")(plain)
    assert (task.of_schedule("early"), task.of_schedule("late")) == (task.declared[0], None)
    assert cue.specs()[0].former_names == ("billing/old:early",)
