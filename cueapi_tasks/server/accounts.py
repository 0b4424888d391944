"""Accounts: keys, secrets, usage, alerts, registration (contract, sections 2 and 5.4 to 5.6)."""

from __future__ import annotations

import calendar
import hashlib
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from . import rules
from .alerts import ALERT_TYPES
from .core import Core
from .records import Account, Alert, CueStatus, Page
from .rules import ApiError
from .scheduler import month_of
from .schemas import AccountPatch

ROTATED_SAYS_SO = timedelta(hours=24)
"""How long a replaced key is told that it was replaced (section 2)."""


class Accounts:
    """The server's accounts."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store

    def by_key(self, api_key: str, now: datetime) -> Account:
        """Return the account of a key, or refuse as section 2 says."""
        # looked up by digest, so that no comparison of the key itself can be timed
        with self._store.atomic():
            account = self._store.account_by_key(digest(api_key))
            rotated = account is None and self._store.was_rotated(digest(api_key), now - ROTATED_SAYS_SO)
        if account is not None:
            return account
        if rotated:
            raise ApiError(401, "key_rotated", "This API key was replaced; use the new one")
        raise ApiError(401, "invalid_api_key", "Invalid API key")

    def register(self, email: str) -> str:
        """Make an account and return its key; the address's domain is kept in lower case."""
        local, _, domain = email.rpartition("@")
        address = f"{local}@{domain.lower()}"
        key = new_api_key()
        with self._store.atomic():
            if self._store.account_by_email(address) is not None:
                raise ApiError(409, "duplicate_email", "An account with this email already exists")
            self._store.put_account(make_account(address, key, new_webhook_secret()), digest(key))
        return key

    def regenerate_key(self, account: Account, now: datetime) -> str:
        """Replace the account's key."""
        key = new_api_key()
        with self._store.atomic():
            self._store.rotate_key(replace(account, api_key_prefix=key[:12]), digest(key), now)
        return key

    def regenerate_webhook_secret(self, account: Account) -> str:
        """Replace the secret that deliveries are signed with, at once and without overlap."""
        secret = new_webhook_secret()
        with self._store.atomic():
            self._store.update_account(replace(account, webhook_secret=secret))
        return secret

    def alert_secret(self, account: Account, *, regenerate: bool = False) -> str:
        """Return the secret that alerts are signed with, made when it is first asked for."""
        if account.alert_webhook_secret and not regenerate:
            return account.alert_webhook_secret
        secret = secrets.token_hex(32)
        with self._store.atomic():
            self._store.update_account(replace(account, alert_webhook_secret=secret))
        return secret

    def patch(self, account: Account, body: AccountPatch) -> None:
        """Change the address or where alerts go."""
        if body.email is None and body.alert_webhook_url is None:
            raise ApiError(422, "no_fields", "No fields to update")
        changed = account if body.email is None else replace(account, email=body.email)
        if body.alert_webhook_url is not None:
            if body.alert_webhook_url and not body.alert_webhook_url.startswith(("http://", "https://")):
                raise ApiError(400, "invalid_alert_webhook_url", "alert_webhook_url must be an http(s) URL")
            rules.check_callback(body.alert_webhook_url, "alert_webhook_url: ")
            changed = replace(changed, alert_webhook_url=body.alert_webhook_url or None)
        with self._store.atomic():
            other = self._store.account_by_email(changed.email)
            if other is not None and other.id != account.id:
                raise ApiError(409, "duplicate_email", "An account with this email already exists")
            self._store.update_account(changed)

    def alerts(
        self, account: Account, alert_type: str | None, since: datetime | None, page: Page
    ) -> tuple[Sequence[Alert], int]:
        """Return a page of alerts, newest first, and their number in all."""
        if alert_type and alert_type not in ALERT_TYPES:
            raise ApiError(400, "invalid_filter", f"alert_type must be one of {', '.join(ALERT_TYPES)}")
        with self._store.atomic():
            since = None if since is None else rules.in_utc(since)
            return self._store.alerts(account.id, alert_type or None, since, page)

    def me(self, account: Account, now: datetime) -> dict[str, Any]:
        """Return the account and its plan."""
        limits = self._core.profile.limits
        with self._store.atomic():
            active = self._store.count_cues(account.id, CueStatus.ACTIVE)
            used = self._store.deliveries(account.id, month_of(now))
        return {
            "email": account.email,
            "plan": "free",
            "active_cues": active,
            "active_cue_limit": limits.cues,
            "executions_this_month": used,
            "monthly_execution_limit": limits.executions_per_month,
            "rate_limit_per_minute": limits.requests_per_minute,
            "has_webhook_secret": True,
            "api_key_prefix": account.api_key_prefix,
            "slug": account.email.partition("@")[0],
        }

    def usage(self, account: Account, requests: int, now: datetime) -> dict[str, Any]:
        """Return what the account used of its plan this month (section 5.6)."""
        first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        last = first.replace(day=calendar.monthrange(now.year, now.month)[1])
        limits = self._core.profile.limits
        with self._store.atomic():
            active = self._store.count_cues(account.id, CueStatus.ACTIVE)
            cues = active + self._store.count_cues(account.id, CueStatus.PAUSED)
            used = self._store.deliveries(account.id, month_of(now))
            reported, succeeded = self._store.outcome_counts(account.id, first)
        projected = round(used * last.day / now.day)
        period = {"start": f"{first:%Y-%m-%d}", "end": f"{last:%Y-%m-%d}"}
        return {
            "plan": "free",
            "billing_period": {**period, "days_remaining": last.day - now.day},
            "period": period,
            "cues": {"active": active, **_share(cues, limits.cues)},
            "executions": {
                **_share(used, limits.executions_per_month),
                "percentage": round(100 * used / limits.executions_per_month, 1),
                "projected_month_end": projected,
                "will_exceed_limit": projected > limits.executions_per_month,
            },
            "outcomes": {"reported": reported, "succeeded": succeeded, "failed": reported - succeeded},
            "rate_limit": {"requests_per_minute": limits.requests_per_minute, "current_usage": requests},
            "upgrade_url": "https://dashboard.cueapi.ai/billing",
        }

    def queue(self, now: datetime) -> dict[str, int]:
        """Return how much waits, over all accounts."""
        with self._store.atomic():
            return self._store.queue_counts(now)


def digest(api_key: str) -> str:
    """Return what is kept of an API key."""
    return hashlib.sha256(api_key.encode("utf-8", "surrogatepass")).hexdigest()


def new_api_key() -> str:
    """Return an API key in the service's form (section 1)."""
    return f"cue_sk_{secrets.token_hex(16)}"


def new_webhook_secret() -> str:
    """Return a webhook secret in the service's form (section 1)."""
    return f"whsec_{secrets.token_hex(32)}"


def make_account(email: str, api_key: str, webhook_secret: str) -> Account:
    """Return a new account; the same address always has the same id."""
    return Account(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"mailto:{email}")),
        email=email,
        webhook_secret=webhook_secret,
        api_key_prefix=api_key[:12],
    )


def _share(used: int, limit: int) -> dict[str, int]:
    return {
        "used": used,
        "limit": limit,
        "remaining": max(0, limit - used),
        "percent_used": round(100 * used / limit),
    }
