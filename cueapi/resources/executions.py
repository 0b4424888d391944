"""Executions: read them, claim them, report what became of them, verify and replay them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from .. import arguments
from .._retry import Repeat
from ..exceptions import (
    APIConnectionError,
    ClaimFailedError,
    ConflictError,
    NotExecutionOwnerError,
    OutcomeAlreadyRecordedError,
)
from ..models import Claim, ClaimableExecution, Execution, ExecutionList, FiredExecution, Heartbeat, OutcomeReceipt
from ..pagination import pages
from .base import Resource, given, rows

MAX_TEXT = 2000
"""Characters of a result or an error that the server takes (contract, section 4)."""
PAGE = 100


class ExecutionContext:
    """Reports an execution's outcome when its block ends: `result` and `evidence` as set there, or the exception."""

    def __init__(self, resource: ExecutionsResource, execution_id: str, payload: dict[str, Any] | None = None) -> None:
        self._resource = resource
        self.execution_id = execution_id
        self.payload: dict[str, Any] = payload or {}
        self.result: Any = None
        self.error: Any = None
        self.evidence: dict[str, Any] | None = None

    def __enter__(self) -> ExecutionContext:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._resource.report_outcome(self.execution_id, success=False, error=str(error)[:MAX_TEXT])
            return
        result = str(self.result)[:MAX_TEXT] if self.result else None
        self._resource.report_outcome(self.execution_id, success=True, **given(result=result), **(self.evidence or {}))


