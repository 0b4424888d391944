"""Outcomes: what a return value becomes, within the server's limits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel

from cueapi_tasks import Done
from cueapi_tasks.run.outcome import failed, succeeded


class Model(BaseModel):
    day: date


@dataclass
class Record:
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuller(Done):
    more: str


class Colour(str, Enum):
    RED = "red"


class Mute:
    def __str__(self) -> str:
        raise KeyError


@pytest.mark.parametrize(
    ("value", "evidence"),
    [
        (None, {}),
        ("sent", {"result": "sent"}),
        ("", {"result": ""}),
        ({"n": 1}, {"metadata": {"result": {"n": 1}}}),
        (0, {"metadata": {"result": 0}}),
        (Model(day=date(2026, 1, 2)), {"metadata": {"result": {"day": "2026-01-02"}}}),
        (Record(3), {"metadata": {"result": {"n": 3}}}),
        (Done(), {}),
        (Fuller(result="r", more="m"), {"result": "r"}),
        (Colour.RED, {"result": "red"}),
        (Done(result="r", summary="s", artifacts=[1]), {"result": "r", "summary": "s", "artifacts": [1]}),
        # text is cut, an identifier is dropped: a cut one would name something else
        ("x" * 2001, {"result": "x" * 2000}),
        (Done(summary="x" * 501), {"summary": "x" * 500}),
        (Done(external_id="x" * 256, result_type="x" * 51, result_url="https://e.com/" + "x" * 2083), {}),
        (Done(external_id="x" * 255), {"external_id": "x" * 255}),
        # what JSON cannot say, and what is too much of it
        (object(), {}),
        (float("nan"), {}),
        ({"n": "x" * 10_240}, {}),
        (Done(artifacts=["x" * 900_000], result="r"), {"result": "r"}),
        (Done(result=Mute(), summary="s"), {"summary": "s"}),  # type: ignore[arg-type]
        ((1 / each for each in (1, 0)), {}),
        ("a\0b\ud800", {"result": "ab?"}),
        ({"a\0": ["b\0\ud800"]}, {"metadata": {"result": {"a": ["b?"]}}}),
    ],
)
def test_a_return_value_becomes_evidence_within_the_limits(value: Any, evidence: dict[str, Any]) -> None:
    result = succeeded(value)
    assert (result.outcome.success, result.outcome.evidence) == (True, evidence)


def test_a_value_that_holds_itself_is_left_out() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert succeeded(loop).outcome.evidence == {}


def test_an_error_is_cut_to_what_the_server_takes() -> None:
    assert len(failed("x" * 5000).outcome.evidence["error"]) == 2000
