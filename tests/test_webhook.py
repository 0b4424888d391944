"""Signing and verifying, over raw bytes."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cueapi import WebhookVerificationError, verify_webhook, webhook

from .support import NOON, SECRET, envelope

NOW = NOON.timestamp()
RECORDED = json.loads((Path(__file__).parent / "data" / "deliveries.json").read_text("utf-8"))


def attempt(body: bytes, *, at: float = NOW, **changes: Any) -> str | None:
    """Return why verification refuses, or None."""
    arguments: dict[str, Any] = {
        "signature": webhook.sign(body, secret=SECRET, timestamp=int(at)),
        "timestamp": str(int(at)),
        "secrets": [SECRET],
        "now": NOW,
    }
    try:
        webhook.verify(body, **(arguments | changes))
    except WebhookVerificationError as error:
        return error.reason
    return None


BODY = json.dumps(envelope()).encode()


@pytest.mark.parametrize("recorded", RECORDED["deliveries"])
def test_what_the_reference_server_signed_verifies_exactly_where_it_should(recorded: dict[str, Any]) -> None:
    headers = recorded["headers"]
    timestamp = headers.get("X-CueAPI-Timestamp")
    reason = attempt(
        recorded["body"].encode(),
        signature=headers.get("X-CueAPI-Signature"),
        timestamp=timestamp,
        secrets=[RECORDED["webhook_secret"]],
        now=float(timestamp or 0),
    )
    assert (reason is None) == recorded["signature_matches_body"]


def test_a_verified_delivery_is_typed() -> None:
    body = json.dumps(envelope(payload={"n": 1}, attempt=2)).encode()
    signature = webhook.sign(body, secret=SECRET, timestamp=int(NOW))
    found = webhook.verify(body, signature=signature, timestamp=str(int(NOW)), secrets=[SECRET], now=NOW)
    assert (found.name, found.payload, found.attempt, found.scheduled_for) == ("billing/report", {"n": 1}, 2, NOON)
    assert found.signed_at == NOON


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"secrets": ["old", SECRET]}, None),  # while a secret is rotated
        ({"at": NOW - 300}, None),
        ({"at": NOW + 300}, None),
        ({"at": NOW - 301}, "timestamp_too_old"),
        ({"at": NOW + 301}, "timestamp_too_new"),
        ({"signature": None}, "missing_signature"),
        ({"timestamp": ""}, "missing_signature"),
        ({"signature": "v1=" + "0" * 64}, "bad_signature"),
        ({"signature": "v2=" + "0" * 64}, "bad_signature"),
        ({"signature": "é" * 67}, "bad_signature"),
        ({"timestamp": "+1795456350"}, "bad_timestamp"),
        ({"timestamp": " 1795456350"}, "bad_timestamp"),
        ({"timestamp": "1_795_456_350"}, "bad_timestamp"),
        ({"timestamp": "١٧٩٥٤٥٦٣٥٠"}, "bad_timestamp"),
        ({"timestamp": "9" * 5000}, "bad_timestamp"),
        ({"timestamp": "NaN"}, "bad_timestamp"),
        ({"secrets": ["other"]}, "bad_signature"),
        ({"secrets": []}, "no_secret"),
        ({"secrets": [""]}, "no_secret"),
    ],
)
def test_each_cause_has_its_reason(changes: dict[str, Any], reason: str | None) -> None:
    assert attempt(BODY, **changes) == reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"\xff", "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"attempt": ' + b"9" * 5000 + b"}", "invalid_json"),
        (b'{"attempt": NaN}', "invalid_json"),
        (b"[]", "not_a_delivery"),
        (b"{}", "not_a_delivery"),
    ],
)
def test_authentic_bytes_that_are_no_delivery_are_told_apart(body: bytes, reason: str) -> None:
    assert attempt(body) == reason


@pytest.mark.parametrize(
    "fault",
    [
        {"attempt": 0},
        {"attempt": "1"},
        {"attempt": True},
        {"attempt": 1.0},
        {"payload": []},
        {"payload": None},
        {"name": None},
        {"name": "\ud800"},
        {"execution_id": ""},
        {"execution_id": "a/b"},
        {"execution_id": 5},
        {"cue_id": None},
        {"scheduled_for": "2026-11-24"},
        {"scheduled_for": "now"},
        {"scheduled_for": 5},
        {"scheduled_for": "0001-01-01T00:00:00+14:00"},
    ],
)
def test_a_field_of_the_wrong_kind_is_no_delivery(fault: dict[str, Any]) -> None:
    assert attempt(json.dumps(envelope(**fault)).encode()) == "not_a_delivery"


def test_the_bytes_are_authenticated_not_what_they_mean() -> None:
    signature = webhook.sign(b'{"a": 1}', secret=SECRET, timestamp=int(NOW))
    assert attempt(b'{"a":1}', signature=signature) == "bad_signature"


@given(
    body=st.binary(max_size=200),
    signature=st.text(max_size=80),
    timestamp=st.text(max_size=20),
    secret=st.text(max_size=10),
)
def test_anything_at_all_is_refused_by_the_one_error(body: bytes, signature: str, timestamp: str, secret: str) -> None:
    assert attempt(body, signature=signature, timestamp=timestamp, secrets=[secret]) is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(value=st.fixed_dictionaries({}, optional=dict.fromkeys(envelope(), json_values)))
def test_any_signed_json_verifies_or_is_refused_by_the_one_error(value: dict[str, Any]) -> None:
    assert attempt(json.dumps(value).encode()) in (None, "not_a_delivery", "invalid_json")


def test_the_boolean_form_takes_bytes_text_or_a_dict() -> None:
    now = int(time.time())
    body = json.dumps(envelope(), sort_keys=True)
    signature = webhook.sign(body.encode(), secret=SECRET, timestamp=now)
    for payload in (body.encode(), body, json.loads(body)):
        assert verify_webhook(payload, signature, SECRET, str(now))
        assert not verify_webhook(payload, signature, "other", str(now))
    assert not verify_webhook(body, signature, SECRET, str(now - 1))


def test_one_text_as_secrets_is_one_secret_and_not_its_letters() -> None:
    body = b"{}"
    forged = webhook.sign(body, secret=SECRET[0], timestamp=int(NOW))
    own = webhook.sign(body, secret=SECRET, timestamp=int(NOW))
    given: Any = {"timestamp": str(int(NOW)), "secrets": SECRET, "now": NOW}
    with pytest.raises(WebhookVerificationError) as refused:
        webhook.authenticate(body, signature=forged, **given)
    assert refused.value.reason == "bad_signature"
    assert webhook.authenticate(body, signature=own, **given).timestamp() == int(NOW)


def test_a_timestamp_beyond_the_calendar_is_refused_whatever_the_tolerance() -> None:
    far = 10**12 - 1
    signature = webhook.sign(b"{}", secret=SECRET, timestamp=far)
    with pytest.raises(WebhookVerificationError) as refused:
        webhook.authenticate(
            b"{}", signature=signature, timestamp=str(far), secrets=[SECRET], now=NOW, tolerance=math.inf
        )
    assert refused.value.reason == "bad_timestamp"
    assert not webhook.verify_webhook(b"{}", signature, SECRET, 10**5000)
