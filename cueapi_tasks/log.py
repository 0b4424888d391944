"""One line per event: a name and its facts, on the standard library's loggers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any


def event(logger: logging.Logger, name: str, *, level: int = logging.INFO, **facts: Any) -> None:
    """Log an event; handlers find its name and facts on the record as `event` and `facts`."""
    if logger.isEnabledFor(level):
        logger.log(level, "%s%s", name, _Line(facts), extra={"event": name, "facts": facts})


class _Line:
    """Facts as `key=value` words, each after a space, spelled only when a handler wants them."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = facts

    def __str__(self) -> str:
        return "".join(f" {key}={_word(value)}" for key, value in self._facts.items() if value is not None)


def _word(value: Any) -> str:
    text = str(value)
    plain = text.isprintable() and " " not in text and text
    return text if plain else ascii(text)
