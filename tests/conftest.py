"""Fixtures: no test sees this machine's environment or state directory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

from cueapi import CueAPI
from cueapi_tasks import CueTasks
from cueapi_tasks.config import APP_VARIABLE, VARIABLES
from cueapi_tasks.server.main import Credentials, Server

from . import stores
from .support import API_KEY, SECRET, Clock, World

# the same examples on every run; how long one takes says something of the machine only
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in (*VARIABLES.values(), APP_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def cue() -> CueTasks:
    return CueTasks("billing", webhook_secret=SECRET)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[Callable[[CueTasks], World]]:
    """Make worlds, and close them at the end."""
    made: list[World] = []

    def make(app: CueTasks) -> World:
        made.append(World(app, tmp_path / "ledger.db"))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with stores.redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    # not in pytest's own folder, which the next run that starts closes to the database's user
    with TemporaryDirectory(prefix="postgres-") as folder, stores.postgres_server(Path(folder) / "data") as url:
        yield url


@pytest.fixture(params=["sqlite", "memory", "redis", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[stores.Store]:
    """Give each kind of ledger in turn, empty."""
    if request.param == "memory":
        made = stores.memory_store()
    elif request.param == "sqlite":
        made = stores.sqlite_store(tmp_path / "made" / "on first use" / "ledger.db")
    elif request.param == "redis":
        made = stores.redis_store(request.getfixturevalue("redis_url"))
    else:
        made = stores.postgres_store(request.getfixturevalue("postgres_url"))
    with made as opened:
        yield opened


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def shared_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give the URL of each kind of ledger that processes can share, empty."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ledger.db'}"
        return
    url: str = request.getfixturevalue(f"{request.param}_url")
    with {"redis": stores.redis_store, "postgres": stores.postgres_store}[request.param](url):
        yield url


@pytest.fixture(scope="session")
def install(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Install a distribution from PyPI into an environment of its own and return its bin folder."""

    def into_own_environment(requirement: str) -> Path:
        folder = tmp_path_factory.mktemp("peer") / "venv"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", requirement], check=True)
        return folder / "bin"

    return into_own_environment


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(data=tmp_path / "data", credentials=Credentials(api_key=API_KEY, webhook_secret=SECRET))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def client(server: Server) -> Iterator[CueAPI]:
    with CueAPI(API_KEY, base_url=server.url) as made:
        yield made
