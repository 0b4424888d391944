"""Binding: how a payload becomes a call."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from cueapi_tasks import Context, DeclarationError, PayloadError
from cueapi_tasks.declare.binding import Binder

from .support import NOON

if TYPE_CHECKING:
    from decimal import Decimal


class Order(BaseModel):
    id: int
    lines: list[str] = []


CONTEXT = Context(
    execution_id="e",
    cue_id="c",
    cue_name="n",
    task="t",
    scheduled_for=NOON,
    attempt=1,
    is_last_attempt=False,
    transport="webhook",
    payload={},
    now=NOON,
)


def call(function: Callable[..., Any], payload: Mapping[str, Any]) -> Any:
    bound = Binder(function).bind(payload, CONTEXT)
    return function(*bound.args, **bound.kwargs)


def whole(payload: dict[str, Any]) -> Any:
    return payload


def whole_model(payload: Order) -> Any:
    return payload


def with_or_without(n: int, ctx: Context | None = None) -> Any:
    return n, ctx


def whole_and_context(ctx: Context, payload: dict[str, Any]) -> Any:
    return payload, ctx


def typed(day: date, count: int = 3, *, order: Order | None = None) -> Any:
    return day, count, order


def positional(first: int, second: int = 5, /, third: int = 7) -> Any:
    return first, second, third


def open_ended(a: int, **extra: Any) -> Any:
    return a, extra


def bare(a, b=2):  # type: ignore[no-untyped-def]
    return a, b


class Callable1:
    def __call__(self, n: int, ctx: Context) -> Any:
        return n, ctx.task


@pytest.mark.parametrize(
    ("function", "payload", "result"),
    [
        (whole, {"a": 1, "b": 2}, {"a": 1, "b": 2}),
        (whole_model, {"id": "7"}, Order(id=7)),
        (whole_and_context, {"x": 1}, ({"x": 1}, CONTEXT)),
        (typed, {"day": "2026-01-02", "order": {"id": 1}}, (date(2026, 1, 2), 3, Order(id=1))),
        (positional, {"first": "1", "third": 3}, (1, 5, 3)),
        (open_ended, {"a": 1, "z": [2]}, (1, {"z": [2]})),
        (bare, {"a": "x"}, ("x", 2)),
        (with_or_without, {"n": 1}, (1, CONTEXT)),
        (Callable1(), {"n": "4"}, (4, "t")),
        (functools.partial(typed, count=9), {"day": "2026-01-02"}, (date(2026, 1, 2), 9, None)),
        (lambda: "nothing", {}, "nothing"),
    ],
)
def test_a_payload_becomes_typed_arguments(function: Callable[..., Any], payload: dict[str, Any], result: Any) -> None:
    assert call(function, payload) == result


@pytest.mark.parametrize(
    ("function", "payload", "says"),
    [
        (typed, {}, "day: required"),
        (typed, {"day": "x"}, "day: "),
        (typed, {"day": "2026-01-02", "dya": 1}, "dya: the function has no such parameter"),
        (typed, {"day": "2026-01-02", "order": {"id": "x"}}, r"order.id: "),
        (typed, {"day": "x", "count": "y"}, r"day: .*; count: "),
        (whole_model, {}, "payload.id: "),
        (lambda: None, {"a": 1}, "a: the function has no such parameter"),
    ],
)
def test_a_payload_that_does_not_fit_names_every_fault(
    function: Callable[..., Any], payload: dict[str, Any], says: str
) -> None:
    with pytest.raises(PayloadError, match=says):
        call(function, payload)


def test_an_annotation_that_exists_for_checkers_alone_is_named_when_it_is_needed() -> None:
    def needs_import(amount: Decimal) -> None: ...

    with pytest.raises(PayloadError, match="'Decimal' is not defined"):
        call(needs_import, {"amount": "1"})


def test_an_annotation_that_json_cannot_fill_is_named() -> None:
    def takes_a_lock(lock: threading.Event) -> None: ...

    with pytest.raises(PayloadError, match="cannot validate"):
        call(takes_a_lock, {"lock": 1})


def test_what_has_no_signature_is_refused() -> None:
    with pytest.raises(DeclarationError, match="no signature"):
        Binder(type)
