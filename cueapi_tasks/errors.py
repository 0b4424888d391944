"""Every error that cueapi-tasks raises, in one tree; each carries a stable `code` and says how to mend its cause.

CueTasksError
├── DeclarationError        the decorator refused what was declared (also a ValueError)
│   └── DuplicateTaskError  the name is taken by another function or schedule
├── ConfigurationError      a setting is missing or makes no sense
├── AppLoadError            the command line could not find or import the app
├── DeployError             the deploy was refused, or did not do all of what was planned
├── PayloadError            a payload does not fit the function's signature
├── RunError                a run failed though its function raised nothing: its process died, or its loop was closed
├── LedgerError             the ledger could not be read or written
└── ServerStartError        the embedded server could not start

NonRetriableError           raised by a task: this run failed, and another attempt would not help
"""

from __future__ import annotations


class CueTasksError(Exception):
    """Root of all errors of cueapi-tasks; `code` is stable, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class DeclarationError(CueTasksError, ValueError):
    """A declaration that could never work, refused when the decorator runs."""


class DuplicateTaskError(DeclarationError):
    """A name that two places declare."""


class ConfigurationError(CueTasksError):
    """A setting that is missing or makes no sense."""


class AppLoadError(CueTasksError):
    """An app that could not be found or imported; the cause is the user's own error, if there is one."""


class DeployError(CueTasksError):
    """A deploy that was refused before it wrote, or that did not reach the declared state."""


class PayloadError(CueTasksError):
    """A payload that does not fit the function it is for."""


class RunError(CueTasksError):
    """A run that failed though its function raised nothing; `code` is the reason."""


class LedgerError(CueTasksError):
    """A ledger that cannot be read or written; nothing runs without it."""


class ServerStartError(CueTasksError):
    """An embedded server that cannot start: its port or its data directory is taken."""


class NonRetriableError(Exception):
    """Raise this in a task where another attempt would not help: the failure is reported at once."""
