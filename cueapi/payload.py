"""A builder for payloads in the shape that CueAPI's agents and workers expect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


class CuePayload:
    """Collects a payload key by key: `CuePayload().task("brief").kind("report").build()`."""

    def __init__(self) -> None:
        self._data: dict[str, Any] = {}

    def task(self, task_name: str) -> Self:
        """Set the routing key that workers match."""
        return self.extra("task", task_name)

    def kind(self, kind: str) -> Self:
        """Set the kind of task."""
        return self.extra("kind", kind)

    def instruction(self, text: str) -> Self:
        """Set the instruction for an agent."""
        return self.extra("instruction", text)

    def context_ref(self, ref: str) -> Self:
        """Set a reference to the context."""
        return self.extra("context_ref", ref)

    def context_mode(self, mode: str) -> Self:
        """Set the context mode: full, summary or ref_only."""
        return self.extra("context_mode", mode)

    def agent(self, agent_name: str) -> Self:
        """Set the agent's name; the open-source core does not route by it."""
        return self.extra("agent", agent_name)

    def extra(self, key: str, value: Any) -> Self:
        """Set any other key."""
        self._data[key] = value
        return self

    def build(self) -> dict[str, Any]:
        """Return the payload."""
        return dict(self._data)
