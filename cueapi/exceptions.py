"""Every error that the SDK raises, in one tree; no error is defined anywhere else in the package.

CueAPIError                        root of all
├── APIConnectionError             no answer: the connection failed or was lost
│   └── APITimeoutError            no answer in time
├── AuthenticationError            401
├── CueLimitExceededError          403, the plan's limit of cues
├── CueNotFoundError               404
├── ConflictError                  409
│   └── DuplicateCueNameError      409 duplicate_cue_name
├── InvalidScheduleError           400 and 422: the server refused what was sent
│   └── InvalidArgumentError       refused here, before a byte was sent (also a ValueError)
├── RateLimitError                 429
├── CueAPIServerError              5xx
└── WebhookVerificationError       a webhook that did not verify (see `cueapi.webhook`)
"""

from __future__ import annotations

from typing import Any


class CueAPIError(Exception):
    """Any failure of a call; raised itself for a status that has no class of its own."""

    def __init__(
        self,
        message: str,
        status_code: int | None = None,
        code: str | None = None,
        body: Any = None,
        *,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.code = code
        self.body: Any = {} if body is None else body
        self.request_id = request_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}(message={self.message!r}, status_code={self.status_code})"


class APIConnectionError(CueAPIError):
    """The server could not be reached, or the connection was lost before it answered."""


class APITimeoutError(APIConnectionError):
    """The server did not answer in time."""


class AuthenticationError(CueAPIError):
    """401: the API key is missing, unknown or rotated."""


class CueLimitExceededError(CueAPIError):
    """403: the plan allows no further active cue."""


class CueNotFoundError(CueAPIError):
    """404: no such cue, execution or worker in this account."""


class ConflictError(CueAPIError):
    """409: the state of the resource does not allow the call."""


class DuplicateCueNameError(ConflictError):
    """409 `duplicate_cue_name`: another cue of the account has that name, in any status."""


class InvalidScheduleError(CueAPIError):
    """400 or 422: the server refused the schedule or another part of the request."""


class InvalidArgumentError(InvalidScheduleError, ValueError):
    """An argument that the server would not accept, refused before anything was sent."""


class RateLimitError(CueAPIError):
    """429: too many requests; `retry_after` is in seconds where the server gave it."""

    def __init__(self, message: str, retry_after: float | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.retry_after = retry_after


class CueAPIServerError(CueAPIError):
    """5xx: the server failed."""


class WebhookVerificationError(CueAPIError):
    """A webhook that is not an authentic, fresh delivery; `reason` is a stable code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, code=reason)
        self.reason = reason
