"""Tokens of owners: no two alike, and each names its execution, so that a row is found by its key alone."""

from __future__ import annotations

import secrets


def make_token(execution_id: str) -> str:
    """Return a token for a new owner of the execution."""
    return f"{secrets.token_hex(16)}:{execution_id}"


def execution_of(token: str) -> str:
    """Return the execution that the token was made for."""
    return token.partition(":")[2]
