"""The options of a declaration, checked and with the server's defaults filled in; each fault names its remedy."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from ..errors import DeclarationError
from . import schedules
from .context import Done
from .policy import Policy
from .spec import OnFailure, Retry

MAX_ATTEMPTS = 10
"""The most attempts that the server takes (contract, section 5.1)."""
TRANSPORTS = ("webhook", "worker")
VERIFICATIONS = ("none", "require_external_id", "require_result_url", "require_artifacts", "manual")
"""What the server may ask of a success (contract, section 10)."""
CHOICES: Mapping[str, Sequence[str]] = {
    "dst": ("once", "twice"),
    "late": ("run", "skip", "latest"),
    "overlap": ("allow", "skip"),
    "after_crash": ("rerun", "fail"),
}


_TEXT = (str, "text")
KINDS: Mapping[str, tuple[Any, str]] = {
    "cron": (str, "text, as in cron='0 9 * * 1-5'"),
    "every": (str | timedelta, "text or a timedelta, as in every='15m'"),
    "at": (str | datetime, "text or a datetime, as in at='2027-03-01T09:00'"),
    "timezone": (str, "the name of an IANA zone, as in timezone='Europe/Berlin'"),
    "name": _TEXT,
    "task": _TEXT,
    "payload": (Mapping, "a dict of the function's arguments by name"),
    "description": _TEXT,
    "callback_headers": (Mapping, "a dict of texts by name"),
    "retry": (Mapping, "a dict, as in retry={'max_attempts': 3, 'backoff_minutes': [1, 5]}"),
    "on_failure": (Mapping, "a dict, as in on_failure={'email': True}"),
    "paused": (bool, "True or False"),
    "was": (str, "one former name; a schedule has one"),
    "max_late": (str | int | float | timedelta, "text, a timedelta or seconds, as in max_late='10m'"),
    "timeout": (int | float, "a number of seconds"),
    "adopts": (str, "the name of a cue"),
}
"""What each argument of a declaration is, where something else would only fail further on."""


def check_kinds(**given: object) -> None:
    """Raise `DeclarationError` for an argument of the wrong kind."""
    for name, value in given.items():
        kind, form = KINDS[name]
        if value is not None and not isinstance(value, kind):
            raise DeclarationError(f"bad_{name}", f"{name}={value!r} is none: it takes {form}")


def make_schedule(
    *, cron: str | None, every: str | timedelta | None, at: str | datetime | None, zone: str
) -> schedules.Schedule:
    """Return the schedule that exactly one of these says, or raise `DeclarationError`."""
    given = [name for name, value in (("cron", cron), ("every", every), ("at", at)) if value is not None]
    if len(given) != 1:
        raise DeclarationError(
            "one_schedule",
            f"give exactly one of cron=, every= and at=; here {' and '.join(given) or 'none'} is given",
        )
    if cron is not None:
        return schedules.recurring(cron, zone)
    if every is not None:
        return schedules.every(every, zone)
    return schedules.once(at or "", zone)


def make_retry(value: Mapping[str, Any] | None, name: str) -> Retry:
    """Return the retry policy, or raise naming what is wrong with it."""
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
    """Return what happens on failure, or raise naming what is wrong with it."""
    given = dict(value or {})
    unknown = sorted(given.keys() - {"email", "webhook", "pause"})
    if unknown:
        raise DeclarationError(
            "bad_on_failure",
            f"task {name!r}: on_failure has no key {unknown[0]!r}; it takes email, webhook, pause",
        )
    if type(given.get("email", True)) is not bool or type(given.get("pause", False)) is not bool:
        raise DeclarationError("bad_on_failure", f"task {name!r}: on_failure's email and pause are True or False")
    if not isinstance(given.get("webhook"), str | None):
        raise DeclarationError("bad_on_failure", f"task {name!r}: on_failure's webhook is a URL")
    return OnFailure(**given)


def make_policy(name: str, *, max_late: str | float | timedelta | None, timeout: float | None, **given: str) -> Policy:
    """Return the policies of a schedule, or raise naming the one that makes no sense."""
    for option, value in given.items():
        check_choice(option, value, CHOICES[option], name)
    if (max_late is not None) != (given["late"] == "skip"):
        raise DeclarationError(
            "bad_policy", f"task {name!r}: late='skip' and max_late= go together, as in max_late='10m'"
        )
    if timeout is not None and timeout <= 0:
        raise DeclarationError("bad_timeout", f"task {name!r}: timeout= is a number of seconds above 0")
    return Policy(**given, max_late=_seconds(max_late), timeout=timeout)


def make_verification(value: str, function: Callable[..., Any], policy: Policy, name: str) -> str:
    """Return the verification mode, or raise where no run could ever satisfy it."""
    check_choice("verification", value, VERIFICATIONS, name)
    if not value.startswith("require_"):
        return value
    if policy.skips:
        raise DeclarationError(
            "bad_verification",
            f"task {name!r}: a run that is skipped has no evidence; {value} excludes late= and overlap=",
        )
    if not _may_return_done(function):
        raise DeclarationError(
            "bad_verification",
            f"task {name!r}: {value} needs evidence, but the function's return annotation says that it returns none; "
            "return Done(...) and annotate it",
        )
    return value


def check_timeout(policy: Policy, function: Callable[..., Any], name: str) -> None:
    """Raise if a timeout is declared for a function that could not be stopped."""
    if policy.timeout is not None and not is_async(function):
        raise DeclarationError(
            "timeout_needs_async",
            f"task {name!r}: timeout= is for async functions; a running plain function cannot be stopped",
        )


def check_choice(option: str, value: str, choices: Sequence[str], name: str) -> str:
    """Return a value that is one of the choices, or raise naming them."""
    if value not in choices:
        known = " or ".join(repr(choice) for choice in choices)
        raise DeclarationError(f"bad_{option}", f"task {name!r}: {option}={value!r} is not known; it is {known}")
    return value


def make_headers(value: Mapping[str, str] | None, what: str) -> Mapping[str, str] | None:
    """Return the callback's headers, or raise if they are not texts by name; None where nothing is declared."""
    if value is None:
        return None
    texts: list[object] = [*value.keys(), *value.values()]
    if not all(isinstance(text, str) for text in texts):
        raise DeclarationError("bad_headers", f"{what}: callback_headers are texts by name")
    return dict(value)


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether calling the function gives a coroutine, a partial or a callable object included."""
    return any(map(inspect.iscoroutinefunction, _called(function)))


def is_generator(function: Callable[..., Any]) -> bool:
    """Tell whether calling the function gives a generator, which nobody would run."""
    kinds = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(is_kind(each) for is_kind in kinds for each in _called(function))


def _called(function: Callable[..., Any]) -> Sequence[Any]:
    """Return what may be called in the end: the function of a partial, the method of a callable object."""
    plain = inspect.unwrap(getattr(function, "func", function))
    return plain, getattr(plain, "__call__", None)  # noqa: B004


def _may_return_done(function: Callable[..., Any]) -> bool:
    plain = getattr(function, "func", function)
    target = plain if inspect.isroutine(plain) else type(plain).__call__
    try:
        annotation = typing.get_type_hints(target).get("return", Any)
    except NameError:  # it may be defined further down
        return True
    options = (
        typing.get_args(annotation)
        if isinstance(annotation, types.UnionType) or _is_union(annotation)
        else (annotation,)
    )
    return any(option in (Any, object) or (isinstance(option, type) and issubclass(option, Done)) for option in options)


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) is typing.Union


def _seconds(value: str | float | timedelta | None) -> float | None:
    if value is None or isinstance(value, int | float):
        return value
    return schedules.duration(value)


def _is_backoff(value: Any) -> bool:
    if not isinstance(value, list | tuple) or not value:
        return False
    minutes = cast("Sequence[Any]", value)
    return all(type(each) is int and each >= 0 for each in minutes)


def _bad_retry(name: str, what: str) -> DeclarationError:
    return DeclarationError("bad_retry", f"task {name!r}: retry {what}")
