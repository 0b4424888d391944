"""What the server does, without threads, sockets or a clock of its own: every operation takes its moment."""

from __future__ import annotations

from collections.abc import Callable

from .accounts import Accounts
from .core import Core
from .cues import Cues
from .executions import Executions
from .profile import Profile
from .scheduler import Scheduler
from .store import Store


class Engine:
    """The parts of the server over one store; both shells, the threaded and the virtual one, drive it."""

    def __init__(self, store: Store, profile: Profile | None = None, wake: Callable[[], None] = lambda: None) -> None:
        self._core = Core(store=store, profile=profile or Profile(), wake=wake)
        self.profile = self._core.profile
        self.cues = Cues(self._core)
        self.executions = Executions(self._core)
        self.accounts = Accounts(self._core)
        self.scheduler = Scheduler(self._core)
