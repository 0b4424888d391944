"""What the resources share: the door they send through, and per-call options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._http import Call
from .._retry import Repeat
from ..exceptions import CueAPIError

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


def rows(answer: Mapping[str, Any], name: str) -> Sequence[Any]:
    """Return the list in an answer, or raise `CueAPIError` (`unexpected_answer`)."""
    found = answer.get(name)
    if isinstance(found, list):
        return found  # pyright: ignore[reportUnknownVariableType] - what JSON lists hold is Any
    raise _without(name, answer)


def text(answer: Mapping[str, Any], name: str) -> str:
    """Return the text in an answer, or raise `CueAPIError` (`unexpected_answer`)."""
    found = answer.get(name)
    if isinstance(found, str):
        return found
    raise _without(name, answer)


def _without(name: str, answer: Mapping[str, Any]) -> CueAPIError:
    return CueAPIError(f"the server's answer has no {name}", code="unexpected_answer", body=answer)


def given(**fields: Any) -> dict[str, Any]:
    """Return the arguments that were given."""
    return {name: value for name, value in fields.items() if value is not None}


CONFIRMED = {"X-Confirm-Destructive": "true"}
"""What the service wants to see before it replaces a key or a secret (contract, Q64)."""
