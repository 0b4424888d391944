"""What the engine's parts share: the store, the profile, and look-ups that refuse as the API does."""

from __future__ import annotations

import secrets
import string
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from . import rules
from .profile import Profile, Quirk
from .records import Account, Cue, Execution, ExecutionStatus, Notice, Trigger
from .rules import ApiError, Unchecked
from .store import Store

_ALPHABET = string.ascii_lowercase + string.digits


@dataclass(kw_only=True)
class Core:
    """One server's state; `wake` is told that something may be due earlier, `notices` wait to be sent."""

    store: Store
    profile: Profile
    wake: Callable[[], None]
    notices: list[Notice] = field(default_factory=list[Notice])

    def has(self, quirk: Quirk) -> bool:
        """Tell whether a quirk is on."""
        return self.profile.has(quirk)

    def owned_cue(self, account: Account, cue_id: str) -> Cue:
        """Return one of the account's cues."""
        cue = self.store.cue(cue_id)
        if cue is None or cue.account_id != account.id:
            raise no_cue()
        return cue

    def owned_execution(self, account: Account, execution_id: str) -> Execution:
        """Return one of the account's executions."""
        execution = self.store.execution(self.checked_id(execution_id), account.id)
        if execution is None:
            raise ApiError(404, "execution_not_found", "Execution not found")
        return execution

    def checked_id(self, execution_id: str) -> str:
        """Return an execution id in its canonical form, or refuse what is no UUID."""
        try:
            return str(uuid.UUID(execution_id))
        except ValueError as error:
            raise Unchecked(404, "execution_not_found", "Execution not found") from error

    def cue_of(self, execution: Execution) -> Cue:
        """Return an execution's cue."""
        cue = self.store.cue(execution.cue_id)
        assert cue is not None  # a foreign key holds it
        return cue

    def save(self, execution: Execution, cue: Cue) -> Execution:
        """Write an execution, and when the rules about claims are to look at it next."""
        sweep = None
        if cue.transport == "worker":
            heartbeat = self.store.worker_heartbeat(cue.account_id, execution.claimed_by)
            sweep = rules.next_sweep(execution, heartbeat, self.profile)
        execution = replace(execution, sweep_at=sweep)
        self.store.update_execution(execution)
        return execution


def no_cue() -> ApiError:
    """Return the refusal for a cue that is not there."""
    return ApiError(404, "cue_not_found", "Cue not found")


def new_cue_id() -> str:
    """Return a cue's id (section 1)."""
    return "cue_" + "".join(secrets.choice(_ALPHABET) for _ in range(12))


def new_execution(core: Core, cue: Cue, scheduled_for: datetime, trigger: Trigger, now: datetime) -> Execution:
    """Return a pending execution; a webhook's first attempt is due at its time."""
    execution = Execution(
        id=str(uuid.uuid4()),
        cue_id=cue.id,
        scheduled_for=scheduled_for,
        status=ExecutionStatus.PENDING,
        triggered_by=trigger,
        due_at=scheduled_for if cue.transport == "webhook" else None,
        created_at=now,
        updated_at=now,
    )
    sweep = rules.next_sweep(execution, None, core.profile) if cue.transport == "worker" else None
    return replace(execution, sweep_at=sweep)
