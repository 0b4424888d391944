"""The log of a long-running command: one line per event on standard error, as text or as JSON."""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import datetime, timezone

LOGGERS = ("cueapi_tasks", "cueapi_tasks.run", "cueapi_tasks.server")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, event and its facts."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        facts = getattr(record, "facts", None) or {"message": record.getMessage()}
        moment = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        event = getattr(record, "event", "log")
        line = {"time": moment.replace("+00:00", "Z"), "level": record.levelname, "event": event}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps({**line, **facts}, default=str)


class TextFormatter(logging.Formatter):
    """One line an event, whatever an error's text is; a traceback stands below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return " ".join(super().formatMessage(record).splitlines())


def log_to_stderr(*, as_json: bool) -> None:
    """Send every event from INFO on to standard error, once, whatever the app's own modules did to logging.

    Where they did nothing, what they log goes there too.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(capture=True)
    threading.excepthook = _log_thread
    ours = logging.getLogger("cueapi_tasks")
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(logging.INFO)
    for name in LOGGERS:
        logging.getLogger(name).disabled = False  # as `dictConfig` leaves loggers that it does not name
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log each request a second time


def _log_thread(ended: threading.ExceptHookArgs) -> None:
    """Log what ended a thread, so that it is an event like any other."""
    if ended.exc_value is not None:
        name = "a thread" if ended.thread is None else ended.thread.name
        logging.getLogger("cueapi_tasks").error("%s ended by an error", name, exc_info=ended.exc_value)
