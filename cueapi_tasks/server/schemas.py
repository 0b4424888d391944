"""What the API accepts, as pydantic models whose faults become the 422 envelope (contract, sections 3 and 5)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, field_validator, model_validator

from .records import CatchUp
from .rules import METHODS, VERIFICATION_MODES


class ScheduleIn(BaseModel):
    """When to fire."""

    type: str
    cron: str | None = None
    at: datetime | None = None
    timezone: str = "UTC"


class CallbackIn(BaseModel):
    """Where to deliver; the URL is kept as pydantic normalises it (contract, Q2)."""

    url: HttpUrl | None = None
    method: str = "POST"
    headers: dict[str, str] = Field(default_factory=dict)

    @field_validator("method")
    @classmethod
    def _known(cls, method: str) -> str:
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}")
        return method


class RetryIn(BaseModel):
    """How often, and after how many minutes, to try again."""

    max_attempts: int = Field(default=3, ge=1, le=10)
    backoff_minutes: list[int] = Field(default_factory=lambda: [1, 5, 15])


class OnFailureIn(BaseModel):
    """What to do after the last attempt failed."""

    email: bool = True
    webhook: str | None = None
    pause: bool = False


class VerificationIn(BaseModel):
    """Which evidence an outcome needs."""

    mode: str = "none"

    @field_validator("mode")
    @classmethod
    def _known(cls, mode: str) -> str:
        if mode not in VERIFICATION_MODES:
            raise ValueError(f"mode must be one of {', '.join(VERIFICATION_MODES)}")
        return mode


class CueIn(BaseModel):
    """A cue to create; unknown keys are ignored, as the service does (contract, Q7)."""

    name: str = Field(max_length=255)
    description: str | None = None
    schedule: ScheduleIn
    transport: Literal["webhook", "worker"] = "webhook"
    callback: CallbackIn | None = None
    payload: dict[str, Any] | None = None
    retry: RetryIn | None = None
    on_failure: OnFailureIn | None = None
    verification: VerificationIn | None = None

    @model_validator(mode="after")
    def _reachable(self) -> CueIn:
        if self.transport == "webhook" and (self.callback is None or self.callback.url is None):
            raise ValueError("callback.url is required for webhook transport")
        return self


class HostedCueIn(CueIn):
    """A cue to create, with the keys that only the hosted service has (contract, section 11)."""

    catch_up: CatchUp | None = None


class CuePatch(BaseModel):
    """Changes to a cue: null leaves a field as it is, and a sub-object replaces the whole one (contract, Q12)."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(default=None, max_length=255)
    description: str | None = None
    status: str | None = None
    schedule: ScheduleIn | None = None
    callback: CallbackIn | None = None
    payload: dict[str, Any] | None = None
    retry: RetryIn | None = None
    on_failure: OnFailureIn | None = None
    verification: VerificationIn | None = None

    @field_validator("status")
    @classmethod
    def _settable(cls, status: str | None) -> str | None:
        if status not in (None, "active", "paused"):
            raise ValueError("status must be 'active' or 'paused'")
        return status


class HostedCuePatch(CuePatch):
    """Changes to a cue, with the keys that only the hosted service has (contract, section 11)."""

    catch_up: CatchUp | None = None


class FireIn(BaseModel):
    """A fire by hand: now where `send_at` is absent or past."""

    send_at: datetime | None = None

    @field_validator("send_at")
    @classmethod
    def _aware(cls, moment: datetime | None) -> datetime | None:
        if moment is not None and moment.tzinfo is None:
            raise ValueError("send_at needs a UTC offset")
        return moment


class HostedFireIn(FireIn):
    """A fire by hand, with the keys that only the hosted service has (contract, section 11)."""

    payload_override: dict[str, Any] | None = None
    merge_strategy: Literal["merge", "replace"] = "merge"
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=256)


class ClaimIn(BaseModel):
    """Who claims."""

    worker_id: str = Field(min_length=1, max_length=255)


class VerifyIn(BaseModel):
    """What a check of an outcome found."""

    valid: bool = True
    reason: str | None = None


class EvidenceIn(BaseModel):
    """Evidence that comes after the outcome."""

    external_id: str | None = Field(default=None, max_length=255)
    result_url: str | None = Field(default=None, max_length=2083)
    result_ref: str | None = Field(default=None, max_length=255)
    result_type: str | None = Field(default=None, max_length=50)
    summary: str | None = None
    artifacts: list[Any] | None = None
    metadata: dict[str, Any] | None = None


class HeartbeatIn(BaseModel):
    """A worker that shows itself; its handlers are for information (section 5.3)."""

    worker_id: str = Field(max_length=255)
    handlers: list[str] | None = None


class RegisterIn(BaseModel):
    """A new account."""

    email: str = Field(min_length=3, max_length=255, pattern=r"^[^@\s]+@[^@\s]+$")


class AccountPatch(BaseModel):
    """Changes to an account; an empty alert URL clears it."""

    email: str | None = Field(default=None, min_length=3, max_length=255, pattern=r"^[^@\s]+@[^@\s]+$")
    alert_webhook_url: str | None = Field(default=None, max_length=2083)


class OutcomeIn(BaseModel):
    """What became of an execution (contract, section 4)."""

    success: bool
    result: str | None = Field(default=None, max_length=2000)
    error: str | None = Field(default=None, max_length=2000)
    metadata: dict[str, Any] | None = None
    external_id: str | None = Field(default=None, max_length=255)
    result_url: HttpUrl | None = None
    result_ref: str | None = Field(default=None, max_length=255)
    result_type: str | None = Field(default=None, max_length=50)
    summary: str | None = Field(default=None, max_length=500)
    artifacts: list[Any] | None = None


class CueQuery(BaseModel):
    """Which cues to list."""

    status: str | None = None
    limit: int = Field(default=50, ge=1, le=100)
    offset: int = Field(default=0, ge=0, le=2**62)


class CueDetailQuery(BaseModel):
    """Which of a cue's executions to show with it."""

    execution_limit: int = Field(default=10, ge=1, le=100)
    execution_offset: int = Field(default=0, ge=0, le=2**62)


class ExecutionQuery(BaseModel):
    """Which executions to list."""

    cue_id: str | None = None
    status: str | None = None
    status__in: str | None = None
    worker_id: str | None = None
    outcome_state: str | None = None
    triggered_by: str | None = None
    limit: int = Field(default=20, ge=1, le=100)
    offset: int = Field(default=0, ge=0, le=2**62)


class AlertQuery(BaseModel):
    """Which alerts to list."""

    alert_type: str | None = None
    since: datetime | None = None
    limit: int = Field(default=20, ge=1, le=100)
    offset: int = Field(default=0, ge=0, le=2**62)
