"""A plan in a file: later exactly that is applied, or nothing if the remote state has changed since."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pydantic

from cueapi import Cue

from ..errors import DeployError
from .change import VERSION, Plan
from .normal import PARTS
from .ownership import sort_out

KIND = "cueapi-tasks plan"
SET_BY_HAND = {"id", "name", "status", "transport", *PARTS}
"""The fields of a cue that people and deploys set; runs change the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a plan is for: the server and the account on it."""

    server: str
    account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPlan:
    """A plan with what it was made for and from."""

    kind: str
    version: int
    target: Target
    state: str
    """The digest of the remote cues that the plan looked at."""
    plan: Plan


_FORM = pydantic.TypeAdapter(SavedPlan)


def save(path: Path, plan: Plan, target: Target, cues: Iterable[Cue]) -> None:
    """Write a plan to a file that only its owner can read, whole or not at all."""
    saved = SavedPlan(kind=KIND, version=VERSION, target=target, state=state_of(plan, cues), plan=plan)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            part = Path(folder) / "plan"
            part.touch(mode=0o600)  # its owner's alone from the start
            part.write_bytes(_FORM.dump_json(saved, indent=1))
            part.replace(path)
    except OSError as error:
        raise DeployError("plan_not_written", f"the plan could not be written to {path}: {error}") from error


def read(path: Path) -> SavedPlan:
    """Return a saved plan, or raise if the file is none that this version can carry out."""
    try:
        saved = _FORM.validate_json(path.read_bytes())
    except (OSError, pydantic.ValidationError) as error:
        raise DeployError(
            "bad_plan_file", f"{path} is no saved plan: {_first(error)}; make one with plan --out"
        ) from error
    if saved.kind != KIND or saved.version != VERSION:
        raise DeployError("bad_plan_file", f"{path} was made by another version; make it anew with plan --out")
    return saved


def check(saved: SavedPlan, plan: Plan, target: Target, cues: Iterable[Cue]) -> None:
    """Raise unless a saved plan is for this app, environment, server and account, and nothing changed since."""
    for what, then, now in (
        ("app", saved.plan.owner.app, plan.owner.app),
        ("environment", saved.plan.owner.environment, plan.owner.environment),
        ("server", saved.target.server, target.server),
        ("account", saved.target.account, target.account),
    ):
        if then != now:
            raise DeployError(
                "other_target", f"the plan was made for the {what} {then}, not {now}; nothing was written"
            )
    if saved.state != state_of(saved.plan, cues):
        raise DeployError("plan_is_stale", "the remote cues have changed since the plan was made; make it anew")


def state_of(plan: Plan, cues: Iterable[Cue]) -> str:
    """Return a digest of the cues that a plan depends on: the owned ones and those that it touches or runs into."""
    listed = list(cues)
    names = {change.name for change in plan.changes} | {change.cue.name for change in plan.changes if change.cue}
    owned = {cue.id for cue in sort_out(listed, {plan.owner}).owned.values()}
    lines = sorted(fingerprint(cue) for cue in listed if cue.id in owned or cue.name in names)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def fingerprint(cue: Cue) -> str:
    """Return everything about a cue that people or deploys set, and nothing that runs change."""
    return cue.model_dump_json(include=SET_BY_HAND)


def _first(error: OSError | pydantic.ValidationError) -> str:
    return str(error).splitlines()[0]
