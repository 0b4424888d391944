"""Make the remote cues equal to the declared ones: plan, forecast and render are pure, `apply` is the one writer."""

from __future__ import annotations
