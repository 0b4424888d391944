"""What the resources share: the door they send through, and per-call options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._http import Call
from .._retry import Repeat

if TYPE_CHECKING:
    from .._http import Http
    from ..client import CueAPI


class Resource:
    """One part of the API, reached through a client."""

    def __init__(self, client: CueAPI) -> None:
        self._http: Http = client.http

    def _get(self, path: str, **params: Any) -> Any:
        return self._http.send(Call(method="GET", path=path, params=params, repeat=Repeat.SAFE))

    def _send(
        self,
        method: str,
        path: str,
        json: Mapping[str, Any] | None,
        repeat: Repeat,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        return self._http.send(Call(method=method, path=path, json=json, repeat=repeat, headers=headers))


def given(**fields: Any) -> dict[str, Any]:
    """Return the arguments that were given."""
    return {name: value for name, value in fields.items() if value is not None}


CONFIRMED = {"X-Confirm-Destructive": "true"}
"""What the service wants to see before it replaces a key or a secret (contract, Q64)."""
