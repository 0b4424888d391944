"""One run that was asked for, however it arrived, and the task that it belongs to; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from cueapi import WebhookDelivery

from ..declare.binding import RESERVED_KEYS, STAMP_KEY, TASK_KEY
from ..declare.context import Context
from ..declare.policy import Policy, decide
from ..declare.spec import DEFAULT_MAX_ATTEMPTS, Owner, Stamp, read_stamp
from ..declare.task import AnyTask, Declared
from ..errors import PayloadError, RunError

Names = tuple[str, str | None]
"""A task's name, and its schedule's where that has one."""


Find = Callable[[str, str | None], Names | None]
"""Returns the names as they are now; None where this code knows nothing that is or was called so."""


_USUAL = Policy()


class Delivery(NamedTuple):
    """One attempt of one execution, routed to a task of ours.

    What every request makes is a named tuple: a frozen dataclass of this size takes twice the time.
    """

    execution_id: str
    cue_id: str
    cue_name: str
    task: str
    schedule: str | None
    """The name of the task's schedule, where it has one."""
    attempt: int
    max_attempts: int
    scheduled_for: datetime
    payload: Mapping[str, Any]
    """What the function gets: without the routing key and the stamp."""
    transport: str
    signed_at: datetime
    """When this attempt was signed, or taken up by a worker."""

    def context(self, *, is_last_attempt: bool) -> Context:
        """Return the run's facts for the function."""
        return Context(
            execution_id=self.execution_id,
            cue_id=self.cue_id,
            cue_name=self.cue_name,
            task=self.task,
            scheduled_for=self.scheduled_for,
            attempt=self.attempt,
            is_last_attempt=is_last_attempt,
            transport=self.transport,
            payload=self.payload,
            now=self.signed_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A delivery beside what this code declares for it."""

    delivery: Delivery
    task: AnyTask | None
    """None where this code does not know it."""
    declared: Declared | None
    """The schedule that it comes from; None where this code does not know it."""

    @property
    def policy(self) -> Policy:
        """How the run behaves at the edges."""
        return _USUAL if self.declared is None else self.declared.policy

    @property
    def misfit(self) -> PayloadError | RunError | None:
        """Why this code cannot run it; None if it can."""
        if self.task is None:
            return RunError("unknown_task", "this code does not declare it")
        try:
            self.task.binder.check(self.delivery.payload)
        except PayloadError as error:
            return error
        return None

    def decide(self) -> str | None:
        """Return `run`, or the policy that leaves the run out; now is when the attempt was signed or taken up.

        Code that does not know the task decides nothing: newer code may know what its policies are.
        """
        if self.task is None:
            return None
        schedule = None if self.declared is None else self.declared.schedule
        return decide(self.policy, schedule, self.delivery.scheduled_for, self.delivery.signed_at)


def job_of(delivery: Delivery, task: AnyTask | None) -> Job:
    """Return the delivery beside its task, and the schedule of that which it comes from."""
    return Job(delivery=delivery, task=task, declared=None if task is None else task.of_schedule(delivery.schedule))


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimable:
    """An execution that waits for a worker, as the server shows it and as the ledger keeps it."""

    execution_id: str
    cue_id: str
    cue_name: str
    scheduled_for: datetime
    payload: Mapping[str, Any]
    """What the cue carries, the routing key and the stamp included."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "execution_id": self.execution_id,
            "cue_id": self.cue_id,
            "cue_name": self.cue_name,
            "scheduled_for": self.scheduled_for.isoformat(),
            "payload": self.payload,
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Claimable:
        """Return what `to_json` gave; further keys are ignored."""
        names = ("execution_id", "cue_id", "cue_name", "payload")
        return cls(scheduled_for=datetime.fromisoformat(kept["scheduled_for"]), **{name: kept[name] for name in names})


def stamped(item: Claimable, delivery: Delivery, owner: Owner) -> Claimable:
    """Return the execution with a stamp if it has none: once it is taken, newer code must know whose it is."""
    if read_stamp(item.payload) is not None:
        return item
    stamp = Stamp(
        app=owner.app,
        environment=owner.environment,
        task=delivery.task,
        schedule=delivery.schedule,
        max_attempts=delivery.max_attempts,
    )
    return replace(item, payload={**item.payload, STAMP_KEY: stamp.to_json()})


def from_webhook(webhook: WebhookDelivery, owners: Sequence[Owner], find: Find) -> Delivery | None:
    """Return the delivery for a task of these owners, or None if it is another's."""
    return _routed(
        webhook.payload,
        webhook.name,
        owners,
        find,
        execution_id=webhook.execution_id,
        cue_id=webhook.cue_id,
        attempt=webhook.attempt,
        scheduled_for=webhook.scheduled_for,
        transport="webhook",
        signed_at=webhook.signed_at,
    )


def from_queue(item: Claimable, owners: Sequence[Owner], find: Find, *, attempt: int, now: datetime) -> Delivery | None:
    """Return the worker's delivery for a task of these owners, or None if it is another's.

    Attempts are counted by the worker, from 1: the server does not retry what a worker runs (contract, Q31).
    """
    return _routed(
        item.payload,
        item.cue_name,
        owners,
        find,
        execution_id=item.execution_id,
        cue_id=item.cue_id,
        attempt=attempt,
        scheduled_for=item.scheduled_for,
        transport="worker",
        signed_at=now,
    )


def _routed(
    payload: Mapping[str, Any], cue_name: str, owners: Sequence[Owner], find: Find, **facts: Any
) -> Delivery | None:
    stamp = read_stamp(payload)
    names = route(stamp, payload, cue_name, owners, find)
    if names is None:
        return None
    return Delivery(
        cue_name=cue_name,
        task=names[0],
        schedule=names[1],
        max_attempts=stamp.max_attempts if stamp else DEFAULT_MAX_ATTEMPTS,
        payload={key: value for key, value in payload.items() if key not in RESERVED_KEYS},
        **facts,
    )


def route(
    stamp: Stamp | None, payload: Mapping[str, Any], cue_name: str, owners: Sequence[Owner], find: Find
) -> Names | None:
    """Return the names of task and schedule, or None for another's delivery; former names lead to what they became.

    A stamp decides alone. Without one, the signed `payload.task` (CueAPI's routing convention) or else the cue's
    name must name a declared task of this app and environment.
    """
    if stamp is not None:
        names = (stamp.task, stamp.schedule)
        return find(*names) or names if stamp.owner in owners else None
    scopes = [owner.scope for owner in owners]
    schedule = cue_name.partition(":")[2] or None
    for name in (payload.get(TASK_KEY), cue_name.partition(":")[0]):
        scope, slash, task = name.partition("/") if isinstance(name, str) else ("", "", "")
        if slash and scope in scopes and (found := find(task, schedule)):
            return found
    return None
