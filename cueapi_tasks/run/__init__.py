"""Receive a delivery, run its task once, keep and report what became of it; knows neither deploy nor server."""

from __future__ import annotations
