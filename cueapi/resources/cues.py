"""Cues: create, list, read, change, delete and fire them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from .. import arguments
from .._retry import Repeat
from ..exceptions import CueNotFoundError, DuplicateCueNameError, InvalidArgumentError
from ..models import Cue, CueList, FiredExecution
from ..pagination import pages
from .base import Resource, given

PAGE = 100
"""The largest page that the server gives."""


class CuesResource(Resource):
    """Manage the account's cues."""

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
        """Create a cue; exactly one of `cron` and `at` says when it fires.

        Sent again after a lost answer: a duplicate name then means that it was made, and that cue is returned.
        """
        arguments.check_method(callback_method)
        schedule = _schedule(cron, at, timezone)
        if schedule is None:
            raise InvalidArgumentError("give cron= for a recurring cue, or at= for a one-time cue", field="cron")
        body: dict[str, Any] = {"name": name, "schedule": schedule, "transport": transport}
        body["payload"] = dict(payload or {})
        if callback is not None:
            body["callback"] = _callback(callback, callback_method, callback_headers)
        body |= given(description=description, retry=retry, on_failure=on_failure, verification=verification)
        _check(body)
        try:
            return Cue.read(self._send("POST", "/v1/cues", body, Repeat.CHECKED))
        except DuplicateCueNameError as error:
            made = self._newest_named(name) if error.repeated else None
            if made is None:
                raise
            return made

    def list(self, *, limit: int = 20, offset: int = 0, status: str | None = None) -> CueList:
        """Return one page of cues, newest first; `limit` is at most 100."""
        arguments.check_page(limit, offset)
        return CueList.read(self._get("/v1/cues", limit=limit, offset=offset, status=status))

    def iter(self, *, status: str | None = None) -> Iterator[Cue]:
        """Yield every cue once, over all pages; a list that never stands still is an error (`list_moved`)."""

        def page(offset: int) -> tuple[list[Cue], int]:
            answer = self.list(limit=PAGE, offset=offset, status=status)
            return answer.cues, answer.total

        return pages(page, key=lambda cue: cue.id)

    def get(self, cue_id: str, *, execution_limit: int | None = None, execution_offset: int | None = None) -> Cue:
        """Return one cue with its newest executions, 10 if nothing else is asked for."""
        path = f"/v1/cues/{arguments.check_id('cue_id', cue_id)}"
        return Cue.read(self._get(path, execution_limit=execution_limit, execution_offset=execution_offset))

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
        payload: Mapping[str, Any] | None = None,
        retry: Mapping[str, Any] | None = None,
        on_failure: Mapping[str, Any] | None = None,
        callback_method: str | None = None,
        callback_headers: Mapping[str, str] | None = None,
        verification: Mapping[str, Any] | None = None,
    ) -> Cue:
        """Change what is given and nothing else.

        The server replaces `schedule`, `callback`, `retry` and `on_failure` whole (contract, Q12), so that a part of
        one of them is completed with what the cue has now, which costs a read.
        """
        arguments.check_method(callback_method)
        body = given(name=name, description=description, status=status, payload=payload, verification=verification)
        parts = _Parts(
            when=(cron, at, timezone),
            where=(callback, callback_method, callback_headers),
            retry=retry,
            on_failure=on_failure,
        )
        body |= parts.whole(self.get(cue_id) if parts.need_the_rest else None)
        _check(body)
        path = f"/v1/cues/{arguments.check_id('cue_id', cue_id)}"
        return Cue.read(self._send("PATCH", path, body, Repeat.SAFE))

    def pause(self, cue_id: str) -> Cue:
        """Stop a cue from firing."""
        return self.update(cue_id, status="paused")

    def resume(self, cue_id: str) -> Cue:
        """Let a paused cue fire again; runs missed meanwhile are not made up for."""
        return self.update(cue_id, status="active")

    def delete(self, cue_id: str) -> None:
        """Delete a cue and its executions; not found after a lost answer means that it is done."""
        try:
            self._send("DELETE", f"/v1/cues/{arguments.check_id('cue_id', cue_id)}", None, Repeat.CHECKED)
        except CueNotFoundError as error:
            if not error.repeated:
                raise

    def fire(
        self,
        cue_id: str,
        *,
        send_at: datetime | None = None,
        payload_override: Mapping[str, Any] | None = None,
        merge_strategy: str | None = None,
        idempotency_key: str | None = None,
    ) -> FiredExecution:
        """Queue an execution now, or at `send_at` (aware); never sent again by the SDK, since each call makes one.

        The open-source server drops every key but `send_at` with a 200 (contract, Q19): only the delivered payload
        shows whether an override took effect.
        """
        arguments.check_moment("send_at", send_at)
        body = given(
            send_at=send_at.isoformat() if send_at else None,
            payload_override=payload_override,
            merge_strategy=merge_strategy,
            idempotency_key=idempotency_key,
        )
        arguments.check_json("payload_override", payload_override)
        path = f"/v1/cues/{arguments.check_id('cue_id', cue_id)}/fire"
        return FiredExecution.read(self._send("POST", path, body, Repeat.NEVER))

    def _newest_named(self, name: str) -> Cue | None:
        return next((cue for cue in self.list(limit=PAGE).cues if cue.name == name), None)


