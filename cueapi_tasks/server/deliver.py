"""Make one delivery: the exact request that CueAPI makes (contract, section 8), over an httpx client handed in."""

from __future__ import annotations

import json
import logging
import socket
from datetime import datetime
from urllib.parse import urlsplit

import httpx

from cueapi import webhook

from .. import log
from .events import logger
from .records import Answered, Attempt, Notice
from .rules import MAX_ERROR, is_address, is_link_local

TIMEOUT_SECONDS = 30.0
NOTICE_SECONDS = 10.0
MAX_ANSWER = 64 * 1024
"""Bytes of an answer that are read; nothing in it matters but its status."""


def make_client(transport: httpx.BaseTransport | None = None) -> httpx.Client:
    """Return the client for deliveries: no redirects, no proxies from the environment, 30 s a phase."""
    client = httpx.Client(
        transport=transport,
        timeout=TIMEOUT_SECONDS,
        follow_redirects=False,
        trust_env=False,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
    )
    client.headers.clear()  # in the recorded order, which replacing the defaults would not keep
    client.headers.update({"Accept": "*/*", "Accept-Encoding": "gzip, deflate", "Connection": "keep-alive"})
    return client


def body_of(attempt: Attempt) -> bytes:
    """Return the body's bytes: keys sorted, spaced separators, ASCII escapes (contract, section 8.1)."""
    envelope = {
        "execution_id": attempt.execution_id,
        "cue_id": attempt.cue_id,
        "name": attempt.cue_name,
        "attempt": attempt.number,
        "scheduled_for": attempt.scheduled_for.isoformat(),
        "payload": attempt.payload,
    }
    return json.dumps(envelope, sort_keys=True).encode("ascii")


def headers_of(attempt: Attempt, body: bytes, now: datetime) -> dict[str, str]:
    """Return the headers in CueAPI's order; the cue's own come last and win (contract, Q44)."""
    timestamp = int(now.timestamp())
    return {
        "Content-Type": "application/json",
        webhook.SIGNATURE_HEADER: webhook.sign(body, secret=attempt.secret, timestamp=timestamp),
        webhook.TIMESTAMP_HEADER: str(timestamp),
        "X-CueAPI-Cue-Id": attempt.cue_id,
        "X-CueAPI-Execution-Id": attempt.execution_id,
        "X-CueAPI-Scheduled-For": attempt.scheduled_for.isoformat(),
        "X-CueAPI-Attempt": str(attempt.number),
        "User-Agent": "CueAPI/1.0",
        **attempt.headers,
    }


def deliver(client: httpx.Client, attempt: Attempt, now: datetime) -> Answered:
    """Make the request and return how it was answered; a failure to get an answer is an answer of its own."""
    if not urlsplit(attempt.url).hostname:
        return Answered(status=None, error="URL must have a hostname")
    if is_link_local_name(attempt.url):
        return Answered(status=None, error="Callback URL resolved to blocked IP")
    body = body_of(attempt)
    headers = headers_of(attempt, body, now)
    content = None if attempt.method == "GET" else body
    try:
        with client.stream(attempt.method, attempt.url, content=content, headers=headers) as response:
            return Answered(status=response.status_code, error=None, body=_start_of(response))
    except httpx.TimeoutException:
        return Answered(status=None, error="Webhook endpoint timed out")
    except httpx.ConnectError:
        return Answered(status=None, error="Could not connect to webhook endpoint")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return Answered(status=None, error=(str(error) or type(error).__name__)[:MAX_ERROR])


def notify(client: httpx.Client, notice: Notice) -> None:
    """Make a notice's request once; what becomes of it is only logged."""
    try:
        client.post(notice.url, content=notice.body, headers=notice.headers, timeout=NOTICE_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        log.event(logger, "notice_failed", level=logging.WARNING, url=notice.url, error=str(error))


def is_link_local_name(url: str) -> bool:
    """Tell whether a URL's host resolves to a link-local address, where clouds keep their metadata."""
    host = urlsplit(url).hostname or ""
    if is_address(host):
        return is_link_local(host)
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False  # the request itself will say that there is no such host
    return any(is_link_local(str(each[4][0]).partition("%")[0]) for each in found)


def _start_of(response: httpx.Response) -> str:
    parts: list[bytes] = []
    size = 0
    for part in response.iter_raw():
        parts.append(part)
        size += len(part)
        if size >= MAX_ANSWER:
            break
    return b"".join(parts)[:MAX_ANSWER].decode("utf-8", "replace")
