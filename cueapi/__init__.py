"""The Python SDK for CueAPI: a typed client of its HTTP API, and webhook verification.

The client, and httpx with it, is loaded on first use (PEP 562), so that a web process that only verifies webhooks
starts fast. Nothing here knows of tasks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .exceptions import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    ClaimFailedError,
    ConflictError,
    CueAPIError,
    CueAPIServerError,
    CueLimitExceededError,
    CueNotFoundError,
    DuplicateCueNameError,
    ExecutionNotFoundError,
    InvalidArgumentError,
    InvalidRequestError,
    InvalidScheduleError,
    NotExecutionOwnerError,
    OutcomeAlreadyRecordedError,
    RateLimitError,
    WebhookVerificationError,
    WorkerNotFoundError,
)
from .payload import CuePayload
from .webhook import WebhookDelivery, verify_webhook

if TYPE_CHECKING:
    from .client import CueAPI
    from .models import Account, Cue, CueList, Execution, ExecutionList, FiredExecution, Outcome
    from .resources.executions import ExecutionsResource

_ON_FIRST_USE = {
    "CueAPI": ".client",
    "Account": ".models",
    "Cue": ".models",
    "CueList": ".models",
    "Execution": ".models",
    "ExecutionList": ".models",
    "FiredExecution": ".models",
    "Outcome": ".models",
    "ExecutionsResource": ".resources.executions",
}

__version__ = "0.1.0"

__all__ = [
    "APIConnectionError",
    "APITimeoutError",
    "Account",
    "AuthenticationError",
    "ClaimFailedError",
    "ConflictError",
    "Cue",
    "CueAPI",
    "CueAPIError",
    "CueAPIServerError",
    "CueLimitExceededError",
    "CueList",
    "CueNotFoundError",
    "CuePayload",
    "DuplicateCueNameError",
    "Execution",
    "ExecutionList",
    "ExecutionNotFoundError",
    "ExecutionsResource",
    "FiredExecution",
    "InvalidArgumentError",
    "InvalidRequestError",
    "InvalidScheduleError",
    "NotExecutionOwnerError",
    "Outcome",
    "OutcomeAlreadyRecordedError",
    "RateLimitError",
    "WebhookDelivery",
    "WebhookVerificationError",
    "WorkerNotFoundError",
    "verify_webhook",
]


def __getattr__(name: str) -> Any:
    """Load the client and its models when they are first asked for."""
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ON_FIRST_USE[name], __name__), name)
