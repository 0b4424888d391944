"""Who may ask, and how often: host and origin, keys, the rate limit (contract, sections 2 and 4.1)."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from flask import Flask, Response, g, request

from .accounts import Accounts
from .records import Account
from .rules import ApiError

WINDOW = 60.0
"""Seconds of the sliding window."""
UNLIMITED_ROUTES = frozenset(("health", "status", "info"))
"""Endpoints that need no key and do not count."""
OPEN_ROUTES = UNLIMITED_ROUTES | {"register"}
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What is left of a caller's window; `retry_after` in seconds where nothing is."""

    limit: int
    remaining: int
    reset: int
    """Unix seconds."""
    retry_after: int | None = None


class RateLimiter:
    """A sliding window a caller; requests that are refused do not count."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def take(self, caller: str, now: float) -> Allowance:
        """Count one request, if there is room for it."""
        with self._lock:
            seen = self._recent(caller, now)
            if len(seen) >= self._limit:
                free = seen[0] + WINDOW
                wait = max(1, math.ceil(free - now))
                return Allowance(limit=self._limit, remaining=0, reset=math.ceil(free), retry_after=wait)
            seen.append(now)
            return Allowance(limit=self._limit, remaining=self._limit - len(seen), reset=int(now + WINDOW))

    def used(self, caller: str, now: float) -> int:
        """Return how many requests of a caller the window holds."""
        with self._lock:
            return len(self._recent(caller, now))

    def _recent(self, caller: str, now: float) -> deque[float]:
        seen = self._seen.setdefault(caller, deque())
        while seen and seen[0] <= now - WINDOW:
            seen.popleft()
        return seen


def install(
    app: Flask, accounts: Accounts, limiter: RateLimiter, clock: Callable[[], datetime], hosts: Iterable[str]
) -> None:
    """Put the checks before every route, in the service's order: host, method, rate limit, key."""
    allowed = frozenset(host.lower() for host in hosts)

    def check() -> None:
        _check_host(allowed)
        if request.method == "HEAD":
            raise ApiError(405, "http_error", "Method Not Allowed")
        if request.endpoint in UNLIMITED_ROUTES:
            return
        _check_rate(limiter, clock().timestamp())
        if request.url_rule is not None and request.endpoint not in OPEN_ROUTES:
            g.account = accounts.by_key(_bearer(), clock())

    app.before_request(check)
    app.after_request(_with_allowance)


def account() -> Account:
    """Return the account that the request's key belongs to."""
    found: Account = g.account
    return found


def caller() -> str:
    """Return whom the rate limit counts: the key where there is one, else the address."""
    header = request.headers.get("Authorization", "")
    if "cue_sk_" in header:
        return hashlib.sha256(header.encode("utf-8", "surrogatepass")).hexdigest()
    return request.remote_addr or "?"


def _check_host(allowed: frozenset[str]) -> None:
    """Refuse what a web page could make a browser send here: a foreign name, or a foreign page's script."""
    if _name(request.headers.get("Host", "")) not in allowed:
        raise ApiError(
            403, "host_not_allowed", "This host name is not allowed here; start with --allowed-host to add it"
        )
    origin = request.headers.get("Origin")
    if origin is not None and _name(origin.partition("://")[2]) not in allowed:
        raise ApiError(403, "origin_not_allowed", "Requests from this web origin are not allowed here")


def _name(netloc: str) -> str:
    try:
        return (urlsplit(f"//{netloc}").hostname or "").lower()
    except ValueError:
        return ""


def _check_rate(limiter: RateLimiter, now: float) -> None:
    g.allowance = limiter.take(caller(), now)
    if g.allowance.retry_after is not None:
        raise ApiError(
            429, "rate_limit_exceeded", f"Rate limit exceeded. Retry after {g.allowance.retry_after} seconds"
        )


def _bearer() -> str:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or not key:
        raise ApiError(401, "invalid_api_key", "Missing or invalid Authorization header")
    return key


def _with_allowance(response: Response) -> Response:
    allowance: Allowance | None = g.get("allowance")
    if allowance is None or response.status_code in (413, 500):
        return response
    response.headers["X-RateLimit-Limit"] = str(allowance.limit)
    response.headers["X-RateLimit-Remaining"] = str(allowance.remaining)
    response.headers["X-RateLimit-Reset"] = str(allowance.reset)
    if allowance.retry_after is not None:
        response.headers["Retry-After"] = str(allowance.retry_after)
    return response
