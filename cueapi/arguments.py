"""Arguments checked before a byte is sent, where the server would answer with a 500 or a misleading code; pure.

The limits are the server's (contract, sections 4 and 14).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from croniter import CroniterBadDateError, CroniterError, croniter

from .exceptions import InvalidArgumentError

METHODS = ("POST", "GET", "PUT", "PATCH")
MAX_NAME = 255
MAX_CRON = 100
MAX_ZONE = 50
MAX_IDENTIFIER: Mapping[str, int] = {"external_id": 255, "result_ref": 255, "result_type": 50}

_ANY_DAY = datetime(2024, 1, 1, tzinfo=timezone.utc)


def check_name(name: str | None) -> None:
    """Refuse a name that cannot be stored."""
    if name is None:
        return
    if len(name) > MAX_NAME:
        raise _bad("name", f"is over {MAX_NAME} characters")
    _check_text("name", name)


def check_schedule(cron: str | None, zone: str | None) -> None:
    """Refuse an expression that is too long or never fires, and a zone that cannot be stored."""
    if zone is not None and not 0 < len(zone) <= MAX_ZONE:
        raise _bad("timezone", f"must have 1 to {MAX_ZONE} characters")
    if cron is None:
        return
    if len(cron) > MAX_CRON:
        raise _bad("cron", f"is over {MAX_CRON} characters")
    try:
        croniter(cron, _ANY_DAY).get_next(datetime)
    except CroniterBadDateError as error:
        raise _bad("cron", f"{cron!r} never matches any date") from error
    except CroniterError:
        return  # the server refuses it with a message of its own


def check_method(method: str | None) -> None:
    """Refuse a callback method that the server would call a duplicate name (contract, Q9)."""
    if method is not None and method not in METHODS:
        raise _bad("callback_method", f"must be one of {', '.join(METHODS)}, in capitals")


def check_json(field: str, value: Any) -> None:
    """Refuse what JSON cannot say: NaN, infinity, half a character, a value that holds itself."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise _bad(field, f"is not JSON: {error}") from error


def check_retry(retry: Mapping[str, Any] | None) -> None:
    """Refuse an empty backoff, which stops the open-source server's poller (contract, Q23)."""
    if retry is not None and retry.get("backoff_minutes") == []:
        raise _bad("retry", "backoff_minutes must not be empty")


def check_moment(field: str, moment: datetime | None) -> None:
    """Refuse a moment without a UTC offset."""
    if moment is not None and moment.tzinfo is None:
        raise _bad(field, "needs a UTC offset, as datetime.now(timezone.utc) has")


def check_execution_id(execution_id: str) -> str:
    """Return the id, or refuse what is no UUID."""
    try:
        uuid.UUID(execution_id)
    except (ValueError, AttributeError, TypeError) as error:
        raise _bad("execution_id", f"{execution_id!r} is not a UUID") from error
    return execution_id


def check_id(field: str, value: str) -> str:
    """Return an id that goes into a path, or refuse one that would name another path."""
    if not value or not value.isascii() or not value.isprintable() or set(value) & set("/?#% "):
        raise _bad(field, f"{value!r} is not an id")
    return value


def check_page(limit: int, offset: int) -> None:
    """Refuse a page that the server would not give."""
    if not 1 <= limit <= 100:
        raise _bad("limit", "must be 1 to 100")
    if not 0 <= offset < 2**63:
        raise _bad("offset", "must not be negative, nor over 63 bits")


def check_evidence(evidence: Mapping[str, Any]) -> None:
    """Refuse identifiers that are longer than the server's columns, and values that JSON cannot say."""
    for field, most in MAX_IDENTIFIER.items():
        if len(evidence.get(field) or "") > most:
            raise _bad(field, f"is over {most} characters")
    check_json("outcome", dict(evidence))


def check_worker_id(worker_id: str) -> str:
    """Return the worker's id, or refuse one that the server would not take."""
    if not 1 <= len(worker_id) <= MAX_NAME:
        raise _bad("worker_id", f"must have 1 to {MAX_NAME} characters")
    if not worker_id.isascii() or not worker_id.isprintable():
        raise _bad("worker_id", "must be ASCII: it goes into a header")
    return worker_id


def check_handlers(handlers: Sequence[str] | None) -> None:
    """Refuse a text in place of a list of texts."""
    if isinstance(handlers, str):
        raise _bad("handlers", "is a list of names, not one name")


def _check_text(field: str, text: str) -> None:
    if "\0" in text:
        raise _bad(field, "holds a NUL character")
    check_json(field, text)


def _bad(field: str, what: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{field} {what}", field=field)
