"""The ledger: who runs an execution now, how it ended, and whether that was reported; one module a store."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from ...config import sqlite_path
from ...errors import ConfigurationError
from .base import Ledger
from .memory import MemoryLedger
from .sqlite import SqliteLedger

if TYPE_CHECKING:
    from .postgres import PostgresLedger

_POSTGRES = ("postgresql", "postgres")


def open_ledger(url: str) -> Ledger:
    """Return the ledger that a URL names; what it opens is opened on its first use.

    Raises:
        ConfigurationError: The URL names no ledger, or one whose library is not installed.
    """
    if (path := sqlite_path(url)) is not None:
        return SqliteLedger(path)
    scheme = url.partition(":")[0]
    if scheme == "memory":
        return MemoryLedger()
    if scheme in ("redis", "rediss"):
        return _redis(url)
    if scheme in _POSTGRES:
        return _postgres(url)
    if scheme == "sqlite":
        raise ConfigurationError("bad_ledger", f"{url!r} names no file; write sqlite:///path, with three slashes")
    known = "sqlite:///path/to/ledger.db, memory:, redis://host/0 or postgresql://host/database"
    raise ConfigurationError("unknown_ledger", f"the ledger {scheme!r} is not known; use {known}")


def init_ledger(url: str) -> None:
    """Make what the ledger of a URL must find on its first use, in PostgreSQL a table, and see that it can be used.

    Raises:
        ConfigurationError: As `open_ledger` does.
        LedgerError: The table could not be made, or the ledger not be read.
    """
    if url.partition(":")[0] in _POSTGRES:
        with closing(_postgres(url)) as ledger:
            ledger.init()
    with closing(open_ledger(url)) as opened:
        opened.unreported("", limit=1)


def _redis(url: str) -> Ledger:
    try:
        from .redis import RedisLedger  # noqa: PLC0415 - its library is an extra
    except ImportError as error:
        raise _missing("Redis", "redis") from error
    return RedisLedger(url)


def _postgres(url: str) -> PostgresLedger:
    try:
        from .postgres import PostgresLedger  # noqa: PLC0415 - its library is an extra
    except ImportError as error:
        raise _missing("PostgreSQL", "postgres") from error
    return PostgresLedger(url)


def _missing(store: str, extra: str) -> ConfigurationError:
    return ConfigurationError(
        "missing_extra", f"a ledger in {store} needs a library: pip install 'cueapi-tasks[{extra}]'"
    )
