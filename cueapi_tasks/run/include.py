"""Import the modules that hold an app's tasks, so that the web process knows what is deployed."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import threading
from collections.abc import Iterable, Iterator
from types import ModuleType

from ..errors import DeclarationError

logger = logging.getLogger("cueapi_tasks.run")


class Includes:
    """The modules and packages that an app names; each is imported once, a package with all that is in it."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        if isinstance(names, str):
            raise DeclarationError("bad_include", f"include= is a list of modules, as in include=[{names!r}]")
        self.names = tuple(names)
        self._lock = threading.RLock()
        self._left = list(self.names)

    def load(self) -> None:
        """Import what is not imported yet, or raise what a module raises; the next call then tries again."""
        if not self._left:
            return
        with self._lock:
            while self._left:
                _import_all(self._left[0])
                del self._left[0]

    def ready(self) -> bool:
        """Load, and tell whether it went well; a module's own error is logged with its traceback."""
        try:
            self.load()
        except (Exception, SystemExit):
            logger.exception("a module that include= names could not be imported; nothing runs until it can")
            return False
        return True


def _import_all(name: str) -> None:
    module = importlib.import_module(name)
    for inner in _inside(module):
        _import_all(inner)


def _inside(module: ModuleType) -> Iterator[str]:
    """Yield the modules of a package, but for the one that importing would run as a program."""
    for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
        if found.name != "__main__":
            yield f"{module.__name__}.{found.name}"
