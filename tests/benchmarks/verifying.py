"""`webhook.verify` against what it cannot do without: one HMAC and one `json.loads` of the same bytes."""

from __future__ import annotations

import hashlib
import hmac
import json

from cueapi import webhook
from tests.support import NOON, SECRET, envelope

from .measure import Ratio, compare

TIMESTAMP = int(NOON.timestamp())


def run(size: int) -> list[Ratio]:
    return [_ratio(kilobytes, max(10, size // kilobytes)) for kilobytes in (1, 100)]


def _ratio(kilobytes: int, times: int) -> Ratio:
    body = json.dumps(envelope(payload={"text": "x" * (kilobytes * 1024 - 200)})).encode()
    signature = webhook.sign(body, secret=SECRET, timestamp=TIMESTAMP)
    key, prefix = SECRET.encode(), f"{TIMESTAMP}.".encode()

    def ours() -> object:
        return webhook.verify(
            body, signature=signature, timestamp=str(TIMESTAMP), secrets=[SECRET], now=float(TIMESTAMP)
        )

    def floor() -> object:
        digest = hmac.new(key, prefix + body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(digest, signature[3:]) and json.loads(body)

    return compare(f"verify {kilobytes} KB / hmac + json.loads", ours, floor, target=1.5, times=times)
