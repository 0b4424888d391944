"""`python -m cueapi_tasks`: the command line where its script is not on the path."""

from __future__ import annotations

from .cli.main import run

run()
