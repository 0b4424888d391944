"""The ledger: who runs an execution now, how it ended, and whether that was reported; one module a store."""

from __future__ import annotations

from ...config import sqlite_path
from ...errors import ConfigurationError
from .base import Ledger
from .sqlite import SqliteLedger


def open_ledger(url: str) -> Ledger:
    """Return the ledger that a URL names; a file is opened, and made, on its first use."""
    path = sqlite_path(url)
    if path is None:
        scheme = url.partition(":")[0]
        raise ConfigurationError(
            "unknown_ledger", f"the ledger {scheme!r} is not known; use sqlite:///path/to/ledger.db"
        )
    return SqliteLedger(path)
