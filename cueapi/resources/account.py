"""Workers, alerts and the webhook secret: what belongs to the account rather than to a cue."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from .. import arguments
from .._retry import Repeat
from ..exceptions import InvalidArgumentError, WorkerNotFoundError
from ..models import AlertList, Heartbeat, Worker
from .base import CONFIRMED, Resource, given, rows, text


class WorkersResource(Resource):
    """The account's pull workers."""

    def heartbeat(self, worker_id: str, *, handlers: Sequence[str] | None = None) -> Heartbeat:
        """Say that a worker is alive; its handlers are for information, the server routes nothing by them."""
        arguments.check_handlers(handlers)
        body = {"worker_id": arguments.check_worker_id(worker_id)} | given(handlers=handlers and [*handlers])
        return Heartbeat.read(self._send("POST", "/v1/worker/heartbeat", body, Repeat.SAFE))

    def list(self) -> Sequence[Worker]:
        """Return the workers, the last heard of first."""
        return [Worker.read(each) for each in rows(self._get("/v1/workers"), "workers")]

    def delete(self, worker_id: str) -> None:
        """Forget a worker; not found after a lost answer means that it is done."""
        try:
            self._send("DELETE", f"/v1/workers/{arguments.check_id('worker_id', worker_id)}", None, Repeat.CHECKED)
        except WorkerNotFoundError as error:
            if not error.repeated:
                raise


class AlertsResource(Resource):
    """What a person should know of."""

    def list(
        self, *, alert_type: str | None = None, since: datetime | None = None, limit: int = 20, offset: int = 0
    ) -> AlertList:
        """Return one page of alerts, newest first; `limit` is at most 100, `since` is aware."""
        arguments.check_page(limit, offset)
        arguments.check_moment("since", since)
        moment = since.isoformat() if since else None
        return AlertList.read(self._get("/v1/alerts", alert_type=alert_type, since=moment, limit=limit, offset=offset))


class WebhookSecretResource(Resource):
    """The secret that deliveries are signed with."""

    def get(self) -> str:
        """Return the secret."""
        return text(self._get("/v1/auth/webhook-secret"), "webhook_secret")

    def regenerate(self, *, confirm: bool) -> str:
        """Replace the secret, at once and without overlap, and return the new one; never sent again by the SDK.

        Deliveries that wait already keep the old secret: let the receiver accept both for a while (contract, Q49).
        """
        if not confirm:
            raise InvalidArgumentError("confirm must be True: every receiver needs the new secret", field="confirm")
        path = "/v1/auth/webhook-secret/regenerate"
        return text(self._send("POST", path, None, Repeat.NEVER, CONFIRMED), "webhook_secret")
