"""What a deploy would do, as values: one change a cue, and the plan that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from cueapi import Cue

from ..declare.spec import CueSpec, Owner

VERSION = 1
"""Of the plan's JSON."""


class Action(str, Enum):
    """What a change does to one cue."""

    CREATE = "create"
    UPDATE = "update"
    RENAME = "rename"
    REPLACE = "replace"
    """Its transport changes, which takes a new cue."""
    PAUSE = "pause"
    RESUME = "resume"
    DELETE = "delete"
    ADOPT = "adopt"
    """A cue that somebody else made becomes this app's."""
    CONFLICT = "conflict"
    """The name belongs to a cue that is not ours; nothing is written."""
    KEEP = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something that a person should know before the deploy; `code` is stable."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One cue's change: `spec` is what it should be (None if it left the code), `cue` what it is (None if new)."""

    action: Action
    name: str
    spec: CueSpec | None = None
    cue: Cue | None = None
    fields: Mapping[str, tuple[Any, Any]] = field(default_factory=dict[str, tuple[Any, Any]])
    """What differs, as (from, to) by dotted name."""
    drift: tuple[str, ...] = ()
    """Those of the fields that were edited elsewhere since the last deploy."""
    note: str | None = None
    """Why, where the action alone does not say it."""
    runs_before: tuple[datetime, ...] = ()
    runs_after: tuple[datetime, ...] = ()
    warnings: tuple[Warned, ...] = ()
    history: int | None = None
    """Executions that are deleted with the cue, once they are counted."""
    leftover: bool = False
    """Whether the cue was replaced, and only waits to be deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that a deploy would do."""

    owner: Owner
    changes: tuple[Change, ...]
    foreign: int
    """Cues of the account that are not this app's in this environment."""
    owned: int = 0
    """Cues that are."""
    declared: int = 0
    revision: int | None = None
    """Of the code that is to be deployed."""
    highest: int | None = None
    """The highest revision over all owned cues."""
    raised: Change | None = None
    """The one stamp to write where a higher revision changes nothing else."""
    warnings: tuple[Warned, ...] = ()
    """What concerns the whole."""

    @property
    def changed(self) -> list[Change]:
        """The changes that write something for the declaration's sake."""
        return [change for change in self.changes if change.action not in (Action.KEEP, Action.CONFLICT)]

    @property
    def writes(self) -> list[Change]:
        """The changes that write something."""
        return [*self.changed, *([self.raised] if self.raised else [])]

    @property
    def conflicts(self) -> list[Change]:
        """The changes that cannot be made."""
        return [change for change in self.changes if change.action is Action.CONFLICT]

    @property
    def older(self) -> bool:
        """Whether the code is older than what is deployed."""
        return self.revision is not None and self.highest is not None and self.revision < self.highest

    def count(self, action: Action) -> int:
        """Return how many cues an action concerns."""
        return sum(change.action is action for change in self.changes)

    def of(self, *actions: Action) -> Sequence[Change]:
        """Return the changes of these actions."""
        return [change for change in self.changes if change.action in actions]
