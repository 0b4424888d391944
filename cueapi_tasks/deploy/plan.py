"""Compare what is declared with what is there, and say what a deploy would do; reads nothing, writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Any

from cueapi import Cue

from ..declare.schedules import Once
from ..declare.spec import CueSpec, Owner, Stamp, read_stamp
from . import normal
from .forecast import coming_runs

VERSION = 1
PAUSED_BY_DEPLOY = "deploy"


class Action(str, Enum):
    """What a change does to one cue."""

    CREATE = "create"
    UPDATE = "update"
    RENAME = "rename"
    REPLACE = "replace"
    PAUSE = "pause"
    """Its task left the code."""
    RESUME = "resume"
    """Its task came back."""
    DELETE = "delete"
    ADOPT = "adopt"
    CONFLICT = "conflict"
    """The name belongs to a cue that is not ours; nothing is written."""
    KEEP = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One cue's change: `spec` is what it should be (None if it left the code), `cue` what it is (None if new)."""

    action: Action
    name: str
    spec: CueSpec | None = None
    cue: Cue | None = None
    fields: Mapping[str, tuple[Any, Any]] = field(default_factory=dict[str, tuple[Any, Any]])
    """What differs, as (from, to) by dotted name."""
    runs_before: Sequence[datetime] = ()
    runs_after: Sequence[datetime] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that a deploy would do, one change a cue."""

    owner: Owner
    changes: Sequence[Change]
    foreign: int
    """Cues of the account that are not this app's in this environment."""

    @property
    def writes(self) -> list[Change]:
        """The changes that write something."""
        return [change for change in self.changes if change.action not in (Action.KEEP, Action.CONFLICT)]

    @property
    def conflicts(self) -> list[Change]:
        """The changes that cannot be made."""
        return [change for change in self.changes if change.action is Action.CONFLICT]

    def count(self, action: Action) -> int:
        """Return how many cues an action concerns."""
        return sum(change.action is action for change in self.changes)


def plan(specs: Iterable[CueSpec], cues: Iterable[Cue], *, owner: Owner, now: datetime) -> Plan:
    """Return what makes the account's cues equal to the specs; cues that are not the owner's stay as they are."""
    wanted = {spec.name: (spec, normal.of_spec(spec)) for spec in specs}
    by_name = {cue.name: cue for cue in cues}
    owned = {name: cue for name, cue in by_name.items() if _is_owned(cue, owner)}
    changes = [_change(*each, by_name.get(name), owned=name in owned, now=now) for name, each in wanted.items()]
    changes += [_left(cue, now) for name, cue in owned.items() if name not in wanted]
    return Plan(owner=owner, changes=tuple(changes), foreign=len(by_name) - len(owned))


def pause_stamp(cue: Cue) -> Stamp:
    """Return the stamp of an owned cue with the note that a deploy paused it."""
    stamp = read_stamp(cue.payload)
    assert stamp is not None  # only owned cues are paused
    return replace(stamp, paused_by=PAUSED_BY_DEPLOY)


def _is_owned(cue: Cue, owner: Owner) -> bool:
    """Tell whether a cue carries the owner's stamp under the name that the stamp gives."""
    stamp = read_stamp(cue.payload)
    return stamp is not None and stamp.owner == owner and stamp.cue_name == cue.name


def _change(spec: CueSpec, wanted: normal.Fields, cue: Cue | None, *, owned: bool, now: datetime) -> Change:
    if cue is None:
        return _new(spec, wanted, now)
    if not owned:
        return Change(action=Action.CONFLICT, name=spec.name, spec=spec, cue=cue)
    fields = normal.difference(normal.of_cue(cue), wanted)
    stamp = read_stamp(cue.payload)
    back = cue.status == "paused" and stamp is not None and stamp.paused_by == PAUSED_BY_DEPLOY
    if back:
        fields = {**fields, "status": ("paused", "active")}
    action = Action.RESUME if back else Action.UPDATE if fields else Action.KEEP
    change = Change(action=action, name=spec.name, spec=spec, cue=cue, fields=fields)
    return change if action is Action.KEEP else _with_runs(change, now)


def _new(spec: CueSpec, wanted: normal.Fields, now: datetime) -> Change:
    if isinstance(spec.schedule, Once) and spec.schedule.at <= now:
        return Change(action=Action.KEEP, name=spec.name, spec=spec)  # its moment has passed: nothing to fire
    fields = normal.difference({}, wanted)
    return _with_runs(Change(action=Action.CREATE, name=spec.name, spec=spec, fields=fields), now)


def _left(cue: Cue, now: datetime) -> Change:
    if cue.status != "active":
        return Change(action=Action.KEEP, name=cue.name, cue=cue)
    fields = {"status": ("active", "paused")}
    return _with_runs(Change(action=Action.PAUSE, name=cue.name, cue=cue, fields=fields), now)


def _with_runs(change: Change, now: datetime) -> Change:
    """Add the coming runs before and after; a cue that is not active has none, and stays so unless it is resumed."""
    cue, spec = change.cue, change.spec
    active = cue is not None and cue.status == "active"
    fires = spec is not None and (cue is None or active or change.action is Action.RESUME)
    return replace(
        change,
        runs_before=coming_runs(normal.schedule_of(cue), now) if cue and active else (),
        runs_after=coming_runs(spec.schedule, now) if spec and fires else (),
    )
