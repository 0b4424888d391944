"""Declare when a Python function runs: decorate it, deploy, and CueAPI calls it by a signed webhook."""

from __future__ import annotations

from . import _sdk as _sdk  # first: what follows needs the SDK to be ours
from .app import CueTasks
from .declare.context import Context, Done
from .declare.task import Task
from .errors import (
    AppLoadError,
    ConfigurationError,
    CueTasksError,
    DeclarationError,
    DeployError,
    DuplicateTaskError,
    LedgerError,
    NonRetriableError,
    PayloadError,
    RunError,
    ServerStartError,
)
from .run.worker import WorkerOptions

__version__ = "0.1.0"

__all__ = [
    "AppLoadError",
    "ConfigurationError",
    "Context",
    "CueTasks",
    "CueTasksError",
    "DeclarationError",
    "DeployError",
    "Done",
    "DuplicateTaskError",
    "LedgerError",
    "NonRetriableError",
    "PayloadError",
    "RunError",
    "ServerStartError",
    "Task",
    "WorkerOptions",
]
