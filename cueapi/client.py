"""The client: where the resources, the settings and the HTTP door come together."""

from __future__ import annotations

import os
from types import TracebackType

import httpx

from ._http import Call, Http
from ._retry import Repeat, RetryPolicy
from .models import Account
from .resources.cues import CuesResource
from .resources.executions import ExecutionsResource

DEFAULT_BASE_URL = "https://api.cueapi.ai"
DEFAULT_TIMEOUT = 30.0
USER_AGENT = "cueapi-tasks"


class CueAPI:
    """A client of CueAPI's HTTP API; use it as a context manager or call `close`.

    `api_key` and `base_url` fall back on `CUEAPI_API_KEY` and `CUEAPI_BASE_URL`; `timeout` is in seconds. An
    `http_client` brings its own transport, proxies or certificates.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        max_retries: int = 2,
        http_client: httpx.Client | None = None,
    ) -> None:
        key = api_key or os.environ.get("CUEAPI_API_KEY")
        if not key:
            raise ValueError("api_key is required: pass it, or set CUEAPI_API_KEY")
        url = base_url or os.environ.get("CUEAPI_BASE_URL") or DEFAULT_BASE_URL
        client = http_client or httpx.Client(timeout=timeout)
        client.base_url = httpx.URL(url.rstrip("/").removesuffix("/v1"))
        client.headers.update({"Authorization": f"Bearer {key}", "User-Agent": USER_AGENT})
        self._http = Http(client, RetryPolicy(max_retries=max_retries))
        self.base_url = str(client.base_url).rstrip("/")
        self.cues = CuesResource(self._http)
        self.executions = ExecutionsResource(self._http)

    def me(self) -> Account:
        """Return the account that the API key belongs to."""
        return Account.model_validate(self._http.send(Call(method="GET", path="/v1/auth/me", repeat=Repeat.SAFE)))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> CueAPI:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"CueAPI(base_url={self.base_url!r})"
