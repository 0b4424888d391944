"""Every error that the SDK raises, in one tree; no error is defined anywhere else in the package.

CueAPIError                            root of all
│
│   no answer
├── APIConnectionError                 the connection failed or was lost
│   └── APITimeoutError                no answer in time
│
│   answered badly: the server's code decides before the status does
├── AuthenticationError                401
├── CueLimitExceededError              403
│   └── NotExecutionOwnerError         403 not_execution_owner
├── CueNotFoundError                   404
│   ├── ExecutionNotFoundError         404 execution_not_found
│   └── WorkerNotFoundError            404 worker_not_found
├── ConflictError                      409
│   ├── DuplicateCueNameError          409 duplicate_cue_name
│   ├── ClaimFailedError               409 claim_failed, already_claimed
│   └── OutcomeAlreadyRecordedError    409 outcome_already_recorded, outcome_already_reported
├── InvalidScheduleError               400 and 422: a schedule or a time zone
│   └── InvalidRequestError            400 and 422: anything else in the request
│       └── InvalidArgumentError       refused here, before a byte was sent; also a ValueError
├── RateLimitError                     429
├── CueAPIServerError                  5xx
│
│   refused locally
└── WebhookVerificationError           a webhook that did not verify (see `cueapi.webhook`)
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
        self.repeated = False
        """Whether the call was sent before and that answer was lost, so that it may have been carried out."""

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


class NotExecutionOwnerError(CueLimitExceededError):
    """403 `not_execution_owner`: another worker has claimed the execution."""


class CueNotFoundError(CueAPIError):
    """404: no such cue in this account."""


class ExecutionNotFoundError(CueNotFoundError):
    """404 `execution_not_found`: no such execution in this account."""


class WorkerNotFoundError(CueNotFoundError):
    """404 `worker_not_found`: no such worker in this account."""


class ConflictError(CueAPIError):
    """409: the state of the resource does not allow the call."""


class DuplicateCueNameError(ConflictError):
    """409 `duplicate_cue_name`: another cue of the account has that name, in any status."""


class ClaimFailedError(ConflictError):
    """409 `claim_failed`: the execution is not there to be claimed, or another worker has it."""


class OutcomeAlreadyRecordedError(ConflictError):
    """409 `outcome_already_recorded`: an outcome is written once, and this execution has one."""


class InvalidScheduleError(CueAPIError):
    """400 or 422: the server refused the schedule or another part of the request."""


class InvalidRequestError(InvalidScheduleError):
    """400 or 422 for anything but a schedule; 0.1.3 called this an invalid schedule too."""


class InvalidArgumentError(InvalidRequestError, ValueError):
    """An argument that the server would not accept, refused before anything was sent; `field` names it."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message, code="invalid_argument")
        self.field = field


class RateLimitError(CueAPIError):
    """429: too many requests; `retry_after` is in seconds where the server gave it."""

    def __init__(self, message: str, retry_after: float | None = None, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.retry_after = retry_after


class CueAPIServerError(CueAPIError):
    """5xx: the server failed."""


class WebhookVerificationError(CueAPIError):
    """A webhook that is not an authentic, fresh delivery; `reason` is a stable code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, code=reason)
        self.reason = reason
