"""The log of a long-running command: one line per event on standard error, as text or as JSON."""

from __future__ import annotations

import json
import logging
import sys

LOGGERS = ("cueapi_tasks", "cueapi_tasks.run", "cueapi_tasks.server")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, event and its facts."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        facts = getattr(record, "facts", None) or {"message": record.getMessage()}
        line = {"time": self.formatTime(record), "level": record.levelname, "event": getattr(record, "event", "log")}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps({**line, **facts}, default=str)


def log_to_stderr(*, as_json: bool) -> None:
    """Send every event from INFO on to standard error, once, whatever the app's own modules did to logging.

    Where they did nothing, what they log goes there too.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    ours = logging.getLogger("cueapi_tasks")
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(logging.INFO)
    for name in LOGGERS:
        logging.getLogger(name).disabled = False  # as `dictConfig` leaves loggers that it does not name
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log each request a second time
