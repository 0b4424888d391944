"""Cues: create, list, read, change, delete and fire them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from .._http import Call, Http
from .._retry import Repeat
from ..exceptions import InvalidArgumentError
from ..models import Cue, CueList, FiredExecution
from ..pagination import pages

PAGE = 100
"""The largest page that the server gives."""


class CuesResource:
    """Manage the account's cues."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def create(
        self,
        name: str,
        *,
        cron: str | None = None,
        at: str | datetime | None = None,
        timezone: str = "UTC",
        callback: str | None = None,
        callback_method: str = "POST",
        callback_headers: Mapping[str, str] | None = None,
        transport: str = "webhook",
        payload: Mapping[str, Any] | None = None,
        description: str | None = None,
        retry: Mapping[str, Any] | None = None,
        on_failure: Mapping[str, Any] | None = None,
        verification: Mapping[str, Any] | None = None,
    ) -> Cue:
        """Create a cue; exactly one of `cron` and `at` says when it fires."""
        schedule = _schedule(cron, at, timezone)
        if schedule is None:
            raise InvalidArgumentError("give cron= for a recurring cue, or at= for a one-time cue")
        body: dict[str, Any] = {"name": name, "schedule": schedule, "transport": transport}
        body["payload"] = dict(payload or {})
        if callback is not None:
            body["callback"] = _callback(callback, callback_method, callback_headers)
        body |= _given(description=description, retry=retry, on_failure=on_failure, verification=verification)
        return self._cue("POST", "/v1/cues", body, Repeat.NEVER)

    def list(self, *, limit: int = 20, offset: int = 0, status: str | None = None) -> CueList:
        """Return one page of cues, newest first; `limit` is at most 100."""
        params = {"limit": limit, "offset": offset, "status": status}
        return CueList.model_validate(self._get("/v1/cues", params))

    def iter(self, *, status: str | None = None) -> Iterator[Cue]:
        """Yield every cue once, over all pages."""

        def page(offset: int) -> tuple[list[Cue], int]:
            answer = self.list(limit=PAGE, offset=offset, status=status)
            return answer.cues, answer.total

        return pages(page, key=lambda cue: cue.id)

    def get(self, cue_id: str) -> Cue:
        """Return one cue."""
        return Cue.model_validate(self._get(f"/v1/cues/{cue_id}"))

    def update(
        self,
        cue_id: str,
        *,
        name: str | None = None,
        description: str | None = None,
        status: str | None = None,
        cron: str | None = None,
        at: str | datetime | None = None,
        timezone: str | None = None,
        callback: str | None = None,
        callback_method: str | None = None,
        callback_headers: Mapping[str, str] | None = None,
        payload: Mapping[str, Any] | None = None,
        retry: Mapping[str, Any] | None = None,
        on_failure: Mapping[str, Any] | None = None,
        verification: Mapping[str, Any] | None = None,
    ) -> Cue:
        """Change what is given and nothing else.

        The server replaces `schedule` and `callback` whole, so that a part of one of them is completed with what
        the cue has now, which costs a read.
        """
        body = _given(
            name=name,
            description=description,
            status=status,
            payload=payload,
            retry=retry,
            on_failure=on_failure,
            verification=verification,
        )
        when = (cron, at, timezone)
        where = (callback, callback_method, callback_headers)
        if any(part is not None for part in when):
            body["schedule"] = self._whole_schedule(cue_id, *when)
        if any(part is not None for part in where):
            body["callback"] = self._whole_callback(cue_id, *where)
        return self._cue("PATCH", f"/v1/cues/{cue_id}", body, Repeat.SAFE)

    def pause(self, cue_id: str) -> Cue:
        """Stop a cue from firing."""
        return self.update(cue_id, status="paused")

    def resume(self, cue_id: str) -> Cue:
        """Let a paused cue fire again; runs missed meanwhile are not made up for."""
        return self.update(cue_id, status="active")

    def delete(self, cue_id: str) -> None:
        """Delete a cue and its executions."""
        self._http.send(Call(method="DELETE", path=f"/v1/cues/{cue_id}", repeat=Repeat.SAFE))

    def fire(self, cue_id: str, *, send_at: datetime | None = None) -> FiredExecution:
        """Queue an execution now, or at `send_at` (aware); never repeated by the SDK, since each call makes one."""
        if send_at is not None and send_at.tzinfo is None:
            raise InvalidArgumentError("send_at needs a UTC offset, as datetime.now(timezone.utc) has")
        body = {"send_at": send_at.isoformat()} if send_at else {}
        call = Call(method="POST", path=f"/v1/cues/{cue_id}/fire", json=body, repeat=Repeat.NEVER)
        return FiredExecution.model_validate(self._http.send(call))

    def _get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        return self._http.send(Call(method="GET", path=path, params=params, repeat=Repeat.SAFE))

    def _cue(self, method: str, path: str, body: Mapping[str, Any], repeat: Repeat) -> Cue:
        return Cue.model_validate(self._http.send(Call(method=method, path=path, json=body, repeat=repeat)))

    def _whole_schedule(
        self, cue_id: str, cron: str | None, at: str | datetime | None, timezone: str | None
    ) -> dict[str, Any]:
        if timezone is not None and (cron is not None or at is not None):
            return _schedule(cron, at, timezone) or {}
        now = self.get(cue_id).schedule
        if cron is None and at is None:
            cron, at = now.cron, None if now.type == "recurring" else now.at
        return _schedule(cron, at, timezone or now.timezone) or {}

    def _whole_callback(
        self, cue_id: str, url: str | None, method: str | None, headers: Mapping[str, str] | None
    ) -> dict[str, Any]:
        if url is not None and method is not None and headers is not None:
            return _callback(url, method, headers)
        now = self.get(cue_id).callback
        return _callback(
            url if url is not None else now.url,
            method if method is not None else now.method,
            headers if headers is not None else now.headers,
        )


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _schedule(cron: str | None, at: str | datetime | None, timezone: str) -> dict[str, Any] | None:
    if cron is not None and at is not None:
        raise InvalidArgumentError("give either cron= or at=, not both")
    if cron is not None:
        return {"type": "recurring", "cron": cron, "timezone": timezone}
    if at is not None:
        moment = at.isoformat() if isinstance(at, datetime) else at
        return {"type": "once", "at": moment, "timezone": timezone}
    return None


def _callback(url: str | None, method: str, headers: Mapping[str, str] | None) -> dict[str, Any]:
    return {"url": url, "method": method, "headers": dict(headers or {})}