class ExecutionsResource(Resource):
    """Work with the account's executions."""

    def report_outcome(
        self,
        execution_id: str,
        *,
        success: bool,
        result: str | None = None,
        error: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        external_id: str | None = None,
        result_url: str | None = None,
        result_type: str | None = None,
        summary: str | None = None,
        artifacts: Sequence[Any] | None = None,
        result_ref: str | None = None,
    ) -> OutcomeReceipt:
        """Record what became of an execution; the server takes this once.

        Sent again after a lost answer: `OutcomeAlreadyRecordedError` then means that it was taken.
        """
        evidence = given(
            result=result,
            error=error,
            metadata=metadata,
            external_id=external_id,
            result_url=result_url,
            result_type=result_type,
            summary=summary,
            artifacts=None if artifacts is None else [*artifacts],
            result_ref=result_ref,
        )
        arguments.check_evidence(evidence)
        try:
            answer = self._on(execution_id, "POST", "outcome", {"success": success} | evidence, Repeat.CHECKED)
        except OutcomeAlreadyRecordedError as refused:
            if not refused.repeated:
                raise
            answer = {"execution_id": execution_id, "outcome_recorded": True, "outcome_state": None, "reason": None}
        return OutcomeReceipt.read(answer)

    def handle(self, execution_id: str, payload: dict[str, Any] | None = None) -> ExecutionContext:
        """Report the outcome when a `with` block ends: success, or the exception that left it."""
        return ExecutionContext(self, execution_id, payload)

    def list(
        self,
        *,
        cue_id: str | None = None,
        status: str | None = None,
        outcome_state: str | None = None,
        triggered_by: str | None = None,
        limit: int = 20,
        offset: int = 0,
        status__in: Sequence[str] | None = None,
        worker_id: str | None = None,
    ) -> ExecutionList:
        """Return one page of executions, newest first; `limit` is at most 100.

        The open-source server ignores `triggered_by` (contract, Q39).
        """
        arguments.check_page(limit, offset)
        return ExecutionList.read(
            self._get(
                "/v1/executions",
                cue_id=cue_id,
                status=status,
                outcome_state=outcome_state,
                triggered_by=triggered_by,
                limit=limit,
                offset=offset,
                status__in=",".join(status__in) if status__in else None,
                worker_id=worker_id,
            )
        )

    def iter(self, *, cue_id: str | None = None, status: str | None = None) -> Iterator[Execution]:
        """Yield every execution once, over all pages."""

        def page(offset: int) -> tuple[Sequence[Execution], int]:
            answer = self.list(limit=PAGE, offset=offset, cue_id=cue_id, status=status)
            return answer.executions, answer.total

        return pages(page, key=lambda execution: execution.id)

    def get(self, execution_id: str) -> Execution:
        """Return one execution."""
        return Execution.read(self._get(f"/v1/executions/{arguments.check_execution_id(execution_id)}"))

    def claimable(self, *, task: str | None = None) -> Sequence[ClaimableExecution]:
        """Return up to 50 executions that workers may claim, the oldest first.

        The open-source server takes the 50 oldest and only then filters by `task` (contract, section 9.2).
        """
        page = rows(self._get("/v1/executions/claimable", task=task), "executions")
        return [ClaimableExecution.read(each) for each in page]

    def claim(self, execution_id: str, worker_id: str) -> Claim:
        """Claim an execution for 900 s, or raise `ClaimFailedError`.

        When the answer is lost, a heartbeat with the worker's id tells whether the claim was granted; give each process
        an id of its own.
        """
        body = {"worker_id": arguments.check_worker_id(worker_id)}
        try:
            return Claim.read(self._on(execution_id, "POST", "claim", body, Repeat.CHECKED))
        except (ClaimFailedError, APIConnectionError) as error:
            if not error.repeated or not self._is_mine(execution_id, worker_id):
                raise
            return Claim.read({"claimed": True, "execution_id": execution_id, "lease_seconds": 900})

    def claim_next(self, worker_id: str) -> Claim:
        """Claim the oldest execution that waits; never sent again by the SDK.

        The open-source server may give one execution to several callers here (contract, Q26): prefer `claim`.
        """
        body = {"worker_id": arguments.check_worker_id(worker_id)}
        return Claim.read(self._send("POST", "/v1/executions/claim", body, Repeat.NEVER))

    def heartbeat(self, execution_id: str, *, worker_id: str | None = None) -> Heartbeat:
        """Keep a claim alive; with its id, a worker that has lost the claim gets `NotExecutionOwnerError`."""
        headers = {"X-Worker-Id": worker_id} if worker_id else None
        return Heartbeat.read(self._on(execution_id, "POST", "heartbeat", {}, Repeat.SAFE, headers))

    def replay(self, execution_id: str) -> FiredExecution:
        """Queue an execution that has ended once more; never sent again by the SDK."""
        return FiredExecution.read(self._on(execution_id, "POST", "replay", None, Repeat.NEVER))

    def mark_verification_pending(self, execution_id: str) -> OutcomeReceipt:
        """Put an outcome back to be verified."""
        return OutcomeReceipt.read(self._on(execution_id, "POST", "verification-pending", {}, Repeat.SAFE))

    def mark_verified(self, execution_id: str, *, valid: bool = True, reason: str | None = None) -> OutcomeReceipt:
        """Settle an outcome as valid or not."""
        body = {"valid": valid} | given(reason=reason)
        return OutcomeReceipt.read(self._on(execution_id, "POST", "verify", body, Repeat.NEVER))

    def append_evidence(
        self,
        execution_id: str,
        *,
        external_id: str | None = None,
        result_url: str | None = None,
        result_ref: str | None = None,
        result_type: str | None = None,
        summary: str | None = None,
        artifacts: Sequence[Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> OutcomeReceipt:
        """Add evidence to an outcome; the open-source server does not judge the outcome anew."""
        evidence = given(
            external_id=external_id,
            result_url=result_url,
            result_ref=result_ref,
            result_type=result_type,
            summary=summary,
            artifacts=None if artifacts is None else [*artifacts],
            metadata=metadata,
        )
        arguments.check_evidence(evidence)
        return OutcomeReceipt.read(self._on(execution_id, "PATCH", "evidence", evidence, Repeat.SAFE))

    def _on(
        self,
        execution_id: str,
        method: str,
        verb: str,
        body: Mapping[str, Any] | None,
        repeat: Repeat,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        path = f"/v1/executions/{arguments.check_execution_id(execution_id)}/{verb}"
        return self._send(method, path, body, repeat, headers)

    def _is_mine(self, execution_id: str, worker_id: str) -> bool:
        try:
            return self.heartbeat(execution_id, worker_id=worker_id).acknowledged
        except (ConflictError, NotExecutionOwnerError):
            return False
