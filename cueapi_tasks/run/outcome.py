"""What became of a run, as a value: what is answered, and what is reported within the server's limits; pure."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, cast

import pydantic_core

from ..declare.context import Done
from ..errors import PayloadError, RunError

MAX_TEXT: Mapping[str, int] = {"result": 2000, "error": 2000, "summary": 500}
"""Characters after which text is cut (contract, section 4)."""
MAX_IDENTIFIER: Mapping[str, int] = {
    "external_id": 255,
    "result_ref": 255,
    "result_type": 50,
    "result_url": 2083,
}
"""Characters over which a value is left out, since a cut one would name something else (contract, section 4)."""
MAX_JSON: Mapping[str, int] = {"metadata": 10_240, "artifacts": 900_000}
"""Bytes as ASCII JSON over which a value is left out; a whole request may have 1,048,576 (contract, section 4)."""

KINDS: Mapping[str, type] = {"metadata": dict, "artifacts": list}

DISCLOSURES = ("message", "type")
"""How much of an error may leave the process."""

logger = logging.getLogger("cueapi_tasks.run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is reported: success or not, and the evidence in the API's own field names."""

    success: bool
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one attempt ended: the HTTP answer it earns and the outcome it would be."""

    status: int
    reason: str
    final: bool
    """Whether another attempt could not change it."""
    outcome: Outcome
    cause: BaseException | None = None
    """The error of a failure."""

    @property
    def unfit(self) -> bool:
        """Whether this code cannot run it at all: its task is not known, or the payload does not fit."""
        return self.status in (404, 422) and not self.final


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosure:
    """How much of an error leaves the process."""

    errors: str = "message"
    """`message`: type and message; `type`: the type alone."""
    hidden: Callable[[], Iterable[str]] = tuple
    """The keys and secrets that no message may carry."""

    def tell(self, error: BaseException) -> str:
        """Return the text of an error as the API gets it; a `RunError`'s is ours, and says nothing of the user's."""
        if self.errors == "type" and not isinstance(error, RunError):
            return type(error).__name__
        return _scrubbed(_clean(describe(error)), self.hidden())


def succeeded(value: Any) -> Result:
    """Return the result of a function that returned `value`."""
    return _COMPLETED if value is None else _completed(_within_limits(_evidence(value)))


def skipped(policy: str) -> Result:
    """Return the result of a run that a policy left out."""
    outcome = Outcome(success=True, evidence={"metadata": {"skipped": policy}})
    return Result(status=200, reason="skipped", final=True, outcome=outcome)


def failed(
    error: str,
    *,
    cause: BaseException | None = None,
    status: int = 500,
    reason: str = "raised",
    final: bool = False,
) -> Result:
    """Return the result of a run that failed for the reason given."""
    evidence = _within_limits({"error": error})
    outcome = Outcome(success=False, evidence=evidence)
    return Result(status=status, reason=reason, final=final, outcome=outcome, cause=cause)


def describe(error: BaseException) -> str:
    """Return an exception's type and message, which is all that leaves the process; one of ours is its message."""
    if isinstance(error, RunError | PayloadError):
        return str(error)
    try:
        text = str(error)
    except Exception:  # the user's own code, which may fail too
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _scrubbed(text: str, hidden: Iterable[str]) -> str:
    """Return the text without secrets, the longest first: one may be the beginning of another."""
    for secret in sorted(filter(None, hidden), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _completed(evidence: Mapping[str, Any]) -> Result:
    return Result(status=200, reason="completed", final=True, outcome=Outcome(success=True, evidence=evidence))


_COMPLETED = _completed({})


def _evidence(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"result": value}
    if isinstance(value, Done):
        given = {each.name: getattr(value, each.name) for each in fields(Done)}  # a subclass may have more
        return {name: each for name, each in given.items() if each is not None}
    return {"metadata": {"result": value}}


def _within_limits(evidence: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: _limited(name, value) for name, value in evidence.items()}
    return {name: value for name, value in kept.items() if value is not None}


def _limited(name: str, value: Any) -> Any:
    """Return a value as it is sent, or None for one that is left out."""
    try:
        return _sent(name, value)
    except Exception as error:  # values say by code of the user's what they are
        logger.warning("the outcome's %s is not JSON and was left out: %s", name, describe(error))
        return None


def _sent(name: str, value: Any) -> Any:
    if name in MAX_TEXT:
        return _clean(_text(value))[: MAX_TEXT[name]]
    if name in MAX_IDENTIFIER:
        return _identifier(name, _clean(_text(value)))
    return _plain(name, value)


def _identifier(name: str, text: str) -> str | None:
    if name == "result_url" and not text.startswith(("http://", "https://")):
        logger.warning("the outcome's result_url does not begin with https:// and was left out")
        return None
    if len(text) <= MAX_IDENTIFIER[name]:
        return text
    logger.warning("the outcome's %s is over %d characters and was left out", name, MAX_IDENTIFIER[name])
    return None


def _plain(name: str, value: Any) -> Any:
    """Return a value as JSON has it, models and dataclasses included."""
    plain = _cleaned(pydantic_core.to_jsonable_python(value))
    if not isinstance(plain, KINDS[name]):
        logger.warning("the outcome's %s is no %s and was left out", name, KINDS[name].__name__)
        return None
    if len(json.dumps(plain, allow_nan=False)) > MAX_JSON[name]:
        logger.warning("the outcome's %s is over %d bytes of JSON and was left out", name, MAX_JSON[name])
        return None
    return plain


def _cleaned(value: Any) -> Any:
    """Return JSON with each text in it cleaned."""
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, list):
        return [_cleaned(each) for each in cast("Sequence[Any]", value)]
    if isinstance(value, dict):
        return {_clean(key): _cleaned(each) for key, each in cast("Mapping[str, Any]", value).items()}
    return value


def _text(value: Any) -> str:
    """Return a value as text; what is one already, a member of an enumeration of texts say, is what it is worth."""
    return str.__str__(value) if isinstance(value, str) else str(value)


def _clean(text: str) -> str:
    """Return text without what the server's database cannot hold: NUL and lone surrogates."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
