"""The embedded server: CueAPI's own HTTP API over one SQLite file.

It judges the rest and so does not share its code: of it, only schedules, errors, config, log and the signing of
webhooks are used here.
"""

from __future__ import annotations
