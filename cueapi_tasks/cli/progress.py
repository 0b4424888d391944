"""A deploy on its way: a bar on a terminal, a line a change elsewhere, and what is being waited for."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

import click
import rich.progress
from rich.console import Console

from ..deploy.change import Action, Change

if TYPE_CHECKING:
    from typing_extensions import Self

VERBS = {
    Action.CREATE: "created",
    Action.RENAME: "renamed",
    Action.REPLACE: "replaced",
    Action.PAUSE: "paused",
    Action.RESUME: "resumed",
    Action.DELETE: "deleted",
    Action.ADOPT: "adopted",
}
LONG_WAIT = 2.0
"""Seconds from which on a wait is worth a line of its own."""


class Progress:
    """Tells a person on standard error what a deploy does; safe to call from several threads."""

    def __init__(self, total: int) -> None:
        console = Console(stderr=True)
        self._bar = rich.progress.Progress(console=console, transient=True) if console.is_terminal else None
        self._task = self._bar.add_task("deploying", total=total) if self._bar else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def done(self, change: Change) -> None:
        """Say that a change was made."""
        self._say(f"{VERBS.get(change.action, 'updated')} {change.name}")
        if self._bar and self._task is not None:
            self._bar.update(self._task, advance=1, description="deploying")

    def waiting(self, seconds: float, why: str) -> None:
        """Say what is waited for."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, description=f"waiting {seconds:.0f} s for {why}")
        elif seconds >= LONG_WAIT:
            self._say(f"waiting {seconds:.0f} s for {why}")

    def _say(self, line: str) -> None:
        if self._bar:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            click.echo(line, err=True)
