"""Carry a plan out: the one place that creates, updates and deletes cues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cueapi import CueAPIError

from ..declare.binding import STAMP_KEY
from ..declare.schedules import Once, Schedule
from ..declare.spec import CueSpec
from .plan import Action, Change, Plan, pause_stamp

if TYPE_CHECKING:
    from cueapi import CueAPI


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A change that could not be made."""

    change: Change
    error: CueAPIError


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of a plan."""

    done: int
    failures: tuple[Failure, ...]


def apply(plan: Plan, client: CueAPI, on_done: Callable[[Change], None]) -> Report:
    """Make the plan's changes one by one; a change that fails does not hold up the rest."""
    failures: list[Failure] = []
    for change in plan.writes:
        try:
            _make(change, client)
        except CueAPIError as error:
            failures.append(Failure(change=change, error=error))
        else:
            on_done(change)
    return Report(done=len(plan.writes) - len(failures), failures=tuple(failures))


def _make(change: Change, client: CueAPI) -> None:
    match change:
        case Change(action=Action.CREATE, spec=CueSpec() as spec):
            _create(spec, client)
        case Change(action=Action.UPDATE | Action.RESUME, spec=CueSpec()):
            _update(change, client)
        case Change(action=Action.PAUSE, cue=cue) if cue is not None:
            payload = {**cue.payload, STAMP_KEY: pause_stamp(cue).to_json()}
            client.cues.update(cue.id, status="paused", payload=payload)
        case _:
            raise AssertionError(f"a plan does not make the change {change.action}")


def _create(spec: CueSpec, client: CueAPI) -> None:
    fields: dict[str, Any] = {**_schedule(spec.schedule), "payload": spec.wire_payload()}
    fields |= {"retry": _retry(spec), "on_failure": _on_failure(spec)}
    if spec.description:
        fields["description"] = spec.description
    client.cues.create(spec.name, callback=spec.callback, transport=spec.transport, **fields)


def _update(change: Change, client: CueAPI) -> None:
    """Send what differs and no more: an unchanged schedule sent again would make the server compute its run anew."""
    spec, cue = change.spec, change.cue
    assert spec is not None  # an update has both sides
    assert cue is not None
    touched = {name.partition(".")[0] for name in change.fields}
    parts: dict[str, dict[str, Any]] = {
        "name": {"name": spec.name},
        "description": {"description": spec.description},
        "schedule": _schedule(spec.schedule),
        "callback": {
            "callback": spec.callback,
            "callback_method": "POST",
            "callback_headers": cue.callback.headers,
        },
        "payload": {"payload": spec.wire_payload()},
        "retry": {"retry": _retry(spec), "payload": spec.wire_payload()},
        "on_failure": {"on_failure": _on_failure(spec)},
        "verification": {"verification": {"mode": "none"}},
        "status": {"status": "active", "payload": spec.wire_payload()},
    }
    fields: dict[str, Any] = {}
    for part in touched:
        fields |= parts[part]
    client.cues.update(cue.id, **fields)


def _schedule(schedule: Schedule) -> dict[str, Any]:
    if isinstance(schedule, Once):
        return {"at": schedule.at, "timezone": schedule.timezone}
    return {"cron": schedule.cron, "timezone": schedule.timezone}


def _retry(spec: CueSpec) -> dict[str, Any]:
    retry = spec.retry
    return {"max_attempts": retry.max_attempts, "backoff_minutes": list(retry.backoff_minutes)}


def _on_failure(spec: CueSpec) -> dict[str, Any]:
    return {
        "email": spec.on_failure.email,
        "webhook": spec.on_failure.webhook,
        "pause": spec.on_failure.pause,
    }
