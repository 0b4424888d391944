"""How a program notices signals, and how it ends beside threads that cannot be stopped."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SIGNAL_SECONDS = 0.5
"""The longest wait of a main thread: a signal that comes just before one begins does not interrupt it."""


@contextmanager
def on_signal(act: Callable[[int], object]) -> Generator[None]:
    """Call `act` with each SIGINT or SIGTERM that comes in the block, in place of an exception."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(each, lambda number, _frame: act(number)) for each in SIGNALS]
    try:
        yield
    finally:
        for each, handler in zip(SIGNALS, before, strict=True):
            signal.signal(each, handler)


def exit_beside_threads(code: int) -> None:
    """Exit though threads still run functions: a thread cannot be stopped, and its lease is given back."""
    logging.shutdown()
    os._exit(code)
