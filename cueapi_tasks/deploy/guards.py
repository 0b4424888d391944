"""Steps that have hurt people elsewhere, and the one flag that allows each; pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..declare.spec import CueSpec
from .change import Action, Change, Plan

HOSTED = ("api.cueapi.ai",)
"""Hosts of the hosted service, which can call public addresses only."""
FEW = 4
"""Owned cues from which on removing most of them is guarded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Why a plan is not carried out as it stands; `flag` allows it, None where nothing does."""

    code: str
    flag: str | None
    message: str


def guards(plan: Plan, *, refuse_older: bool = False) -> Iterator[Guard]:
    """Yield what stands in the way of a plan."""
    if plan.conflicts:
        notes = "; ".join(str(change.note) for change in plan.conflicts)
        yield Guard(code="conflict", flag=None, message=notes)
    if not plan.declared:
        message = (
            "the app declares no task: decorate one with @cue.schedule(...), or name the module that holds them; "
            "if it is meant to have none"
        )
        yield Guard(code="nothing_declared", flag="--allow-empty", message=message)
    removed = [change for change in plan.of(Action.PAUSE, Action.DELETE) if change.spec is None and not change.leftover]
    if plan.owned >= FEW and 2 * len(removed) > plan.owned:
        message = f"{len(removed)} of {plan.owned} cues of this app would be removed"
        yield Guard(code="mass_removal", flag="--allow-mass-removal", message=message)
    yield from _of_changes(plan)
    if plan.older and refuse_older:
        message = f"this code is revision {plan.revision} and {plan.highest} is deployed; deploy newer code"
        yield Guard(code="older_revision", flag=None, message=message)


def unreachable(specs: Iterable[CueSpec], base_url: str) -> str | None:
    """Return a callback that the hosted service could never call: on loopback, or in a private network."""
    if urlsplit(base_url).hostname not in HOSTED:
        return None
    urls = (spec.callback for spec in specs if spec.transport == "webhook")
    return next((url for url in urls if url and _is_private(urlsplit(url).hostname or "")), None)


def _of_changes(plan: Plan) -> Iterator[Guard]:
    replaced = plan.of(Action.REPLACE)
    if replaced:
        names = ", ".join(change.name for change in replaced)
        message = f"another transport takes a new cue, with a new id and an empty history: {names}"
        yield Guard(code="replace", flag="--replace", message=message)
    moved = [pair for pair in map(_moved_host, plan.changes) if pair]
    if moved:
        message = f"{len(moved)} cues of this app would call {moved[0][1]}, not {moved[0][0]} as they do now"
        yield Guard(code="callback_moved", flag="--move-callback", message=message)


def _moved_host(change: Change) -> tuple[str, str] | None:
    """Return the hosts that an owned cue calls and would call, if they differ."""
    before, after = change.fields.get("callback.url", (None, None))
    if change.cue is None or change.action is Action.ADOPT or not before or not after:
        return None
    hosts = (urlsplit(str(before)).netloc, urlsplit(str(after)).netloc)
    return hosts if hosts[0] != hosts[1] else None


def _is_private(host: str) -> bool:
    name = host.rstrip(".")
    try:
        return not ipaddress.ip_address(name).is_global
    except ValueError:  # a name: with a dot, only the service can tell where it leads
        return "." not in name or name.endswith((".localhost", ".local", ".internal"))
