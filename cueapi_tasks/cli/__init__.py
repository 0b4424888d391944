"""The command line: parse, call, render; no rule lives here."""

from __future__ import annotations
