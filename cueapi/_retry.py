"""Whether a failed call is sent again, and after how long: a policy as a value, no IO and no clock of its own."""

from __future__ import annotations

import email.utils
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


class Repeat(Enum):
    """What may happen when a call is sent again although its first answer is unknown."""

    SAFE = "the same state results"
    CHECKED = "it is sent again, and the refusal that follows if it had been carried out means that it was"
    NEVER = "a second effect would follow"


class Loss(Enum):
    """What is known of a call that failed."""

    NOT_SENT = "the server never saw it"
    REFUSED = "the server answered that it did nothing"
    UNKNOWN = "it may have been carried out"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter; durations in seconds."""

    max_retries: int = 2
    base: float = 0.5
    ceiling: float = 8.0
    longest_wait: float = 60.0
    """A `Retry-After` beyond this is not waited for."""

    def again(self, tries: int, repeat: Repeat, loss: Loss, retry_after: float | None) -> bool:
        """Tell whether a call that failed for the `tries`th time is sent once more."""
        if tries > self.max_retries or (retry_after or 0.0) > self.longest_wait:
            return False
        return loss is not Loss.UNKNOWN or repeat is not Repeat.NEVER

    def delay(self, tries: int, retry_after: float | None, random: Callable[[], float]) -> float:
        """Return the wait in seconds; the server's own wish wins."""
        if retry_after is not None:
            return retry_after
        return random() * min(self.ceiling, self.base * 2.0 ** (tries - 1))


def loss_of_status(status: int) -> Loss:
    """Return what an answer with this status says about the effect of the call."""
    return Loss.REFUSED if status == 429 else Loss.UNKNOWN


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, in either form of RFC 9110, section 10.2.3."""
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:9])
    moment = parse_date(value)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def parse_date(value: str | None) -> datetime | None:
    """Return the moment of a header in the form of RFC 9110, section 5.6.7, or None if it is none."""
    try:
        moment = email.utils.parsedate_to_datetime(value or "")
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment
