"""Tests: claims about what the packages do, over real SQLite and HTTP."""

from __future__ import annotations
