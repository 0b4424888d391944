"""The library's events as lines for a person who watches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import click

Facts = Mapping[str, Any]

_LINES: Mapping[str, Callable[[Facts], str]] = {
    "fired": lambda facts: "by its schedule" if facts["triggered_by"] == "scheduled" else "by hand",
    "delivered": lambda facts: f"attempt {facts['attempt']}: HTTP {facts['http_status']}",
    "attempt_failed": lambda facts: f"attempt {facts['attempt']}: {facts['error']}{_next(facts)}",
    "ran": lambda facts: f"in {facts['seconds']:.3f} s: {facts.get('error') or facts['reason']}",
    "retry_waits": lambda facts: f"attempt {facts['attempt']} in {facts['retry_in']:g} s",
    "outcome": lambda facts: f"{facts['state']}{': ' + facts['detail'] if facts.get('detail') else ''}",
    "refused": lambda facts: f"by the receiver: {facts['status']} {facts['reason']}",
}
"""What is said of each event; events that are not here are for logs."""


class Narrator(logging.Handler):
    """Prints `time  task  step  what`, and every warning with its traceback; `scope` is left off the names."""

    def __init__(self, scope: str) -> None:
        super().__init__(logging.INFO)
        self._scope = f"{scope}/"
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        name: str | None = getattr(record, "event", None)
        if name is not None and name in _LINES:
            self._say(name, getattr(record, "facts", {}))
        elif record.levelno >= logging.WARNING:
            click.echo(self.format(record), err=True)

    def _say(self, name: str, facts: Facts) -> None:
        task = str(facts.get("task") or facts.get("cue") or "").removeprefix(self._scope)
        failed = name in ("attempt_failed", "refused") or bool(facts.get("error"))
        step = click.style(f"{name.replace('_', ' '):<14}", fg="red" if failed else "green")
        click.echo(f"{datetime.now():%H:%M:%S}  {task:<24} {step} {_LINES[name](facts)}")


def _next(facts: Facts) -> str:
    when = facts.get("retry_at")
    return f"; next at {datetime.fromisoformat(when).astimezone():%H:%M:%S}" if when else "; no attempt left"
