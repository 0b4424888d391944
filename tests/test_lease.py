"""Leases are renewed while their runs last, and not after."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

from cueapi_tasks import LedgerError
from cueapi_tasks.run import lease
from cueapi_tasks.run.lease import LeaseKeeper
from cueapi_tasks.run.ledger.base import Ledger


class Renewals:
    """A ledger that only tells what it was asked to renew, and fails the first time."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.renewed = threading.Event()

    def renew(self, tokens: Sequence[str], **more: Any) -> None:
        self.seen.append([*tokens])
        if len(self.seen) == 1:
            raise LedgerError("ledger_unavailable", "locked")
        self.renewed.set()


class Locked(Renewals):
    """A ledger that cannot be written."""

    def renew(self, tokens: Sequence[str], **more: Any) -> None:
        raise LedgerError("ledger_unavailable", "locked")


def test_leases_that_cannot_be_renewed_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    keeper = LeaseKeeper(cast("Ledger", Locked()))
    keeper._tokens.add("one")
    for _ in range(3):
        keeper._renew()
    assert caplog.text.count("could not be renewed") == 1


def test_a_lease_is_renewed_while_the_run_lasts_even_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.001)
    ledger = Renewals()
    keeper = LeaseKeeper(cast("Ledger", ledger))
    for token in ("one", "two"):
        keeper.keep(token)
    assert ledger.renewed.wait(10)
    for token in ("one", "two"):
        keeper.drop(token)
    keeper.close()
    assert ledger.seen[1] == ["one", "two"]
    assert ledger.seen[-1] != []
