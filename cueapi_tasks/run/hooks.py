"""What an app asks to be called beside its tasks; a hook's own error is logged and changes no answer."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..declare.context import Context
from ..declare.options import is_async
from ..errors import DeclarationError

Around = Callable[[], AbstractContextManager[Any]]
BeforeRun = Callable[[Context], object]
AfterRun = Callable[[Context, Any], object]
AfterFailure = Callable[[Context, BaseException], object]
Hook = TypeVar("Hook", bound=Callable[..., object])

logger = logging.getLogger("cueapi_tasks.run")


@dataclass(slots=True, kw_only=True)
class Hooks:
    """An app's hooks; those that are added later are called from then on."""

    around: Around = nullcontext
    """Makes the context manager that each run is entered in."""
    before_run: list[BeforeRun] = field(default_factory=list[BeforeRun])
    after_run: list[AfterRun] = field(default_factory=list[AfterRun])
    after_failure: list[AfterFailure] = field(default_factory=list[AfterFailure])

    def before(self, context: Context) -> None:
        """Call what comes before a run, inside `around`."""
        for hook in self.before_run:
            _guarded(hook, context)

    def after(self, context: Context, value: Any) -> None:
        """Call what comes after a function returned, inside `around`."""
        for hook in self.after_run:
            _guarded(hook, context, value)

    def failed(self, context: Context, error: BaseException) -> None:
        """Call what comes after a final failure, in an `around` of its own: the run's is left by then."""
        if self.after_failure:
            _guarded(self._failed, context, error)

    def _failed(self, context: Context, error: BaseException) -> None:
        with self.around():
            for hook in self.after_failure:
                _guarded(hook, context, error)


def check_hook(hook: Hook) -> Hook:
    """Return a hook, or raise if calling it would only make a coroutine."""
    if is_async(hook):
        raise DeclarationError("async_hook", f"the hook {hook!r} is async, and nothing awaits it; use a plain function")
    return hook


def _guarded(hook: Callable[..., object], *arguments: Any) -> None:
    try:
        hook(*arguments)
    except BaseException as error:
        if ends_process(error):
            raise
        logger.exception("the hook %s raised", getattr(hook, "__qualname__", hook))


def ends_process(error: BaseException) -> bool:
    """Tell whether an error may be a server's way to end its process: it comes in the main thread, as signals do."""
    plain = isinstance(error, Exception | asyncio.CancelledError)
    return not plain and threading.current_thread() is threading.main_thread()
