"""A declared function and its schedules; a task knows neither the app nor how it will be called."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, ParamSpec, TypeVar, cast

from ..errors import DeclarationError, PayloadError
from .binding import RESERVED_KEYS, Binder
from .schedules import Schedule
from .spec import CueSpec, OnFailure, Owner, Retry, cue_name

P = ParamSpec("P")
R = TypeVar("R")

MAX_ATTEMPTS = 10
"""The most attempts that the server takes (contract, section 5.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One schedule of a task, as the decorator was told."""

    name: str | None
    schedule: Schedule
    payload: Mapping[str, Any] = field(default_factory=dict[str, Any])
    description: str = ""
    retry: Retry = field(default_factory=Retry)
    on_failure: OnFailure = field(default_factory=OnFailure)


class Task(Generic[P, R]):
    """A function that runs on schedules; calling it runs the plain function, here and now."""

    def __init__(self, function: Callable[P, R], name: str, declared: Sequence[Declared], binder: Binder) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.declared = tuple(declared)
        self.binder = binder

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the plain function."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name}: {self.place}>"

    @property
    def place(self) -> str:
        """Where the function is defined, for people."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        where = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
        return f"{self.identity}{where}"

    @property
    def identity(self) -> str:
        """The module and the qualified name; the same one registering again is a reload."""
        module = getattr(self.function, "__module__", None) or "?"
        return f"{module}.{getattr(self.function, '__qualname__', type(self.function).__qualname__)}"

    def with_schedule(self, declared: Declared) -> Task[P, R]:
        """Return the task with one more schedule; each then needs a name of its own."""
        together = (*self.declared, declared)
        if len(together) > 1 and any(each.name is None for each in together):
            raise DeclarationError(
                "unnamed_schedule",
                f"task {self.name!r} has several schedules: give each its own name=, as in name='weekend'",
            )
        return Task(self.function, self.name, together, self.binder)

    def specs(self, owner: Owner, callback: str | None) -> tuple[CueSpec, ...]:
        """Return the wanted state of this task's cues."""
        return tuple(self._spec(each, owner, callback) for each in self.declared)

    def _spec(self, declared: Declared, owner: Owner, callback: str | None) -> CueSpec:
        return CueSpec(
            owner=owner,
            task=self.name,
            name=cue_name(owner, self.name, declared.name),
            schedule_name=declared.name,
            schedule=declared.schedule,
            callback=callback,
            payload=declared.payload,
            description=declared.description,
            retry=declared.retry,
            on_failure=declared.on_failure,
        )


AnyTask = Task[..., Any]
"""A task whose signature does not matter here."""


def first_line(function: Callable[..., Any]) -> str:
    """Return the first line of a function's docstring: the cue's description where none is given."""
    return (inspect.getdoc(function) or "").partition("\n")[0].strip()


def check_payload(binder: Binder, payload: Mapping[str, Any], name: str) -> None:
    """Raise unless the function can take this payload and JSON can carry it."""
    reserved = [key for key in RESERVED_KEYS if key in payload]
    if reserved:
        raise DeclarationError(
            "reserved_payload_key",
            f"task {name!r}: the payload key {reserved[0]!r} is CueAPI's own; rename it",
        )
    try:
        json.dumps(payload, allow_nan=False).encode("ascii")
        binder.check(payload)
    except PayloadError as error:
        if error.code != "unresolved_annotation":  # it may be defined further down; the run will tell
            raise DeclarationError(error.code, f"task {name!r} cannot take its payload: {error}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise DeclarationError("payload_not_json", f"task {name!r}: the payload is not JSON: {error}") from error


def make_retry(value: Mapping[str, Any] | None, name: str) -> Retry:
    """Return the retry policy, the server's defaults filled in, or raise naming what is wrong with it."""
    given = dict(value or {})
    attempts = given.pop("max_attempts", Retry().max_attempts)
    backoff = given.pop("backoff_minutes", Retry().backoff_minutes)
    if given:
        raise _bad_retry(name, f"has no key {sorted(given)[0]!r}")
    if type(attempts) is not int or not 1 <= attempts <= MAX_ATTEMPTS:
        raise _bad_retry(name, f"max_attempts is a whole number from 1 to {MAX_ATTEMPTS}, the first one included")
    if not _is_backoff(backoff):
        raise _bad_retry(name, "backoff_minutes is a list of whole minutes, at least one")
    return Retry(max_attempts=attempts, backoff_minutes=tuple(backoff))


def make_on_failure(value: Mapping[str, Any] | None, name: str) -> OnFailure:
    """Return what happens on failure, the server's defaults filled in, or raise naming what is wrong with it."""
    given = dict(value or {})
    unknown = sorted(given.keys() - {"email", "webhook", "pause"})
    if unknown:
        raise DeclarationError(
            "bad_on_failure",
            f"task {name!r}: on_failure has no key {unknown[0]!r}; it takes email, webhook, pause",
        )
    return OnFailure(**given)


def _is_backoff(value: Any) -> bool:
    if not isinstance(value, list | tuple) or not value:
        return False
    minutes = cast("Sequence[Any]", value)
    return all(type(each) is int and each >= 0 for each in minutes)


def _bad_retry(name: str, what: str) -> DeclarationError:
    return DeclarationError("bad_retry", f"task {name!r}: retry {what}")
