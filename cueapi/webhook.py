"""Sign and verify CueAPI's webhooks, over the exact bytes that travel; nothing here does IO.

The scheme is CueAPI's `v1`: `X-CueAPI-Signature: v1=` and the lower-case hex HMAC-SHA256, keyed with the
whole webhook secret as UTF-8 text, of `<X-CueAPI-Timestamp>.<raw body>`.
"""

from __future__ import annotations

import hmac
import json
import re
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Any, NamedTuple, NoReturn

from .exceptions import WebhookVerificationError

SIGNATURE_HEADER = "X-CueAPI-Signature"
TIMESTAMP_HEADER = "X-CueAPI-Timestamp"
DEFAULT_TOLERANCE = 300.0
"""Seconds that a timestamp may lie in the past or in the future."""

_SIGNATURE = re.compile(r"v1=[0-9a-f]{64}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_EXECUTION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class WebhookDelivery(NamedTuple):
    """One authentic delivery: what CueAPI signed, and when."""

    execution_id: str
    cue_id: str
    name: str
    """The cue's name."""
    payload: dict[str, Any]
    scheduled_for: datetime
    attempt: int
    """From 1."""
    signed_at: datetime
    """When this attempt was signed; each attempt is signed afresh."""


def sign(body: bytes, *, secret: str, timestamp: int) -> str:
    """Return the signature header's value for these bytes; `timestamp` is in whole unix seconds."""
    return "v1=" + _digest(str(timestamp).encode("ascii") + b"." + body, secret)


def verify(
    body: bytes,
    *,
    signature: str | None,
    timestamp: str | None,
    secrets: Iterable[str],
    now: float | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
) -> WebhookDelivery:
    """Return the delivery in `body` if one of `secrets` signed it within `tolerance` seconds of `now`.

    The bytes are authenticated before they are parsed. `secrets` may be one text, too. Whatever is passed in, the only
    error is `WebhookVerificationError`, whose `reason` is `missing_signature`, `bad_signature`, `bad_timestamp`,
    `timestamp_too_old`, `timestamp_too_new`, `no_secret`, `invalid_json` or `not_a_delivery`; the last two are
    raised for authentic bytes only.
    """
    signed_at = _signed_at(body, signature, timestamp, secrets, time.time() if now is None else now, tolerance)
    return _delivery(_parse(body), signed_at)


def authenticate(
    body: bytes,
    *,
    signature: str | None,
    timestamp: str | None,
    secrets: Iterable[str],
    now: float | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
) -> datetime:
    """Return when these bytes were signed, or raise as `verify` does; the body is not parsed."""
    return _signed_at(body, signature, timestamp, secrets, time.time() if now is None else now, tolerance)


def verify_webhook(
    payload: bytes | str | dict[str, Any],
    signature: str,
    secret: str,
    timestamp: str | int,
    *,
    tolerance: float = DEFAULT_TOLERANCE,
) -> bool:
    """Tell whether a webhook is authentic and fresh; pass the raw body, as bytes, wherever you can.

    Bytes are authenticated as they are. A text is too, or else as CueAPI would serialise what it says (sorted keys,
    `", "` and `": "`), and so is a dict. Whatever is passed in, the answer is True or False.
    """
    try:
        moment = str(timestamp)
    except ValueError:  # a number of more digits than Python spells
        return False
    return any(_is_authentic(body, signature, secret, moment, tolerance) for body in _spellings(payload))


def _is_authentic(body: bytes, signature: str, secret: str, timestamp: str, tolerance: float) -> bool:
    try:
        authenticate(body, signature=signature, timestamp=timestamp, secrets=[secret], tolerance=tolerance)
    except WebhookVerificationError:
        return False
    return True


def _spellings(payload: object) -> Iterator[bytes]:
    """Yield the bytes that a payload may stand for."""
    if isinstance(payload, bytes | bytearray):
        yield bytes(payload)
        return
    if isinstance(payload, str):
        yield payload.encode("utf-8", "surrogatepass")
    try:
        value = json.loads(payload) if isinstance(payload, str) else payload
        yield json.dumps(value, sort_keys=True, default=str).encode("ascii")
    except (TypeError, ValueError, RecursionError):
        return  # it stands for no JSON


def _signed_at(
    body: bytes, signature: object, timestamp: object, secrets: Iterable[object], now: float, tolerance: float
) -> datetime:
    if not signature or not timestamp:
        _refuse("missing_signature", "the request carries no CueAPI signature")
    if not isinstance(signature, str) or not _SIGNATURE.fullmatch(signature):
        _refuse("bad_signature", "the signature does not match")
    if not isinstance(timestamp, str) or not _TIMESTAMP.fullmatch(timestamp):
        _refuse("bad_timestamp", "the timestamp is not in whole unix seconds")
    signed = timestamp.encode("ascii") + b"." + body
    _check_signature(signed, signature[3:], secrets)
    seconds = int(timestamp)
    _check_age(now - seconds, tolerance)
    try:
        return datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError) as error:
        raise WebhookVerificationError("bad_timestamp", "the timestamp is beyond the calendar") from error


