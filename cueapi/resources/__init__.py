"""The API's resources, one module each: they build calls and read answers, and never send bytes themselves."""

from __future__ import annotations
