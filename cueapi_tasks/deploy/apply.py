"""Carry a plan out: the one place that creates, updates and deletes cues.

Each write to a cue that exists follows a read of it: one that is not as it was planned is left alone. Cut off at any
point, the next plan does what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

from cueapi import Cue, CueAPIError, CueNotFoundError, DuplicateCueNameError

from ..declare.binding import STAMP_KEY
from ..declare.schedules import Once, Schedule
from ..declare.spec import CueSpec, Stamp, read_stamp
from ..errors import DeployError
from . import normal
from .change import Action, Change, Plan
from .ownership import BY_DEPLOY, BY_REPLACE, BY_REPLACE_PAUSED, is_parked, is_paused_by_a_person, parked_name, stamp_of
from .pace import Pace
from .saved import fingerprint

DUE_SECONDS = 10.0
"""A run that is due so soon is waited for before its schedule changes: the change would drop it."""
WAIT_SECONDS = 20.0
"""The longest that it is waited for."""
LOOK_SECONDS = 1.0
IN_FLIGHT = ("pending", "delivering", "retrying", "retry_ready")

EDITS = (Action.UPDATE, Action.RENAME, Action.RESUME, Action.PAUSE, Action.ADOPT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A change that could not be made."""

    change: Change
    error: CueAPIError | DeployError


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of a plan."""

    done: int
    failures: tuple[Failure, ...]


def apply(plan: Plan, pace: Pace, on_done: Callable[[Change], None], *, deletes_first: bool = False) -> Report:
    """Make the plan's changes; one that fails does not hold up the rest.

    `deletes_first` makes room where the account holds as many cues as its plan allows.
    """
    step = partial(_attempt, pace=pace, revision=plan.revision, on_done=on_done)
    failures: list[Failure] = []
    for phase in _phases(plan, deletes_first=deletes_first):
        failures += [failure for failure in _each(step, phase, pace.workers) if failure]
    return Report(done=len(plan.writes) - len(failures), failures=tuple(failures))


def _phases(plan: Plan, *, deletes_first: bool) -> Iterable[list[Change]]:
    """Return the changes in steps: names are free before they are taken, and nothing is deleted before it must."""
    phases = [
        [change for change in plan.writes if change.action in EDITS],
        [change for change in plan.writes if change.action is Action.CREATE],
        [change for change in plan.writes if change.action is Action.REPLACE],
    ]
    deletes = [change for change in plan.writes if change.action is Action.DELETE]
    return [deletes, *phases] if deletes_first else [*phases, deletes]


def _each(step: Callable[[Change], Failure | None], changes: list[Change], workers: int) -> Iterator[Failure | None]:
    if workers == 1 or len(changes) < 2:
        yield from map(step, changes)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="cueapi-tasks-deploy") as pool:
        try:
            yield from pool.map(step, changes)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what is not begun is left for the next deploy
            raise


def _attempt(change: Change, *, pace: Pace, revision: int | None, on_done: Callable[[Change], None]) -> Failure | None:
    try:
        _Step(change, pace, revision).make()
    except (CueAPIError, DeployError) as error:
        return Failure(change=change, error=error)
    on_done(change)
    return None


class _Step:
    """One change on its way."""

    def __init__(self, change: Change, pace: Pace, revision: int | None) -> None:
        self._change = change
        self._pace = pace
        self._cues = pace.client.cues
        self._revision = revision

    def make(self) -> None:
        """Make the change, or raise."""
        match self._change:
            case Change(action=Action.CREATE, spec=CueSpec() as spec):
                self._create(spec, paused_by=BY_DEPLOY if spec.paused else None)
            case Change(action=Action.REPLACE, spec=CueSpec() as spec):
                self._replace(spec, self._settled())
            case Change(action=Action.DELETE):
                self._delete()
            case Change(action=Action.PAUSE, spec=None):
                self._pause(self._fresh())
            case Change(spec=CueSpec() as spec):
                moves = any(name.startswith("schedule.") for name in self._change.fields)
                self._update(spec, self._settled() if moves else self._fresh())
            case _:
                raise AssertionError(f"a plan does not make the change {self._change.action}")

    def _get(self, cue_id: str) -> Cue:
        with self._pace.turn():
            return self._cues.get(cue_id, execution_limit=1)

    def _patch(self, cue: Cue, **fields: Any) -> Cue:
        with self._pace.turn():
            return self._cues.update(cue.id, **fields)

    def _fresh(self) -> Cue:
        """Return the cue as it is now, or raise if it is not what was planned for."""
        planned = self._change.cue
        assert planned is not None
        cue = self._get(planned.id)
        if fingerprint(cue) != fingerprint(planned):
            raise _moved(cue)
        return cue

    def _settled(self) -> Cue:
        """Return the cue once no run of it is due within seconds."""
        cue = self._fresh()
        due, waited = cue.next_run, 0.0
        while cue.status == "active" and due and cue.next_run == due and waited < WAIT_SECONDS:
            if due - self._pace.now() > timedelta(seconds=DUE_SECONDS):
                break
            self._pace.wait(LOOK_SECONDS, f"the run of {cue.name} that is due now")
            waited += LOOK_SECONDS
            cue = self._fresh()
        return cue

    def _create(self, spec: CueSpec, *, paused_by: str | None) -> Cue:
        stamp = self._stamp(spec, paused_by=paused_by)
        fields: dict[str, Any] = {**_schedule(spec.schedule), "payload": spec.wire_payload(stamp)}
        fields |= {"retry": _retry(spec), "on_failure": _on_failure(spec)}
        if spec.description:
            fields["description"] = spec.description
        if spec.callback_headers and spec.transport == "webhook":
            fields["callback_headers"] = spec.callback_headers
        if spec.verification != "none":
            fields["verification"] = {"mode": spec.verification}
        try:
            with self._pace.turn():
                made = self._cues.create(spec.name, callback=spec.callback, transport=spec.transport, **fields)
        except DuplicateCueNameError as error:
            raise self._taken(spec.name, error) from error
        if paused_by == BY_REPLACE_PAUSED:
            return self._patch(made, status="paused", payload=spec.wire_payload(replace(stamp, paused_by=None)))
        return self._patch(made, status="paused") if paused_by else made

    def _taken(self, name: str, error: CueAPIError) -> CueAPIError | DeployError:
        """Return the error for a name that somebody took since the plan was made, with who it was."""
        with self._pace.turn():
            cue = next((cue for cue in self._cues.list(limit=100).cues if cue.name == name), None)
        return error if cue is None else _moved(cue)

    def _update(self, spec: CueSpec, cue: Cue) -> None:
        """Send what differs and no more: an unchanged schedule would make the server compute its next run anew."""
        status = self._change.fields.get("status", (None, cue.status))[1]
        stamp = self._stamp(spec, paused_by=self._paused_by(cue) if status == "paused" else None)
        sent: dict[str, Any] = {"payload": spec.wire_payload(stamp)}
        for part in {normal.part_of(name) for name in self._change.fields}:
            sent |= _part(part, spec, cue, status)
        self._patch(cue, **sent)

    def _paused_by(self, cue: Cue) -> str | None:
        """Return what the stamp of a cue that ends paused says: a deploy did it, now or before, or else a person."""
        stamp, spec = read_stamp(cue.payload), self._change.spec
        before = stamp.paused_by if stamp and self._change.action is not Action.ADOPT else None
        declared = spec is not None and spec.paused
        by_deploy = "status" in self._change.fields and (declared or before != BY_REPLACE_PAUSED)
        return BY_DEPLOY if by_deploy or before == BY_DEPLOY else None

    def _pause(self, cue: Cue) -> None:
        stamp = self._revised(replace(stamp_of(cue), paused_by=BY_DEPLOY))
        self._patch(cue, status="paused", payload={**cue.payload, STAMP_KEY: stamp.to_json()})

    def _delete(self) -> None:
        try:
            cue = self._fresh()
        except CueNotFoundError:
            return
        if not self._change.leftover or not self._is_in_flight(cue):
            self._remove(cue)

    def _replace(self, spec: CueSpec, old: Cue) -> None:
        """Park the old cue, make the new one and verify it, and delete the old one once nothing of it is in flight."""
        parked = old if is_parked(old, stamp_of(old)) else self._park(old)
        by_person = BY_REPLACE_PAUSED if spec.paused is None and is_paused_by_a_person(parked) else None
        try:
            made = self._create(spec, paused_by=BY_DEPLOY if spec.paused else by_person)
        except (CueAPIError, DeployError):
            self._unpark(parked)
            raise
        if normal.difference(normal.of_cue(self._get(made.id)), normal.of_spec(spec)):
            raise DeployError("not_verified", "the new cue is not what is declared; the old one is kept, parked")
        if not self._is_in_flight(parked):
            self._remove(parked)

    def _park(self, cue: Cue) -> Cue:
        by = BY_REPLACE_PAUSED if is_paused_by_a_person(cue) else BY_REPLACE
        stamp = replace(stamp_of(cue), paused_by=by)
        payload = {**cue.payload, STAMP_KEY: stamp.to_json()}
        return self._patch(cue, name=parked_name(cue), status="paused", payload=payload)

    def _unpark(self, cue: Cue) -> None:
        """Put a parked cue back, whichever deploy parked it; one whose moment has passed must not fire again."""
        stamp, when = stamp_of(cue), normal.schedule_of(cue)
        over = isinstance(when, Once) and when.at <= self._pace.now()
        by_person = is_paused_by_a_person(cue)
        stamp = replace(stamp, paused_by=BY_DEPLOY if over and not by_person else None)
        status = "paused" if over or by_person else "active"
        self._patch(cue, name=stamp.cue_name, status=status, payload={**cue.payload, STAMP_KEY: stamp.to_json()})

    def _remove(self, cue: Cue) -> None:
        with self._pace.turn():
            self._cues.delete(cue.id)

    def _is_in_flight(self, cue: Cue) -> bool:
        with self._pace.turn():
            lists = (self._pace.client.executions.list(cue_id=cue.id, status=status, limit=1) for status in IN_FLIGHT)
            return any(found.executions for found in lists)

    def _stamp(self, spec: CueSpec, *, paused_by: str | None) -> Stamp:
        digests = normal.digests(normal.of_spec(spec))
        return self._revised(replace(spec.stamp, paused_by=paused_by, digests=digests))

    def _revised(self, stamp: Stamp) -> Stamp:
        return stamp if self._revision is None else replace(stamp, revision=self._revision)


def _moved(cue: Cue) -> DeployError:
    stamp = read_stamp(cue.payload)
    by = f" by a deploy of revision {stamp.revision}" if stamp and stamp.revision is not None else ""
    return DeployError("changed_meanwhile", f"the cue {cue.name} has changed since the plan was made{by}; deploy again")


def _part(part: str, spec: CueSpec, cue: Cue, status: str | None) -> dict[str, Any]:
    """Return what is sent for one part of a cue, whole: the server fills a missing key with its default."""
    headers = cue.callback.headers if spec.callback_headers is None else spec.callback_headers
    parts: dict[str, dict[str, Any]] = {
        "name": {"name": spec.name},
        "description": {"description": spec.description},
        "schedule": _schedule(spec.schedule),
        "callback": {"callback": spec.callback, "callback_method": "POST", "callback_headers": headers},
        "retry": {"retry": _retry(spec)},
        "on_failure": {"on_failure": _on_failure(spec)},
        "verification": {"verification": {"mode": spec.verification}},
        "status": {"status": status},
    }
    return parts.get(part, {})


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
