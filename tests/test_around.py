"""`around=` gives a function what it would have in a view: Flask-SQLAlchemy's session, Django's connections."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import django
import django.conf
import django.db
import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

from cueapi_tasks import CueTasks
from cueapi_tasks.run.ledger.memory import MemoryLedger

from .support import SECRET, Clock, answer_of, envelope, receiver_of, signed


def test_a_task_uses_flask_sqlalchemy_as_a_view_does(tmp_path: Path) -> None:
    flask_app = Flask("shop")
    flask_app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / 'shop.db'}"
    db = SQLAlchemy(flask_app)
    cue = CueTasks("billing", webhook_secret=SECRET, around=flask_app.app_context)

    @cue.schedule(cron="0 9 * * *")
    def report() -> None:
        db.session.execute(text("CREATE TABLE sent (n INTEGER)"))
        db.session.execute(text("INSERT INTO sent VALUES (1)"))
        db.session.commit()

    with receiver_of(cue, tmp_path / "ledger.db", Clock(), None) as receiver:
        assert answer_of(receiver.handle(signed(envelope()))) == (200, "completed")
    with flask_app.app_context():
        assert db.session.execute(text("SELECT n FROM sent")).scalar() == 1
        db.session.remove()
        db.engine.dispose()


def test_a_task_gives_djangos_connections_back_as_a_view_does(tmp_path: Path) -> None:
    if not django.conf.settings.configured:
        databases = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "django.db")}}
        django.conf.settings.configure(DATABASES=databases)
        django.setup()

    @contextlib.contextmanager
    def connections() -> Iterator[None]:
        django.db.close_old_connections()
        try:
            yield
        finally:
            django.db.close_old_connections()

    cue = CueTasks("billing", webhook_secret=SECRET, around=connections)

    @cue.schedule(cron="0 9 * * *")
    def report() -> str:
        with django.db.connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            return str(cursor.fetchone()[0])

    with receiver_of(cue, tmp_path / "ledger.db", Clock(), None) as receiver:
        assert answer_of(receiver.handle(signed(envelope()))) == (200, "completed")
    assert django.db.connection.connection is None


def test_a_ledger_in_memory_under_several_processes_is_said_once(
    cue: CueTasks, caplog: pytest.LogCaptureFixture
) -> None:
    cue.schedule(cron="0 9 * * *", task="report")(lambda: None)
    with receiver_of(cue, MemoryLedger(), Clock(), None) as receiver:
        receiver.handle(signed(envelope()))
        assert [record for record in caplog.records if record.levelno == logging.ERROR] == []
        for _ in range(2):
            receiver.handle(signed(envelope())._replace(multiprocess=True))
    said = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len(said) == 1
    assert "set CUEAPI_LEDGER" in said[0]
