"""The account, as the processes that run tasks ask it: with the settings' key, and only when it is needed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from cueapi import InvalidArgumentError

from ..config import Settings

if TYPE_CHECKING:
    from cueapi import CueAPI

REPORT_TIMEOUT = 3.0
"""Seconds that reporting an outcome may hold up an answer."""

logger = logging.getLogger("cueapi_tasks.run")


def outcome_client(settings: Settings) -> CueAPI | None:
    """Return the client for outcomes, or None, said once, where there is no key."""
    if settings.api_key is None:
        logger.warning("no outcome is reported: set CUEAPI_API_KEY")
        return None
    try:
        return _connect(settings.api_key, settings.base_url)
    except InvalidArgumentError as error:
        logger.error("no outcome is reported: %s; check CUEAPI_API_KEY and CUEAPI_BASE_URL", error)
        return None


def secret_reader(settings: Settings) -> Callable[[], str] | None:
    """Return how to read the account's webhook secret, or None, said once, where there is no key."""
    key = settings.api_key
    if key is None:
        logger.warning("the webhook secret is not refreshed: set CUEAPI_API_KEY")
        return None

    def fetch() -> str:
        with _connect(key, settings.base_url) as client:
            return client.webhook_secret.get()

    return fetch


def _connect(key: str, base_url: str) -> CueAPI:
    from cueapi import CueAPI  # noqa: PLC0415 - a receiver that asks for nothing must not load httpx

    return CueAPI(key, base_url=base_url, timeout=REPORT_TIMEOUT, max_retries=0)
