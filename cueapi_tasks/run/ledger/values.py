"""Answers and outcomes as the JSON text that a store keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..outcome import Outcome


def dump_outcome(outcome: Outcome) -> str:
    """Return an outcome as text."""
    return json.dumps({"success": outcome.success, "evidence": outcome.evidence})


def load_outcome(text: str) -> Outcome:
    """Return the outcome that the text holds."""
    value = json.loads(text)
    return Outcome(success=value["success"], evidence=value["evidence"])


def dump_delivery(delivery: Mapping[str, Any] | None) -> str | None:
    """Return a delivery as text, or None where there is none to keep."""
    return None if delivery is None else json.dumps(delivery)
