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
    return [ratio for kilobytes in (1, 100) for ratio in _ratios(kilobytes, max(10, size // kilobytes))]


def _ratios(kilobytes: int, times: int) -> list[Ratio]:
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

    def as_in_0_1_3() -> object:
        canonical = json.dumps(json.loads(body), sort_keys=True, default=str).encode()
        digest = hmac.new(key, prefix + canonical, hashlib.sha256).hexdigest()
        return hmac.compare_digest(f"v1={digest}", signature)

    name = f"verify {kilobytes} KB"
    return [
        compare(f"{name} / hmac + json.loads", ours, floor, target=1.5, times=times),
        compare(f"{name} / parse, serialise, hmac, as 0.1.3 does", ours, as_in_0_1_3, target=1, times=times),
    ]
