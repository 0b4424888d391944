"""Compare what is declared with what is there, and say what a deploy would do; reads nothing, writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from cueapi import Cue

from ..declare.schedules import Once
from ..declare.spec import CueSpec, Owner, read_stamp
from . import normal
from .change import Action, Change, Plan, Warned
from .forecast import with_forecast
from .ownership import BY_DEPLOY, BY_REPLACE, BY_REPLACE_PAUSED, Remote, is_parked, sort_out, stamp_of

ENDED = ("completed", "failed")
REVISION = f"{normal.STAMP}.revision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What a deploy was asked to do beyond making what is declared so."""

    now: datetime
    former: Owner | None = None
    """Whose cues they were before the app was renamed."""
    revision: int | None = None
    prune: bool = False
    """Delete what left the code, where it would only be paused."""
    adopt: bool = False
    """Take over foreign cues that have a wanted name, or a name that is adopted."""


def plan(specs: Iterable[CueSpec], cues: Iterable[Cue], *, owner: Owner, intent: Intent) -> Plan:
    """Return what makes the account's cues equal to the specs; cues that are not the owner's stay as they are."""
    wanted = {spec.name: spec for spec in specs}
    remote = sort_out(cues, {owner, intent.former or owner})
    matcher = _Matcher(remote, wanted, intent)
    changes = [matcher.change(spec) for spec in wanted.values()]
    used = {change.cue.id for change in changes if change.cue}
    changes += _left(remote, used, wanted, intent)
    revisions = [stamp.revision for stamp in remote.stamps if stamp.revision is not None]
    made = Plan(
        owner=owner,
        changes=tuple(with_forecast(change, intent.now) for change in changes),
        foreign=remote.foreign,
        owned=len(remote.owned),
        declared=len(wanted),
        revision=intent.revision,
        highest=max(revisions, default=None),
    )
    return replace(made, raised=_raised(made), warnings=tuple(_warnings(made)))


class _Matcher:
    """Finds the cue of each spec, and says what has to be done with it."""

    def __init__(self, remote: Remote, wanted: Mapping[str, CueSpec], intent: Intent) -> None:
        self._remote = remote
        self._wanted = wanted
        self._intent = intent

    def change(self, spec: CueSpec) -> Change:
        """Return the change of one spec."""
        fields = normal.of_spec(spec)
        owned = self._owned(spec)
        if owned is not None:
            return _existing(spec, fields, owned, self._intent.now)
        foreign = self._in_the_way(spec) or self._adoptable(spec)
        if foreign is not None:
            return self._foreign(spec, fields, foreign)
        return _new(spec, fields, self._intent.now)

    def _owned(self, spec: CueSpec) -> Cue | None:
        """Return our cue for a spec: in its place, or under a former name, or parked by a replace that was cut off."""
        if spec.name in self._remote.owned:
            return self._remote.owned[spec.name]
        if spec.name in self._remote.by_name:
            return None
        former = [name for name in spec.former_names if name in self._remote.owned and name not in self._wanted]
        if former:
            return self._remote.owned[former[0]]
        return next(iter(self._remote.parked.get(spec.name, ())), None)

    def _in_the_way(self, spec: CueSpec) -> Cue | None:
        """Return the cue that has the wanted name, unless it is ours and goes back to its own."""
        cue = self._remote.by_name.get(spec.name)
        goes = cue is not None and self._remote.is_owned(cue) and stamp_of(cue).cue_name in self._wanted
        return None if goes else cue

    def _adoptable(self, spec: CueSpec) -> Cue | None:
        cue = self._remote.by_name.get(spec.adopts or "")
        return None if cue is None or self._remote.is_owned(cue) or cue.name in self._wanted else cue

    def _foreign(self, spec: CueSpec, fields: normal.Fields, cue: Cue) -> Change:
        conflict = Change(action=Action.CONFLICT, name=spec.name, spec=spec, cue=cue)
        if cue.transport != spec.transport:
            return replace(
                conflict,
                note=f"the cue {cue.name} is not this app's, and its transport, {cue.transport}, cannot be changed",
            )
        if not self._intent.adopt:
            return replace(
                conflict,
                note=f"the cue {cue.name} was not made by this app; rename one of the two, or take it over: --adopt",
            )
        return Change(
            action=Action.ADOPT,
            name=spec.name,
            spec=spec,
            cue=cue,
            fields=_status(spec, cue, normal.difference(normal.of_cue(cue), fields)),
        )


def _existing(spec: CueSpec, wanted: normal.Fields, cue: Cue, now: datetime) -> Change:
    kept = Change(action=Action.KEEP, name=spec.name, spec=spec, cue=cue)
    if _has_passed(spec, now):
        return _passed(kept, cue, now)
    actual = normal.of_cue(cue)
    fields = _status(spec, cue, normal.difference(actual, wanted))
    if not fields:
        return kept
    return replace(kept, action=_action(fields), fields=fields, drift=_drift(cue, fields, actual))


