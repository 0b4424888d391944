"""The wanted state of one cue as a value: its name, its stamp of ownership, and what it should be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from ..errors import DeclarationError
from .binding import STAMP_KEY, TASK_KEY
from .policy import Policy
from .schedules import Schedule

MAX_NAME = 255
"""Characters of a cue's name that the server stores (contract, section 4)."""
STAMP_VERSION = 1
DEFAULT_MAX_ATTEMPTS = 3
DEFAULT_BACKOFF_MINUTES = (1, 5, 15)

_TEXTS, _TEXT = ("app", "env", "task", "schedule", "paused_by", "digests"), {str, type(None)}
_NUMBERS, _NUMBER = ("max_attempts", "revision"), {int, type(None)}
_PART = re.compile(r"[A-Za-z0-9_.-]+")
_PARTS = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+){3}")
MOST_ATTEMPTS = 1000
"""More than any server makes of one execution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose cues these are: one app in one environment."""

    app: str
    environment: str | None = None

    @property
    def scope(self) -> str:
        """The owner as cue names spell it: `billing`, or `billing@staging`."""
        return self.app if self.environment is None else f"{self.app}@{self.environment}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a run is tried in total, and the minutes between attempts (contract, section 8.4)."""

    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    backoff_minutes: tuple[int, ...] = DEFAULT_BACKOFF_MINUTES

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after the `attempt`th attempt failed; the last entry stands for all further."""
        return 60.0 * self.backoff_minutes[min(attempt, len(self.backoff_minutes)) - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnFailure:
    """What the service does when the last attempt failed."""

    email: bool = True
    webhook: str | None = None
    pause: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """The mark of ownership that each cue of ours carries in its payload."""

    app: str
    environment: str | None
    task: str
    schedule: str | None
    max_attempts: int
    revision: int | None = None
    """Of the deploy that wrote it; a higher one is newer code."""
    paused_by: str | None = None
    """What paused the cue, if no person did: `deploy`, or `replace` while its successor is made."""
    digests: str | None = None
    """What was declared, part by part, when it was written: what differs now was edited elsewhere."""

    @property
    def owner(self) -> Owner:
        """Whose cue it is."""
        return Owner(app=self.app, environment=self.environment)

    @property
    def cue_name(self) -> str:
        """The name that a cue with this stamp should have."""
        return cue_name(self.owner, self.task, self.schedule)

    def to_json(self) -> dict[str, Any]:
        """Return the stamp as it stands in the payload; `paused_by` and `digests` only when set."""
        value: dict[str, Any] = {
            "v": STAMP_VERSION,
            "app": self.app,
            "env": self.environment,
            "task": self.task,
            "schedule": self.schedule,
            "max_attempts": self.max_attempts,
            "revision": self.revision,
        }
        optional = {"paused_by": self.paused_by, "digests": self.digests}
        return value | {key: text for key, text in optional.items() if text is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class CueSpec:
    """What one cue should be: frozen, normalised, comparable."""

    owner: Owner
    task: str
    name: str
    """The cue's whole name."""
    schedule_name: str | None
    schedule: Schedule
    callback: str | None
    """The receiver's URL; None where no setting says it."""
    payload: Mapping[str, Any]
    description: str = ""
    retry: Retry = field(default_factory=Retry)
    on_failure: OnFailure = field(default_factory=OnFailure)
    transport: str = "webhook"
    callback_headers: Mapping[str, str] | None = None
    """None leaves them to people."""
    verification: str = "none"
    paused: bool | None = None
    """None leaves it to people."""
    policy: Policy = field(default_factory=Policy)
    former_names: tuple[str, ...] = ()
    """Whole names under which this cue may be found, to be renamed."""
    adopts: str | None = None
    """The whole name of a cue of somebody else's making that should become this one."""

    @property
    def stamp(self) -> Stamp:
        """The stamp that the cue should carry."""
        return Stamp(
            app=self.owner.app,
            environment=self.owner.environment,
            task=self.task,
            schedule=self.schedule_name,
            max_attempts=self.retry.max_attempts,
        )

    def wire_payload(self, stamp: Stamp | None = None) -> dict[str, Any]:
        """Return the payload as the cue carries it: the declared one, the routing key and the stamp."""
        keys = {TASK_KEY: cue_name(self.owner, self.task, None), STAMP_KEY: (stamp or self.stamp).to_json()}
        return {**self.payload, **keys}


def read_stamp(payload: Mapping[str, Any]) -> Stamp | None:
    """Return the stamp in a cue's payload, or None where there is none that this version understands."""
    value = payload.get(STAMP_KEY)
    if not isinstance(value, Mapping):
        return None
    fields = cast("Mapping[str, Any]", value)
    if fields.get("v") != STAMP_VERSION:
        return None
    texts = [fields.get(key) for key in _TEXTS]
    numbers = [fields.get(key) for key in _NUMBERS]
    if not _TEXT.issuperset(map(type, texts)) or not _NUMBER.issuperset(map(type, numbers)):
        return None
    app, environment, task, schedule, paused_by, digests = texts
    max_attempts, revision = numbers
    if not app or not task:
        return None
    if not _PARTS.fullmatch("/".join((app, task, environment or "-", schedule or "-"))):
        return None
    if not 0 <= (max_attempts or 0) <= MOST_ATTEMPTS:
        return None
    return Stamp(
        app=app,
        environment=environment,
        task=task,
        schedule=schedule,
        max_attempts=max_attempts or DEFAULT_MAX_ATTEMPTS,
        revision=revision,
        paused_by=paused_by,
        digests=digests,
    )


def cue_name(owner: Owner, task: str, schedule: str | None) -> str:
    """Return `billing@staging/daily_report:weekend`."""
    base = f"{owner.scope}/{task}"
    return base if schedule is None else f"{base}:{schedule}"


def check_part(value: str, what: str) -> str:
    """Return a part of a name, or raise if the name could not be read back from the whole."""
    if not _PART.fullmatch(value):
        raise DeclarationError(
            "bad_name", f"{what} {value!r} may hold only letters, digits, '_', '.' and '-'; choose another"
        )
    return value


def check_former(value: str) -> str:
    """Return a former name, `task` or `task:schedule`, or raise if no cue of ours ever had it."""
    for part in value.split(":", 1):
        check_part(part, "was=, the part of the old name after the slash,")
    return value


def check_length(name: str) -> str:
    """Return a cue's name, or raise if the server could not store it."""
    if len(name) > MAX_NAME:
        raise DeclarationError("name_too_long", f"the cue's name {name[:60]}... is over {MAX_NAME} characters")
    return name
