"""Executions: read them, and report what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._http import Call, Http
from .._retry import Repeat
from ..models import Execution, ExecutionList


class ExecutionsResource:
    """Read the account's executions and report their outcomes."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def list(
        self,
        *,
        cue_id: str | None = None,
        status: str | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> ExecutionList:
        """Return one page of executions, newest first; `limit` is at most 100."""
        params = {"cue_id": cue_id, "status": status, "limit": limit, "offset": offset}
        call = Call(method="GET", path="/v1/executions", params=params, repeat=Repeat.SAFE)
        return ExecutionList.model_validate(self._http.send(call))

    def get(self, execution_id: str) -> Execution:
        """Return one execution."""
        call = Call(method="GET", path=f"/v1/executions/{execution_id}", repeat=Repeat.SAFE)
        return Execution.model_validate(self._http.send(call))

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
        result_ref: str | None = None,
        result_type: str | None = None,
        summary: str | None = None,
        artifacts: Sequence[Any] | None = None,
    ) -> dict[str, Any]:
        """Record what became of an execution; the server takes this once and answers 409 from then on."""
        given = {
            "result": result,
            "error": error,
            "metadata": metadata,
            "external_id": external_id,
            "result_url": result_url,
            "result_ref": result_ref,
            "result_type": result_type,
            "summary": summary,
            "artifacts": None if artifacts is None else [*artifacts],
        }
        body = {"success": success} | {name: value for name, value in given.items() if value is not None}
        path = f"/v1/executions/{execution_id}/outcome"
        answer: dict[str, Any] = self._http.send(Call(method="POST", path=path, json=body, repeat=Repeat.SAFE))
        return answer
