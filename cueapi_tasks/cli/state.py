"""What the embedded server keeps beside its data from start to start: credentials and ports, in one private file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..errors import ServerStartError

FILE = "state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The kept settings; a port of 0 is not chosen yet."""

    api_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    server_port: int = 0
    receiver_port: int = 0


def read_state(folder: Path) -> State | None:
    """Return what an earlier start kept, or None at the first one."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return State(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError, OSError) as error:
        raise ServerStartError(
            "bad_state", f"{path} cannot be read: {error}; delete it to begin with new keys and ports"
        ) from error


def make_folder(folder: Path) -> None:
    """Make the directory, or raise `ServerStartError` if that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise ServerStartError(
            "data_unusable", f"{folder} cannot be written: {error.strerror}; give another directory with --data"
        ) from error


def write_state(folder: Path, state: State) -> None:
    """Keep the settings, readable by their owner alone; a crash leaves the old file or the new one."""
    make_folder(folder)
    draft = folder / f"{FILE}.{os.getpid()}"
    draft.touch(mode=0o600)
    with draft.open("w", encoding="utf-8") as file:
        json.dump(asdict(state), file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / FILE)
