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
    ConflictError,
    CueAPIError,
    CueAPIServerError,
    CueLimitExceededError,
    CueNotFoundError,
    DuplicateCueNameError,
    InvalidArgumentError,
    InvalidScheduleError,
    RateLimitError,
    WebhookVerificationError,
)
from .webhook import WebhookDelivery, verify_webhook

if TYPE_CHECKING:
    from .client import CueAPI
    from .models import Account, Cue, CueList, Execution, ExecutionList, FiredExecution, Outcome

_ON_FIRST_USE = {
    "CueAPI": ".client",
    "Account": ".models",
    "Cue": ".models",
    "CueList": ".models",
    "Execution": ".models",
    "ExecutionList": ".models",
    "FiredExecution": ".models",
    "Outcome": ".models",
}

__all__ = [
    "APIConnectionError",
    "APITimeoutError",
    "Account",
    "AuthenticationError",
    "ConflictError",
    "Cue",
    "CueAPI",
    "CueAPIError",
    "CueAPIServerError",
    "CueLimitExceededError",
    "CueList",
    "CueNotFoundError",
    "DuplicateCueNameError",
    "Execution",
    "ExecutionList",
    "FiredExecution",
    "InvalidArgumentError",
    "InvalidScheduleError",
    "Outcome",
    "RateLimitError",
    "WebhookDelivery",
    "WebhookVerificationError",
    "verify_webhook",
]


def __getattr__(name: str) -> Any:
    """Load the client and its models when they are first asked for."""
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ON_FIRST_USE[name], __name__), name)
