"""Every statement of the server: each method is one, run inside a caller's `atomic` block."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from .database import Database, Values, from_micros, row_of, to_micros, where_clause
from .records import Account, Alert, Cue, CueStatus, Execution, Page, Worker


class Store(Database):
    """The server's tables."""

    # accounts

    def put_account(self, account: Account, api_key_sha256: str) -> None:
        """Insert the account, or write it over the one of that email."""
        row = row_of(account) | {"api_key_sha256": api_key_sha256}
        self._insert("account", row, conflict="OR IGNORE")
        self._db.execute(
            "UPDATE account SET api_key_sha256 = ?, api_key_prefix = ?, webhook_secret = ? WHERE email = ?",
            (api_key_sha256, account.api_key_prefix, account.webhook_secret, account.email),
        )

    def update_account(self, account: Account) -> None:
        """Write an account's fields."""
        self._update("account", row_of(account))

    def account_by_email(self, email: str) -> Account | None:
        """Return the account of an email address."""
        return self._one(Account, "SELECT * FROM account WHERE email = ?", (email,))

    def rotate_key(self, account: Account, api_key_sha256: str, now: datetime) -> None:
        """Give an account another key, and remember the old one for its error."""
        micros = to_micros(now)
        old = "SELECT api_key_sha256, ? FROM account WHERE id = ?"
        self._db.execute(f"INSERT OR REPLACE INTO rotated_key (api_key_sha256, rotated_at) {old}", (micros, account.id))
        self._db.execute(
            "UPDATE account SET api_key_sha256 = ?, api_key_prefix = ? WHERE id = ?",
            (api_key_sha256, account.api_key_prefix, account.id),
        )

    def was_rotated(self, api_key_sha256: str, since: datetime) -> bool:
        """Tell whether a key was replaced after a moment."""
        sql = "SELECT 1 FROM rotated_key WHERE api_key_sha256 = ? AND rotated_at > ?"
        return self._db.execute(sql, (api_key_sha256, to_micros(since))).fetchone() is not None

    def account_by_key(self, api_key_sha256: str) -> Account | None:
        """Return the account of a key's digest."""
        return self._one(Account, "SELECT * FROM account WHERE api_key_sha256 = ?", (api_key_sha256,))

    def account(self, account_id: str) -> Account | None:
        """Return an account."""
        return self._one(Account, "SELECT * FROM account WHERE id = ?", (account_id,))

    # cues

    def insert_cue(self, cue: Cue) -> None:
        """Insert a cue; a taken name raises sqlite3.IntegrityError."""
        self._insert("cue", row_of(cue))

    def update_cue(self, cue: Cue) -> None:
        """Write a cue's fields."""
        self._update("cue", row_of(cue))

    def delete_cue(self, account_id: str, cue_id: str) -> bool:
        """Delete a cue with its executions; False if there is none."""
        return bool(self._db.execute("DELETE FROM cue WHERE account_id = ? AND id = ?", (account_id, cue_id)).rowcount)

    def cue(self, cue_id: str) -> Cue | None:
        """Return a cue of any account."""
        return self._one(Cue, "SELECT * FROM cue WHERE id = ?", (cue_id,))

    def cue_named(self, account_id: str, name: str) -> Cue | None:
        """Return the account's cue of that name."""
        return self._one(Cue, "SELECT * FROM cue WHERE account_id = ? AND name = ?", (account_id, name))

    def cues(self, account_id: str, status: str | None, page: Page) -> tuple[Sequence[Cue], int]:
        """Return a page of cues, newest first, and their number in all."""
        return self._page(Cue, "cue", {"account_id": account_id, "status": status}, page)

    def count_cues(self, account_id: str, *statuses: CueStatus) -> int:
        """Return how many cues are in one of the statuses."""
        marks = ", ".join("?" * len(statuses))
        sql = f"SELECT count(*) FROM cue WHERE account_id = ? AND status IN ({marks})"
        return int(self._db.execute(sql, (account_id, *(status.value for status in statuses))).fetchone()[0])

    def due_cues(self, now: datetime, limit: int) -> Sequence[Cue]:
        """Return active cues whose run is due, the longest waiting first."""
        sql = "SELECT * FROM cue WHERE status = 'active' AND next_run <= ? ORDER BY next_run LIMIT ?"
        return self._all(Cue, sql, (to_micros(now), limit))

    # executions

    def insert_execution(self, execution: Execution, cue: Cue) -> bool:
        """Insert an execution; False if the cue has one for that moment already (contract, section 7)."""
        row = row_of(execution) | {"account_id": cue.account_id, "transport": cue.transport}
        return self._insert("execution", row, conflict="OR IGNORE") == 1

    def update_execution(self, execution: Execution) -> None:
        """Write an execution's fields."""
        self._update("execution", row_of(execution))

    def set_response_body(self, execution_id: str, body: str) -> None:
        """Keep the start of what the receiver answered."""
        self._db.execute("UPDATE execution SET response_body = ? WHERE id = ?", (body, execution_id))

    def execution(self, execution_id: str, account_id: str | None = None) -> Execution | None:
        """Return an execution, of any account where none is named."""
        sql = "SELECT * FROM execution WHERE id = ? AND account_id = coalesce(?, account_id)"
        return self._one(Execution, sql, (execution_id, account_id))

    def executions(self, filters: Values, page: Page) -> tuple[Sequence[Execution], int]:
        """Return a page of executions, newest first, and their number in all."""
        return self._page(Execution, "execution", filters, page)

    def claimable(self, account_id: str, until: datetime | None, limit: int | None) -> Sequence[Execution]:
        """Return worker executions that wait to be claimed, the oldest first, those for later only without `until`."""
        sql = (
            "SELECT * FROM execution WHERE account_id = ? AND transport = 'worker' AND status = 'pending' "
            "AND scheduled_for <= coalesce(?, scheduled_for) ORDER BY scheduled_for LIMIT ?"
        )
        every = -1  # SQLite's word for no limit
        moment = None if until is None else to_micros(until)
        return self._all(Execution, sql, (account_id, moment, every if limit is None else limit))

    def transport_of(self, execution_id: str) -> str | None:
        """Return how an execution reaches the code."""
        row = self._db.execute("SELECT transport FROM execution WHERE id = ?", (execution_id,)).fetchone()
        return None if row is None else row[0]

    def oldest_claim(self, filters: Values) -> datetime | None:
        """Return the earliest claim among the executions that a list's filters choose."""
        where, values = where_clause(filters)
        found = self._db.execute(f"SELECT min(claimed_at) FROM execution WHERE {where}", values).fetchone()[0]
        return None if found is None else from_micros(found)

    def recent_statuses(self, cue_id: str, limit: int) -> list[str]:
        """Return the statuses of a cue's newest executions."""
        sql = "SELECT status FROM execution WHERE cue_id = ? ORDER BY created_at DESC, rowid DESC LIMIT ?"
        return [row[0] for row in self._db.execute(sql, (cue_id, limit))]

    def outcome_counts(self, account_id: str, since: datetime) -> tuple[int, int]:
        """Return how many outcomes were reported since a moment, and how many of them were successes."""
        sql = (
            "SELECT count(*), coalesce(sum(json_extract(outcome, '$.success')), 0) FROM execution "
            "WHERE account_id = ? AND created_at >= ? AND outcome IS NOT NULL"
        )
        reported, succeeded = self._db.execute(sql, (account_id, to_micros(since))).fetchone()
        return reported, succeeded

    def fire_key(self, cue_id: str, key: str, since: datetime) -> tuple[str, str] | None:
        """Return the body's digest and the execution that an idempotency key stands for."""
        sql = "SELECT body_sha256, execution_id FROM fire_key WHERE cue_id = ? AND key = ? AND created_at > ?"
        row = self._db.execute(sql, (cue_id, key, to_micros(since))).fetchone()
        return None if row is None else (row[0], row[1])

    def put_fire_key(self, cue_id: str, key: str, body_sha256: str, execution_id: str, now: datetime) -> None:
        """Remember what an idempotency key stands for."""
        self._db.execute(
            "INSERT OR REPLACE INTO fire_key (cue_id, key, body_sha256, execution_id, created_at) "
            "VALUES (?, ?, ?, ?, ?)",
            (cue_id, key, body_sha256, execution_id, to_micros(now)),
        )

    def due_executions(self, now: datetime, limit: int) -> Sequence[Execution]:
        """Return executions whose next attempt is due, the longest waiting first."""
        sql = "SELECT * FROM execution WHERE due_at <= ? ORDER BY due_at LIMIT ?"
        return self._all(Execution, sql, (to_micros(now), limit))

    def sweepable(self, now: datetime, limit: int) -> Sequence[Execution]:
        """Return executions that a rule about claims may apply to now."""
        sql = "SELECT * FROM execution WHERE sweep_at <= ? ORDER BY sweep_at LIMIT ?"
        return self._all(Execution, sql, (to_micros(now), limit))

    def requeue_interrupted(self, now: datetime) -> int:
        """Make webhook attempts due again that a dead process was making; return how many."""
        sql = (
            "UPDATE execution SET due_at = ?, updated_at = ? "
            "WHERE transport = 'webhook' AND status = 'delivering' AND due_at IS NULL"
        )
        return self._db.execute(sql, (to_micros(now), to_micros(now))).rowcount

    def next_run(self) -> datetime | None:
        """Return when the next active cue is due."""
        return self._earliest("SELECT min(next_run) FROM cue WHERE status = 'active' AND next_run IS NOT NULL")

    def next_attempt(self) -> datetime | None:
        """Return when the next attempt is due."""
        return self._earliest("SELECT min(due_at) FROM execution WHERE due_at IS NOT NULL")

    def next_sweep(self) -> datetime | None:
        """Return when a rule about claims may next apply."""
        return self._earliest("SELECT min(sweep_at) FROM execution WHERE sweep_at IS NOT NULL")

    # workers, alerts, usage

    def put_worker(self, worker: Worker) -> None:
        """Insert a worker, or renew its heartbeat and handlers."""
        row = row_of(worker)
        self._insert("worker", row, conflict="OR IGNORE")
        self._db.execute(
            "UPDATE worker SET heartbeat_at = ?, handlers = ? WHERE account_id = ? AND worker_id = ?",
            (row["heartbeat_at"], row["handlers"], worker.account_id, worker.worker_id),
        )

    def workers(self, account_id: str) -> Sequence[Worker]:
        """Return the account's workers, the last heard of first."""
        return self._all(
            Worker, "SELECT * FROM worker WHERE account_id = ? ORDER BY heartbeat_at DESC, rowid DESC", (account_id,)
        )

    def worker_heartbeat(self, account_id: str, worker_id: str | None) -> datetime | None:
        """Return when a worker was last heard of."""
        sql = "SELECT heartbeat_at FROM worker WHERE account_id = ? AND worker_id = ?"
        row = self._db.execute(sql, (account_id, worker_id)).fetchone()
        return None if row is None else from_micros(row[0])

    def delete_worker(self, account_id: str, worker_id: str) -> bool:
        """Forget a worker; False if there is none."""
        sql = "DELETE FROM worker WHERE account_id = ? AND worker_id = ?"
        return bool(self._db.execute(sql, (account_id, worker_id)).rowcount)

    def insert_alert(self, alert: Alert) -> None:
        """Keep an alert."""
        self._insert("alert", row_of(alert))

    def alerts(
        self, account_id: str, alert_type: str | None, since: datetime | None, page: Page
    ) -> tuple[Sequence[Alert], int]:
        """Return a page of alerts, newest first, and their number in all."""
        where = "account_id = ? AND alert_type = coalesce(?, alert_type) AND created_at >= coalesce(?, created_at)"
        values = (account_id, alert_type, None if since is None else to_micros(since))
        total: int = self._db.execute(f"SELECT count(*) FROM alert WHERE {where}", values).fetchone()[0]
        sql = f"SELECT * FROM alert WHERE {where} ORDER BY created_at DESC, rowid DESC LIMIT ? OFFSET ?"
        return self._all(Alert, sql, (*values, page.limit, page.offset)), total

    def count_delivery(self, account_id: str, month: str) -> None:
        """Count one successful webhook delivery."""
        self._db.execute(
            "INSERT INTO delivered (account_id, month, number) VALUES (?, ?, 1) "
            "ON CONFLICT (account_id, month) DO UPDATE SET number = number + 1",
            (account_id, month),
        )

    def deliveries(self, account_id: str, month: str) -> int:
        """Return the successful webhook deliveries of a month."""
        row = self._db.execute(
            "SELECT number FROM delivered WHERE account_id = ? AND month = ?", (account_id, month)
        ).fetchone()
        return row[0] if row else 0

    def queue_counts(self, now: datetime) -> dict[str, int]:
        """Return how much waits, as `/health` names it."""
        counts = {
            "pending_outbox": "status = 'pending' AND transport = 'webhook'",
            "stale_executions": "sweep_at IS NOT NULL AND sweep_at < ?",
            "pending_retries": "status = 'retrying' AND due_at IS NOT NULL",
            "pending_worker_claims": "status = 'pending' AND transport = 'worker'",
        }
        found: dict[str, int] = {}
        for name, where in counts.items():
            values = (to_micros(now),) if "?" in where else ()
            found[name] = self._db.execute(f"SELECT count(*) FROM execution WHERE {where}", values).fetchone()[0]
        return found
