"""How a payload reaches a function: keys bind to parameters by name and are validated against the annotations."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Any, NamedTuple

import pydantic

from ..errors import DeclarationError, PayloadError
from .context import Context

STAMP_KEY = "_cueapi_tasks"
TASK_KEY = "task"
RESERVED_KEYS = (TASK_KEY, STAMP_KEY)
"""Payload keys that CueAPI's workers and our stamp use; a function never sees them."""

Validator = Callable[[Any], Any]

_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


class Bound(NamedTuple):
    """Arguments ready for the call."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Binder:
    """Binds payloads to one function; the annotations' models are built on first use."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._parameters = _parameters(function)

    def bind(self, payload: Mapping[str, Any], context: Context) -> Bound:
        """Return the arguments for a call, or raise `PayloadError` naming every key that does not fit."""
        values = self._validated(payload)
        values |= dict.fromkeys(self._plan.contexts, context)
        args = tuple(values.pop(name, default) for name, default in self._plan.positional.items())
        return Bound(args=args, kwargs=values)

    def check(self, payload: Mapping[str, Any]) -> None:
        """Raise `PayloadError` if a declared payload does not fit the function."""
        self._validated(payload)

    @functools.cached_property
    def _plan(self) -> _Plan:
        return _plan(self._function, self._parameters)

    def _validated(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        plan = self._plan
        if plan.whole is not None:
            return _validate(plan.validators, {plan.whole: dict(payload)})
        if payload.keys() ^ plan.known:
            _check_keys(plan, payload)
        return _validate(plan.validators, payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A signature, read once."""

    contexts: tuple[str, ...]
    whole: str | None
    """The single parameter called payload, which takes the whole dict."""
    known: frozenset[str]
    required: frozenset[str]
    positional: Mapping[str, Any]
    """Positional-only parameters and their defaults."""
    validators: Mapping[str, Validator]
    open: bool
    """Whether a `**` parameter takes further keys."""


def _parameters(function: Callable[..., Any]) -> Mapping[str, Parameter]:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise DeclarationError("no_signature", f"{function!r} has no signature to bind a payload to") from error
    taken = [name for name in RESERVED_KEYS if name in parameters]
    if taken:
        raise DeclarationError(
            "reserved_parameter",
            f"a parameter called {taken[0]!r} would never get a value: CueAPI uses that payload key itself; "
            "rename the parameter, or take the run's facts with a parameter annotated Context",
        )
    return parameters


def _plan(function: Callable[..., Any], parameters: Mapping[str, Parameter]) -> _Plan:
    hints = _hints(function)
    contexts = tuple(name for name in parameters if Context in (hints.get(name), *typing.get_args(hints.get(name))))
    bindable = {
        name: parameter
        for name, parameter in parameters.items()
        if name not in contexts and parameter.kind not in _VARIADIC
    }
    variadic = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values())
    return _Plan(
        contexts=contexts,
        whole="payload" if tuple(bindable) == ("payload",) and not variadic else None,
        known=frozenset(bindable),
        required=frozenset(name for name, each in bindable.items() if each.default is Parameter.empty),
        positional={name: each.default for name, each in parameters.items() if each.kind is Parameter.POSITIONAL_ONLY},
        validators={name: _validator(function, hints[name]) for name in bindable if name in hints},
        open=variadic,
    )


def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    target = function
    while isinstance(target, functools.partial):
        target = target.func
    if not inspect.isroutine(target):
        target = type(target).__call__
    try:
        return typing.get_type_hints(target, include_extras=True)
    except NameError as error:
        raise PayloadError(
            "unresolved_annotation",
            f"{_name(function)}: the annotation {error.name!r} is not defined in its module at run time "
            "(an import under TYPE_CHECKING is not seen there)",
        ) from error


def _validator(function: Callable[..., Any], annotation: Any) -> Validator:
    try:
        return pydantic.TypeAdapter(annotation).validator.validate_python
    except pydantic.PydanticUserError as error:
        raise PayloadError(
            "unresolved_annotation" if error.code == "class-not-fully-defined" else "unusable_annotation",
            f"{_name(function)}: pydantic cannot validate {annotation!r}; "
            "annotate with types that JSON can fill, or take payload: dict",
        ) from error


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)


def _check_keys(plan: _Plan, payload: Mapping[str, Any]) -> None:
    missing = sorted(plan.required - payload.keys())
    unknown = [] if plan.open else sorted(payload.keys() - plan.known)
    faults = [f"{key}: required, but the payload does not have it" for key in missing]
    faults += [f"{key}: the function has no such parameter" for key in unknown]
    if faults:
        raise PayloadError("payload_mismatch", "; ".join(faults))


def _validate(validators: Mapping[str, Validator], payload: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    faults: list[str] = []
    for key, value in payload.items():
        try:
            values[key] = validators[key](value) if key in validators else value
        except pydantic.ValidationError as error:
            faults += [_fault(key, each["loc"], each["msg"]) for each in error.errors(include_url=False)]
        except Exception as error:  # pydantic lets through what else a validator of the user's raises
            faults.append(_fault(key, (), f"its validator raised {type(error).__name__}: {error}"))
    if faults:
        raise PayloadError("payload_mismatch", "; ".join(faults))
    return values


def _fault(key: str, location: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(str(part) for part in (key, *location))}: {message}"
