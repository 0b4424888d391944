"""How new the code is: the commit time of the checkout that a deploy runs in."""

from __future__ import annotations

import subprocess

import click

TIMEOUT = 10.0


def revision_of_checkout() -> int | None:
    """Return the time of the last commit in unix seconds, or None, said once, outside a git checkout."""
    try:
        done = subprocess.run(
            ["git", "log", "-1", "--format=%ct"], capture_output=True, text=True, check=True, timeout=TIMEOUT
        )
        return int(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        click.echo("note: this is no git checkout, so older code is not told from newer; see --revision", err=True)
        return None
