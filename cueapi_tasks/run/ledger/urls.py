"""URLs of ledgers as messages may show them."""

from __future__ import annotations

import re

_PARTS = re.compile(r"(\w+://)(?:[^/?#@]*@)?([^/?#@]*(?:/[^/?#@]*)?)(?:\?[^@#]*)?")


def without_secrets(url: str) -> str:
    """Return scheme, host and path; of a URL in which a password could be anywhere, the scheme alone."""
    match = _PARTS.fullmatch(url)
    return match[1] + match[2] if match else url.partition("://")[0] + "://..."