def _check_signature(signed: bytes, digest: str, secrets: Iterable[object]) -> None:
    """Raise unless one of the secrets made the digest; each is tried, so that the time tells nothing of which."""
    known = matched = False
    for secret in [secrets] if isinstance(secrets, str) else secrets:  # a text would be as many secrets as letters
        if secret and isinstance(secret, str):
            known = True
            matched |= hmac.compare_digest(_digest(signed, secret), digest)
    if not known:
        _refuse("no_secret", "no webhook secret is configured")
    if not matched:
        _refuse("bad_signature", "the signature does not match")


def _refuse(reason: str, message: str) -> NoReturn:
    raise WebhookVerificationError(reason, message)


def _digest(signed: bytes, secret: str) -> str:
    return hmac.digest(secret.encode("utf-8", "surrogatepass"), signed, "sha256").hex()


def _check_age(age: float, tolerance: float) -> None:
    if age > tolerance:
        _refuse("timestamp_too_old", "the signature is older than the tolerance; check this machine's clock")
    if -age > tolerance:
        _refuse("timestamp_too_new", "the signature is from the future; check this machine's clock")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON (RFC 8259, section 6)")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _parse(body: bytes) -> Any:
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise WebhookVerificationError("invalid_json", "the signed body is not JSON") from error


def _delivery(body: Any, signed_at: datetime) -> WebhookDelivery:
    if not isinstance(body, dict):
        _refuse("not_a_delivery", "the signed body is not a CueAPI delivery: it is no JSON object")
    try:
        return WebhookDelivery(
            _checked_id(body["execution_id"]),
            _checked_id(body["cue_id"]),
            _text(body["name"]),
            _object(body["payload"]),
            _moment(body["scheduled_for"]),
            _attempt(body["attempt"]),
            signed_at,
        )
    except KeyError as error:
        field = error.args[0]
        raise WebhookVerificationError("not_a_delivery", f"the signed body has no {field}") from error
    except ValueError as error:
        raise WebhookVerificationError("not_a_delivery", f"the signed body has a bad field: {error}") from error


def _checked_id(value: Any) -> str:
    if isinstance(value, str) and _EXECUTION_ID.fullmatch(value):
        return value
    raise ValueError("an id is not text of letters, digits, - and _")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("name is not text")
    if not value.isascii():
        value.encode("utf-8")  # lone surrogates raise UnicodeEncodeError, a ValueError
    return value


def _object(value: Any) -> Any:
    if isinstance(value, dict):
        return value  # pyright: ignore[reportUnknownVariableType] - JSON's objects have texts for keys
    raise ValueError("payload is not an object")


def _moment(value: Any) -> datetime:
    if not isinstance(value, str):
        raise ValueError("scheduled_for is not text")
    moment = datetime.fromisoformat(value if value[-1:] != "Z" else f"{value[:-1]}+00:00")
    if moment.tzinfo is timezone.utc:
        return moment
    if moment.tzinfo is None:
        raise ValueError("scheduled_for has no UTC offset")
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError as error:
        raise ValueError("scheduled_for is out of range") from error


def _attempt(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1000:
        return value
    raise ValueError("attempt is not a number from 1")
