"""What the API answers, typed; unknown fields are kept, so that a newer server breaks nothing."""

from __future__ import annotations

from .account import Account, Alert, AlertList, Usage, Worker
from .cue import Callback, Cue, CueList, OnFailure, Retry, Schedule
from .execution import (
    Claim,
    ClaimableExecution,
    Execution,
    ExecutionList,
    FiredExecution,
    Heartbeat,
    Outcome,
    OutcomeReceipt,
)

__all__ = [
    "Account",
    "Alert",
    "AlertList",
    "Callback",
    "Claim",
    "ClaimableExecution",
    "Cue",
    "CueList",
    "Execution",
    "ExecutionList",
    "FiredExecution",
    "Heartbeat",
    "OnFailure",
    "Outcome",
    "OutcomeReceipt",
    "Retry",
    "Schedule",
    "Usage",
    "Worker",
]
