"""Settings, and the one door to the environment: an argument wins over a variable, which wins over the default."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from .errors import ConfigurationError

DEFAULT_BASE_URL = "https://api.cueapi.ai"
VARIABLES: Mapping[str, str] = {
    "environment": "CUEAPI_ENVIRONMENT",
    "callback": "CUEAPI_CALLBACK_URL",
    "api_key": "CUEAPI_API_KEY",
    "base_url": "CUEAPI_BASE_URL",
    "webhook_secret": "CUEAPI_WEBHOOK_SECRET",
    "ledger": "CUEAPI_LEDGER",
}
APP_VARIABLE = "CUEAPI_APP"

Value = str | Iterable[str] | None
"""A setting as it is given; only `webhook_secret` may be several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where an app's cues live and how its receiver is reached; None where nothing was said."""

    environment: str | None
    callback: str | None
    api_key: str | None = field(repr=False)
    base_url: str
    webhook_secrets: tuple[str, ...] = field(repr=False)
    ledger: str


def resolve(*layers: Mapping[str, Value], ledger_name: str) -> Settings:
    """Return the settings from `layers`, the first that says something winning, then from the environment.

    `ledger_name` names the default ledger's file in the user's state directory.
    """

    def pick(name: str) -> Value:
        return next((layer[name] for layer in layers if layer.get(name)), os.environ.get(VARIABLES[name]))

    return Settings(
        environment=_one(pick("environment"), "environment"),
        callback=_one(pick("callback"), "callback"),
        api_key=_one(pick("api_key"), "api_key"),
        base_url=_one(pick("base_url"), "base_url") or DEFAULT_BASE_URL,
        webhook_secrets=_several(pick("webhook_secret")),
        ledger=_one(pick("ledger"), "ledger") or default_ledger(ledger_name),
    )


def default_ledger(name: str) -> str:
    """Return the URL of the SQLite ledger in the user's state directory; nothing is created."""
    return f"sqlite:///{platformdirs.user_state_path('cueapi-tasks') / name}.db"


def django_settings() -> str | None:
    """Return the module that DJANGO_SETTINGS_MODULE names."""
    return os.environ.get("DJANGO_SETTINGS_MODULE") or None


def app_variable() -> str | None:
    """Return the app that the environment names for the command line."""
    return os.environ.get(APP_VARIABLE) or None


def sqlite_path(url: str) -> Path | None:
    """Return the file that a `sqlite:///` URL names, or None for another kind of URL."""
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def _one(value: Value, name: str) -> str | None:
    if value is None or isinstance(value, str):
        return (value or "").strip() or None
    raise ConfigurationError("bad_setting", f"{name} must be one text, not several")


def _several(value: Value) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value or ()
    return tuple(part.strip() for part in parts if part and part.strip())
