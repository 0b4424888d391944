"""`server`: the embedded CueAPI alone, for other programs on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import platformdirs

from ..errors import ServerStartError
from ..server.guard import LOOPBACK
from ..server.main import Clock, Credentials, Server, make_credentials
from ..server.profile import make_profile
from .logs import log_to_stderr
from .process import SIGNAL_SECONDS, on_signal
from .state import State, read_state, write_state

PORT = click.IntRange(0, 65_535)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=PORT, default=8700, show_default=True, help="The port to listen on; 0 takes a free one.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="The directory that keeps everything.")
@click.option("--api-key", envvar="CUEAPI_API_KEY", help="The key that clients send; made and shown once if not given.")
@click.option("--webhook-secret", envvar="CUEAPI_WEBHOOK_SECRET", help="What deliveries are signed with; likewise.")
@click.option("--credentials", type=FILE, help="A JSON file with api_key and webhook_secret.")
@click.option("--quirks", multiple=True, help="Copy a trap of cueapi-core by its name, or all of them: core.")
@click.option("--limits", help="A plan's limits: free (60 requests a minute, 10 cues, 300 executions a month).")
@click.option("--allow-register", is_flag=True, help="Let anybody who reaches the server make an account.")
@click.option("--allowed-host", multiple=True, help="A further host name that clients may address the server by.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--clock-rate", default=1.0, hidden=True, help="How many times too fast the clock runs; for tests.")
def server(
    host: str,
    port: int,
    data: Path | None,
    api_key: str | None,
    webhook_secret: str | None,
    credentials: Path | None,
    quirks: Sequence[str],
    limits: str | None,
    allow_register: bool,
    allowed_host: Sequence[str],
    log_format: str,
    clock_rate: float,
) -> int:
    """Run the embedded server alone: CueAPI on this machine."""
    log_to_stderr(as_json=log_format == "json")
    from_file = _read_credentials(credentials) if credentials else {}
    key = api_key or from_file.get("api_key")
    if host not in LOOPBACK and key is None:
        raise ServerStartError(
            "no_key_given",
            f"{host} can be reached from other machines: give --api-key (or CUEAPI_API_KEY, --credentials) on purpose",
        )
    folder = data or platformdirs.user_state_path("cueapi-tasks") / "server"
    before = read_state(folder)
    running = Server(
        data=folder,
        previous=None if before is None else Credentials(api_key=before.api_key, webhook_secret=before.webhook_secret),
        credentials=_kept(folder, key, webhook_secret or from_file.get("webhook_secret")),
        host=host,
        port=port,
        profile=make_profile(quirks=quirks, limits=limits),
        clock=Clock(clock_rate),
        allowed_hosts=allowed_host,
        allow_register=allow_register,
    )
    signals: list[int] = []
    with on_signal(signals.append):
        running.start()
        click.echo(f"CueAPI on {running.url}, data in {folder}")
        while not signals:
            time.sleep(SIGNAL_SECONDS)
        running.stop()
    return 0


def _kept(folder: Path, api_key: str | None, webhook_secret: str | None) -> Credentials:
    """Return the credentials given, or else those kept, or else new ones, shown this once."""
    made = make_credentials()
    new = State(api_key=made.api_key, webhook_secret=made.webhook_secret)
    state = read_state(folder) or new
    state = replace(state, api_key=api_key or state.api_key, webhook_secret=webhook_secret or state.webhook_secret)
    write_state(folder, state)
    if state.api_key == new.api_key:
        click.echo(f"CUEAPI_API_KEY={state.api_key}")
    if state.webhook_secret == new.webhook_secret:
        click.echo(f"CUEAPI_WEBHOOK_SECRET={state.webhook_secret}")
    return Credentials(api_key=state.api_key, webhook_secret=state.webhook_secret)


def _read_credentials(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text("utf-8"))
        if not {"api_key", "webhook_secret"} & {*found}:
            raise ValueError("it has neither of the two keys")
        return {name: str(found[name]) for name in ("api_key", "webhook_secret") if found.get(name)}
    except (ValueError, AttributeError, TypeError) as error:
        raise ServerStartError(
            "bad_credentials", f'{path} cannot be read: {error}; write {{"api_key": "...", "webhook_secret": "..."}}'
        ) from error
