"""The client: where the resources, the settings and the HTTP door come together."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

import httpx

from ._http import Call, Http, LastAnswer
from ._retry import Repeat, RetryPolicy
from .exceptions import InvalidArgumentError
from .models import Account, Usage
from .resources.account import AlertsResource, WebhookSecretResource, WorkersResource
from .resources.cues import CuesResource
from .resources.executions import ExecutionsResource

if TYPE_CHECKING:
    from typing_extensions import Self

DEFAULT_BASE_URL = "https://api.cueapi.ai"
DEFAULT_TIMEOUT = 30.0
"""Seconds that a request may take."""
DEFAULT_MAX_RETRIES = 2
USER_AGENT = "cueapi-tasks"


class CueAPI:
    """A client of CueAPI's HTTP API; safe to share between threads; use it as a context manager or call `close`.

    `api_key` and `base_url` (with or without `/v1`) fall back on `CUEAPI_API_KEY` and `CUEAPI_BASE_URL`; `timeout` is
    in seconds. An `http_client` brings its own transport, proxies or certificates.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        max_retries: int = DEFAULT_MAX_RETRIES,
        http_client: httpx.Client | None = None,
    ) -> None:
        key = api_key or os.environ.get("CUEAPI_API_KEY")
        if not key:
            raise ValueError("api_key is required: pass it, or set CUEAPI_API_KEY")
        if not key.isascii() or not key.isprintable():
            raise InvalidArgumentError("api_key must be ASCII: it goes into a header", field="api_key")
        url = base_url or os.environ.get("CUEAPI_BASE_URL") or DEFAULT_BASE_URL
        client = http_client or httpx.Client(timeout=timeout)
        try:
            client.base_url = httpx.URL(url.rstrip("/").removesuffix("/v1"))
        except httpx.InvalidURL as error:
            raise InvalidArgumentError(f"base_url {url!r} is no URL: {error}", field="base_url") from error
        client.headers.update({"Authorization": f"Bearer {key}", "User-Agent": USER_AGENT})
        self.base_url = str(client.base_url).rstrip("/")
        self._over(Http(client, RetryPolicy(max_retries=max_retries)))

    def _over(self, http: Http) -> None:
        self.http = http
        self.cues = CuesResource(self)
        self.executions = ExecutionsResource(self)
        self.workers = WorkersResource(self)
        self.alerts = AlertsResource(self)
        self.webhook_secret = WebhookSecretResource(self)

    def with_options(
        self,
        *,
        timeout: float | None = None,
        max_retries: int | None = None,
        wait: Callable[[float], None] | None = None,
    ) -> Self:
        """Return a client over the same connections for calls with another timeout or number of retries.

        `client.with_options(timeout=3, max_retries=0).cues.list()`; `wait` is called in place of `time.sleep` with the
        seconds until the next try.
        """
        other = copy.copy(self)
        other._over(self.http.with_options(timeout=timeout, max_retries=max_retries, wait=wait))
        return other

    @property
    def last_answer(self) -> LastAnswer:
        """The server's clock and the rate limit, as the newest answer gave them."""
        return self.http.last

    def me(self) -> Account:
        """Return the account that the API key belongs to."""
        return Account.read(self.http.send(Call(method="GET", path="/v1/auth/me", repeat=Repeat.SAFE)))

    def usage(self) -> Usage:
        """Return what the account used of its plan this month."""
        return Usage.read(self.http.send(Call(method="GET", path="/v1/usage", repeat=Repeat.SAFE)))

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"CueAPI(base_url={self.base_url!r})"