def _passed(kept: Change, cue: Cue, now: datetime) -> Change:
    """Keep what had one moment that is over; but a cue that would still fire, at another moment, is paused."""
    if cue.status != "active" or cue.next_run is None or cue.next_run <= now:
        return kept
    return replace(
        kept,
        action=Action.PAUSE,
        fields={"status": ("active", "paused")},
        note="the declared moment has passed, and the cue would fire at another one",
    )


def _status(spec: CueSpec, cue: Cue, fields: dict[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """Add the status where it is not left to people: declared, set by a deploy, or ended with a new moment to come."""
    stamp = read_stamp(cue.payload)
    paused_by = stamp.paused_by if stamp else None
    wanted = _wanted_status(spec, cue, paused_by, moved=any(name.startswith("schedule.") for name in fields))
    if wanted != cue.status:
        return {**fields, "status": (cue.status, wanted)}
    if paused_by is not None and cue.status != "paused":
        return {**fields, f"{normal.STAMP}.paused_by": (paused_by, None)}
    return fields


def _wanted_status(spec: CueSpec, cue: Cue, paused_by: str | None, *, moved: bool) -> str:
    if cue.status in ENDED and moved:
        return "paused" if spec.paused else "active"
    if cue.status in ENDED:
        return cue.status
    if spec.paused is not None:
        return "paused" if spec.paused else "active"
    if paused_by == BY_REPLACE_PAUSED:  # it may be the new cue, made and not paused yet
        return "paused"
    return "active" if paused_by in (BY_DEPLOY, BY_REPLACE) else cue.status


def _action(fields: Mapping[str, tuple[Any, Any]]) -> Action:
    if "transport" in fields:
        return Action.REPLACE
    if "name" in fields:
        return Action.RENAME
    return {"active": Action.RESUME, "paused": Action.PAUSE}.get(fields.get("status", ("", ""))[1], Action.UPDATE)


def _drift(cue: Cue, fields: Mapping[str, Any], actual: normal.Fields) -> tuple[str, ...]:
    """Return the differing fields that somebody changed since the last deploy, by its own record in the stamp."""
    stamp = stamp_of(cue)
    edited = normal.edited(stamp, actual)
    drifted = [name for name in fields if normal.part_of(name) in edited and not name.startswith(normal.STAMP)]
    by_hand = cue.name != stamp.cue_name and "name" in fields and not is_parked(cue, stamp)
    return (*(["name"] if by_hand else []), *drifted)


def _new(spec: CueSpec, wanted: normal.Fields, now: datetime) -> Change:
    if _has_passed(spec, now):
        return Change(action=Action.KEEP, name=spec.name, spec=spec)  # its moment has passed: nothing to fire
    fields = normal.difference({}, wanted)
    if spec.paused:
        fields["status"] = (None, "paused")
    return Change(action=Action.CREATE, name=spec.name, spec=spec, fields=fields)


def _has_passed(spec: CueSpec, now: datetime) -> bool:
    return isinstance(spec.schedule, Once) and spec.schedule.at <= now


def _left(remote: Remote, used: set[str], wanted: Mapping[str, CueSpec], intent: Intent) -> Iterator[Change]:
    """Yield what becomes of our cues that no spec is for."""
    for name, parked in remote.parked.items():
        replaced = name in wanted and name in remote.owned
        for cue in (cue for cue in parked if cue.id not in used):
            action = Action.DELETE if replaced or intent.prune else Action.KEEP
            note = "it has been replaced" if replaced else None
            yield Change(action=action, name=cue.name, cue=cue, note=note, leftover=replaced)
    for cue in (cue for cue in remote.owned.values() if cue.id not in used):
        yield _removed(cue, prune=intent.prune)


def _removed(cue: Cue, *, prune: bool) -> Change:
    gone = Change(action=Action.KEEP, name=cue.name, cue=cue, note="it left the code")
    if prune:
        return replace(gone, action=Action.DELETE, note=None)
    if cue.status != "active" or stamp_of(cue).paused_by == BY_DEPLOY:  # a person resumed what a deploy had paused
        return gone
    return replace(gone, action=Action.PAUSE, fields={"status": ("active", "paused")})


def _raised(made: Plan) -> Change | None:
    """Return the stamp to raise, so that the next deploy of older code is seen as one."""
    stamps_it = any(change.action is not Action.DELETE for change in made.changed)
    if made.revision is None or made.revision <= (made.highest or 0) or stamps_it:
        return None
    kept = next((change for change in made.of(Action.KEEP) if _can_carry(change)), None)
    if kept is None or kept.cue is None:
        return None
    fields = {REVISION: (stamp_of(kept.cue).revision, made.revision)}
    return replace(kept, action=Action.UPDATE, fields=fields)


def _can_carry(kept: Change) -> bool:
    return kept.spec is not None and kept.cue is not None and kept.cue.status not in ENDED


def _warnings(made: Plan) -> Iterator[Warned]:
    if made.older:
        yield Warned(
            code="older_revision",
            message=f"this code is revision {made.revision}, older than the deployed {made.highest}: a rollback?",
        )
    for change in made.of(Action.CREATE):
        adopts = change.spec and change.spec.adopts
        if adopts is not None:
            message = f"no cue is called {adopts!r}: {change.name} is a new one, beside whatever ran before"
            yield Warned(code="nothing_to_adopt", message=message)