class _Parts:
    """The sub-objects of an update, of which each may be given in part."""

    def __init__(
        self,
        *,
        when: tuple[str | None, str | datetime | None, str | None],
        where: tuple[str | None, str | None, Mapping[str, str] | None],
        retry: Mapping[str, Any] | None,
        on_failure: Mapping[str, Any] | None,
    ) -> None:
        self._when, self._where, self._retry, self._on_failure = when, where, retry, on_failure

    @property
    def need_the_rest(self) -> bool:
        """Whether the cue must be read to complete one of them."""
        cron, at, zone = self._when
        when = zone is not None if cron is None and at is None else zone is None
        where = any(part is not None for part in self._where) and None in self._where
        retry = self._retry is not None and not {"max_attempts", "backoff_minutes"} <= self._retry.keys()
        failure = self._on_failure is not None and not {"email", "webhook", "pause"} <= self._on_failure.keys()
        return when or where or retry or failure

    def whole(self, now: Cue | None) -> dict[str, Any]:
        """Return the sub-objects that change, complete."""
        body: dict[str, Any] = {}
        if any(part is not None for part in self._when):
            body["schedule"] = self._schedule(now)
        if any(part is not None for part in self._where):
            url, method, headers = self._where
            if now is not None:
                url, method = url or now.callback.url, method or now.callback.method
                headers = now.callback.headers if headers is None else headers
            body["callback"] = _callback(url, method or "POST", headers)
        if self._retry is not None:
            body["retry"] = (now.retry.model_dump() if now else {}) | dict(self._retry)
        if self._on_failure is not None:
            before = now.on_failure.model_dump() if now and now.on_failure else {}
            body["on_failure"] = before | dict(self._on_failure)
        return body

    def _schedule(self, now: Cue | None) -> dict[str, Any] | None:
        cron, at, zone = self._when
        if now is None:
            return _schedule(cron, at, zone or "UTC")
        if cron is None and at is None:
            cron, at = now.schedule.cron, None if now.schedule.type == "recurring" else now.schedule.at
            cron = None if at is not None else cron
        return _schedule(cron, at, zone or now.schedule.timezone)


def _check(body: Mapping[str, Any]) -> None:
    arguments.check_name(body.get("name"))
    arguments.check_retry(body.get("retry"))
    for field, value in body.items():
        arguments.check_json(field, value)


def _schedule(cron: str | None, at: str | datetime | None, timezone: str) -> dict[str, Any] | None:
    arguments.check_schedule(cron, timezone)
    if cron is not None and at is not None:
        raise InvalidArgumentError("give either cron= or at=, not both", field="at")
    if cron is not None:
        return {"type": "recurring", "cron": cron, "timezone": timezone}
    if at is not None:
        moment = at.isoformat() if isinstance(at, datetime) else at
        return {"type": "once", "at": moment, "timezone": timezone}
    return None


def _callback(url: str | None, method: str, headers: Mapping[str, str] | None) -> dict[str, Any]:
    return {"url": url, "method": method, "headers": dict(headers or {})}
