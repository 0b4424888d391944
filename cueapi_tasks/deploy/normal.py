"""Wanted and actual cues in one normal form, field by field, so that equal means equal on the server; pure."""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import pydantic

from cueapi import Cue

from ..declare.binding import STAMP_KEY, TASK_KEY
from ..declare.schedules import Once, Recurring, Schedule
from ..declare.spec import CueSpec, OnFailure, Stamp, read_stamp
from ..errors import DeployError

Fields = Mapping[str, Any]
"""Values by dotted name, as `schedule.cron`; the part before the first dot is what a PATCH sends whole."""

PARTS = ("description", "schedule", "callback", "payload", "retry", "on_failure", "verification")
"""The parts of a cue that code declares, in the order of the stamp's digests."""
HEADERS = "callback.headers"
"""Left to people, and not compared, unless the code declares it."""
STAMP = f"payload.{STAMP_KEY}"
COMPARED_IN_STAMP = ("v", "app", "env", "task", "schedule", "max_attempts")
"""Parts of the stamp whose difference is a reason to write."""

_URL: pydantic.TypeAdapter[pydantic.HttpUrl] = pydantic.TypeAdapter(pydantic.HttpUrl)


def of_spec(spec: CueSpec) -> Fields:
    """Return the wanted fields."""
    fields: dict[str, Any] = {
        "name": spec.name,
        "description": spec.description,
        "transport": spec.transport,
        "retry.max_attempts": spec.retry.max_attempts,
        "retry.backoff_minutes": list(spec.retry.backoff_minutes),
        "on_failure.email": spec.on_failure.email,
        "on_failure.webhook": spec.on_failure.webhook,
        "on_failure.pause": spec.on_failure.pause,
        "verification.mode": spec.verification,
    }
    if spec.transport == "webhook":
        fields |= {"callback.url": normal_url(spec.callback), "callback.method": "POST"}
    if spec.transport == "webhook" and spec.callback_headers is not None:
        fields[HEADERS] = dict(spec.callback_headers)
    return fields | _schedule(spec.schedule) | _payload(spec.wire_payload(), spec.stamp)


def of_cue(cue: Cue) -> Fields:
    """Return a cue's actual fields."""
    on_failure = cue.on_failure or OnFailure()
    fields: dict[str, Any] = {
        "name": cue.name,
        "description": cue.description or "",
        "transport": cue.transport,
        "retry.max_attempts": cue.retry.max_attempts,
        "retry.backoff_minutes": list(cue.retry.backoff_minutes),
        "on_failure.email": on_failure.email,
        "on_failure.webhook": on_failure.webhook,
        "on_failure.pause": on_failure.pause,
        "verification.mode": (cue.verification or {}).get("mode", "none"),
    }
    if cue.transport == "webhook":
        fields |= {"callback.url": cue.callback.url, "callback.method": cue.callback.method}
        fields[HEADERS] = cue.callback.headers
    return fields | _schedule(schedule_of(cue)) | _payload(cue.payload, read_stamp(cue.payload))


def difference(actual: Fields, wanted: Fields) -> dict[str, tuple[Any, Any]]:
    """Return what differs, as (actual, wanted) by name; an absent field counts as None."""
    names = [*wanted, *(name for name in actual if name not in wanted and name != HEADERS)]
    pairs = {name: (actual.get(name), wanted.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def digests(fields: Fields) -> str:
    """Return a short checksum of each part that code declares, the stamp left out."""
    return ".".join(_digest(fields, part) for part in PARTS)


def edited(stamp: Stamp, actual: Fields) -> Sequence[str]:
    """Return the parts of a cue that are no longer as the deploy that wrote its stamp left them."""
    left = dict(zip(PARTS, (stamp.digests or "").split("."), strict=False)) if stamp.digests else {}
    plain = {name: value for name, value in actual.items() if name != HEADERS}  # as it was, had no code declared any
    return [part for part in left if left[part] not in (_digest(actual, part), _digest(plain, part))]


def schedule_of(cue: Cue) -> Schedule:
    """Return a cue's schedule as a value; it need not be one that could be declared."""
    if cue.schedule.type == "once" and cue.schedule.at is not None:
        moment = cue.schedule.at
        aware = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        return Once(at=aware, timezone=cue.schedule.timezone)
    return Recurring(cron=cue.schedule.cron or "", timezone=cue.schedule.timezone)


@functools.lru_cache(maxsize=256)
def normal_url(url: str | None) -> str:
    """Return a callback URL as the server keeps it (contract, Q2), or raise if there is none to call."""
    if not url:
        raise DeployError(
            "no_callback",
            "no callback URL: set CUEAPI_CALLBACK_URL (or CueTasks(callback=...)) to the URL at which your receiver "
            "is reachable, its path included, as in https://example.com/cueapi",
        )
    try:
        return str(_URL.validate_python(url))
    except pydantic.ValidationError as error:
        raise DeployError("bad_callback", f"the callback {url!r} is not an http(s) URL") from error


def part_of(name: str) -> str:
    """Return the part of a cue that a field belongs to: `schedule` for `schedule.cron`."""
    return name.partition(".")[0]


def _digest(fields: Fields, part: str) -> str:
    values = {name: value for name, value in fields.items() if part_of(name) == part and not name.startswith(STAMP)}
    return f"{zlib.crc32(json.dumps(values, sort_keys=True).encode()):08x}"


def _schedule(schedule: Schedule) -> dict[str, Any]:
    if isinstance(schedule, Once):
        at: datetime = schedule.at.astimezone(timezone.utc)
        return {
            "schedule.type": "once",
            "schedule.at": at.isoformat().replace("+00:00", "Z"),
            "schedule.timezone": schedule.timezone,
        }
    return {
        "schedule.type": "recurring",
        "schedule.cron": schedule.cron,
        "schedule.timezone": schedule.timezone,
    }


def _payload(payload: Mapping[str, Any], stamp: Stamp | None) -> dict[str, Any]:
    own = {f"payload.{key}": value for key, value in payload.items() if key not in (TASK_KEY, STAMP_KEY)}
    marks = stamp.to_json() if stamp else {}
    kept = {f"{STAMP}.{key}": marks[key] for key in COMPARED_IN_STAMP if key in marks}
    return {**own, f"payload.{TASK_KEY}": payload.get(TASK_KEY), **kept}
