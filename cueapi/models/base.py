"""What all answers share: typed, frozen, tolerant of unknown fields, and readable as the mapping that was received."""

from __future__ import annotations

from collections.abc import Iterator, KeysView, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from ..exceptions import CueAPIError

if TYPE_CHECKING:
    from typing_extensions import Self


class Model(BaseModel):
    """Base of all answers: frozen, tolerant of unknown fields, which it keeps."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @classmethod
    def read(cls, received: Mapping[str, Any]) -> Self:
        """Return the answer for what was received, or raise `CueAPIError` (`unexpected_answer`)."""
        try:
            return cls.model_validate(received)
        except ValidationError as error:
            message = f"the server's answer is no {cls.__name__}: {error.error_count()} fields do not fit"
            raise CueAPIError(message, code="unexpected_answer", body=received) from error


class Record(Model):
    """An answer that code written for cueapi-sdk 0.1.3 reads as a dict: `answer["status"]` is the raw JSON value."""

    _received: Mapping[str, Any] = PrivateAttr(default_factory=dict[str, Any])

    @classmethod
    def read(cls, received: Mapping[str, Any]) -> Self:
        """Return the answer for what was received."""
        record = super().read(received)
        record._received = received
        return record

    def __getitem__(self, key: str) -> Any:
        return self._received[key]

    def __contains__(self, key: object) -> bool:
        return key in self._received

    def __len__(self) -> int:
        return len(self._received)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # as a mapping iterates, not as a model does
        return iter(self._received)

    def keys(self) -> KeysView[str]:
        """Return the names that were received."""
        return self._received.keys()

    def get(self, key: str, default: Any = None) -> Any:
        """Return a received value, or the default."""
        return self._received.get(key, default)
