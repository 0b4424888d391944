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
from .options import is_generator
from .policy import Policy
from .schedules import Schedule
from .spec import CueSpec, OnFailure, Owner, Retry, check_part, cue_name

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One schedule of a task, as the decorator was told."""

    name: str | None
    schedule: Schedule
    payload: Mapping[str, Any] = field(default_factory=dict[str, Any])
    description: str = ""
    retry: Retry = field(default_factory=Retry)
    on_failure: OnFailure = field(default_factory=OnFailure)
    policy: Policy = field(default_factory=Policy)
    transport: str = "webhook"
    callback_headers: Mapping[str, str] | None = None
    verification: str = "none"
    paused: bool | None = None
    was: str | None = None
    """The former name, the part after the slash."""
    adopts: str | None = None
    """The whole name of a cue that this app did not make."""


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

    def of_schedule(self, name: str | None) -> Declared | None:
        """Return the schedule of that name, now or formerly; None where the code does not know it."""
        for each in self.declared:
            if each.name == name:
                return each
        return None

    def specs(self, owner: Owner, callback: str | None, former: Owner | None = None) -> tuple[CueSpec, ...]:
        """Return the wanted state of this task's cues; `former` is what the app was called."""
        return tuple(self._spec(each, owner, callback, former) for each in self.declared)

    def _spec(self, declared: Declared, owner: Owner, callback: str | None, former: Owner | None) -> CueSpec:
        return CueSpec(
            owner=owner,
            task=self.name,
            name=cue_name(owner, self.name, declared.name),
            schedule_name=declared.name,
            schedule=declared.schedule,
            former_names=self._former_names(declared, owner, former),
            adopts=declared.adopts,
            callback=callback if declared.transport == "webhook" else None,
            callback_headers=declared.callback_headers,
            payload=declared.payload,
            description=declared.description,
            retry=declared.retry,
            on_failure=declared.on_failure,
            transport=declared.transport,
            verification=declared.verification,
            paused=declared.paused,
            policy=declared.policy,
        )

    def _former_names(self, declared: Declared, owner: Owner, former: Owner | None) -> tuple[str, ...]:
        name = cue_name(owner, self.name, declared.name).partition("/")[2]
        rests = [name] if declared.was is None else [declared.was, name]
        scopes = [owner.scope] if former is None else [owner.scope, former.scope]
        names = [f"{scope}/{rest}" for scope in scopes for rest in rests]
        return tuple(each for each in names if each != f"{owner.scope}/{name}")


AnyTask = Task[..., Any]
"""A task whose signature does not matter here."""


def task_of(function: Callable[P, R], name: str | None) -> Task[P, R]:
    """Return the task that a decorator adds to: the one below it in a stack, or a new one without schedules."""
    if isinstance(function, Task):
        below = cast("Task[P, R]", function)
        if name not in (None, below.name):
            raise DeclarationError(
                "task_renamed", f"task {below.name!r} has its name already; give task= on the lowest decorator"
            )
        return below
    own = name or getattr(function, "__name__", "")
    if not callable(function) or not own:
        raise DeclarationError("not_a_function", f"{function!r} cannot be a task; decorate a function, or give task=")
    if is_generator(function):
        raise DeclarationError(
            "generator_function", f"task {own!r}: a function with yield would never run to its end; use return"
        )
    return Task(function, check_part(own, "the task's name"), (), Binder(function))


def first_line(function: Callable[..., Any]) -> str:
    """Return the first line of a function's docstring: the cue's description where none is given."""
    return (inspect.getdoc(function) or "").partition("\n")[0].strip()


def check_payload(binder: Binder, payload: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the payload as JSON carries it, or raise unless it can and the function can take it."""
    reserved = [key for key in RESERVED_KEYS if key in payload]
    if reserved:
        raise DeclarationError(
            "reserved_payload_key",
            f"task {name!r}: the payload key {reserved[0]!r} is CueAPI's own; rename it",
        )
    try:
        carried: dict[str, Any] = json.loads(json.dumps(dict(payload), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise DeclarationError("payload_not_json", f"task {name!r}: the payload is not JSON: {error}") from error
    try:
        binder.check(carried)
    except PayloadError as error:
        if error.code != "unresolved_annotation":  # it may be defined further down; the run will tell
            raise DeclarationError(error.code, f"task {name!r} cannot take its payload: {error}") from error
    return carried
