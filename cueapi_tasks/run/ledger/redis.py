"""The ledger in Redis 5 or later, for several machines; the one door to redis-py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ...errors import ConfigurationError, LedgerError
from ..outcome import Outcome
from .base import KEEP_SECONDS, Answer, Claim, Claimed, Died, Entry, Finished, Lapsed, Report, Running
from .tokens import execution_of, make_token
from .urls import without_secrets
from .values import dump_delivery, dump_outcome, load_outcome

ANSWER_SECONDS = 5.0
"""How long a connection or an answer may take, unless the URL says otherwise."""


class RedisLedger:
    """A ledger of hashes and sorted sets under `cueapi-tasks:`; each method is one script, one step for all clients.

    Finished rows expire once they are reported. A server that evicts keys (`maxmemory-policy`) or keeps nothing on
    disk forgets what ran. Nothing is sent a second time: an idle connection that the server has closed is replaced
    before anything is sent, and one that breaks later fails its call.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            self._client = redis.from_url(
                url,
                decode_responses=True,
                protocol=2,  # all that Redis 5 speaks
                retry=Retry(NoBackoff(), 0),
                socket_timeout=ANSWER_SECONDS,
                socket_connect_timeout=ANSWER_SECONDS,
            )
            pool = self._client.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # opens nothing, and knows every option
        except (TypeError, ValueError):
            message = "the ledger's URL, or an option in it, is not one of Redis: redis://user:password@host:6379/0"
            raise ConfigurationError("bad_ledger", message) from None  # the cause may show the password
        script = files("cueapi_tasks.run.ledger").joinpath("redis.lua").read_text("utf-8")
        self._script = self._client.register_script(script)

    def claim(self, entry: Entry, *, lease: float) -> Claim:
        """Take and start it; see `Ledger.claim`."""
        return self._take("claim", entry, lease)

    def hold(self, entry: Entry, *, lease: float) -> Claim:
        """Take it without starting it; see `Ledger.hold`."""
        return self._take("hold", entry, lease)

    def start(self, entry: Entry, token: str) -> Claimed | None:
        """Start what is held; see `Ledger.start`."""
        answer = self._run("start", **_row(entry), token=token)
        return _claimed(answer) if answer else None

    def postpone(self, execution_id: str, token: str, *, attempt: int, delay: float) -> bool:
        """Keep it for a later attempt; see `Ledger.postpone`."""
        return self._agreed("postpone", id=execution_id, token=token, attempt=attempt, delay=_milliseconds(delay))

    def renew(self, tokens: Sequence[str], *, lease: float) -> None:
        """Extend leases; see `Ledger.renew`."""
        if tokens:
            owned = [{"id": execution_of(token), "token": token} for token in tokens]
            self._run("renew", tokens=owned, lease=_milliseconds(lease))

    def abandon(self, tokens: Sequence[str]) -> None:
        """End leases; see `Ledger.abandon`."""
        self.renew(tokens, lease=0.0)

    def forget(self, execution_id: str, token: str) -> None:
        """Remove it; see `Ledger.forget`."""
        self._run("forget", id=execution_id, token=token)

    def release(self, execution_id: str, token: str, *, max_attempts: int) -> bool:
        """Give it back; see `Ledger.release`."""
        return self._agreed("release", id=execution_id, token=token, max_attempts=max_attempts)

    def finish(self, execution_id: str, token: str, answer: Answer, outcome: Outcome) -> bool:
        """Record the end; see `Ledger.finish`."""
        ended = {"status": answer.status, "answer": json.dumps(answer.body), "outcome": dump_outcome(outcome)}
        return self._agreed("finish", id=execution_id, token=token, **ended)

    def lapsed(self, scope: str, *, transport: str, limit: int) -> Sequence[Lapsed]:
        """Return what nobody holds; see `Ledger.lapsed`."""
        return [
            Lapsed(execution_id=each, delivery=json.loads(delivery), attempt=attempt, retry_in=wait / 1000)
            for each, delivery, attempt, wait in self._run("lapsed", scope=scope, transport=transport, limit=limit)
        ]

    def died(self, scope: str, *, since: float, limit: int) -> Sequence[Died]:
        """Return what died in its last attempt; see `Ledger.died`."""
        found = self._run("died", scope=scope, since=_milliseconds(since), limit=limit)
        return [Died(*each) for each in found]

    def unreported(self, scope: str, *, limit: int) -> Sequence[Report]:
        """Return what is to be reported; see `Ledger.unreported`."""
        return [
            Report(execution_id=each, task=task, outcome=load_outcome(outcome), age=age / 1000)
            for each, task, outcome, age in self._run("unreported", scope=scope, limit=limit)
        ]

    def reported(self, execution_id: str, *, accepted: bool) -> None:
        """Note that reporting has ended, and let the row expire; see `Ledger.reported`."""
        said = "yes" if accepted else "no"
        self._run("reported", id=execution_id, accepted=said, keep=_milliseconds(KEEP_SECONDS))

    def purge(self, scope: str, *, age: float, limit: int) -> int:
        """Remove old executions that were never reported; the others expire by themselves."""
        removed: int = self._run("purge", scope=scope, age=_milliseconds(age), limit=limit)
        return removed

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _take(self, how: str, entry: Entry, lease: float) -> Claim:
        token = make_token(entry.execution_id)
        answer = self._run(how, **_row(entry), token=token, lease=_milliseconds(lease))
        if answer[0] == "finished":
            return Finished(answer=Answer(status=int(answer[1]), body=json.loads(answer[2])))
        return _claimed(answer) if answer[0] == "claimed" else Running()

    def _agreed(self, transaction: str, **arguments: Any) -> bool:
        return bool(self._run(transaction, **arguments))

    def _run(self, transaction: str, **arguments: Any) -> Any:
        try:
            return self._script(args=[transaction, json.dumps(arguments)])
        except redis.RedisError as error:
            message = f"the ledger {without_secrets(self._url)} cannot be used: {error}"
            raise LedgerError("ledger_unavailable", message) from error


def _row(entry: Entry) -> dict[str, Any]:
    """Return what the scripts are told of an execution; what it does not have is left out."""
    row = {
        "id": entry.execution_id,
        "scope": entry.scope,
        "task": entry.task,
        "cue_id": entry.cue_id,
        "transport": entry.transport,
        "attempt": entry.attempt,
        "max_attempts": entry.max_attempts,
        "decision": entry.decision,
        "exclusive": entry.exclusive,
        "delivery": dump_delivery(entry.delivery),
    }
    return {name: value for name, value in row.items() if value is not None}


def _claimed(answer: Sequence[Any]) -> Claimed:
    _, token, starts, attempt, decision, crashed = answer
    return Claimed(token=token, starts=starts, attempt=attempt, decision=decision or None, crashed=crashed == "yes")


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
