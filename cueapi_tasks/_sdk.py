"""Tells at once when the package `cueapi` is not ours: PyPI has two more of that name, and pip overwrites silently."""

from __future__ import annotations

RIVALS = ("cueapi-sdk", "cueapi")
"""The other distributions that bring a package called `cueapi`."""
REMEDY = "pip uninstall -y cueapi-sdk cueapi && pip install --force-reinstall --no-deps cueapi-tasks"

try:
    from cueapi import WebhookDelivery as _  # noqa: F401 - only whether it is there matters
except ImportError as error:
    raise ImportError(
        "the package cueapi that is installed here is not cueapi-tasks' own: "
        f"{' or '.join(RIVALS)} has overwritten it. Mend it with: {REMEDY}"
    ) from error
