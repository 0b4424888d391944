"""What a developer wrote: schedules, names, tasks and the registry of them.

Pure: no module here imports httpx, sqlite3, socket, threading, os or time; the moment is always a parameter.
"""

from __future__ import annotations
