"""Open connections, each lent to one thread at a time; as many as were ever in use at once."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """What can be closed."""

    def close(self) -> None:
        """Close it."""
        ...


C = TypeVar("C", bound=Closable)
T = TypeVar("T")


class Connections(Generic[C]):
    """Lends what `connect` opens; a thread that ends leaves nothing open behind it."""

    def __init__(self, connect: Callable[[], C], *, alive: Callable[[C], bool] | None = None) -> None:
        """Take how to open one, and how to tell an idle one that was closed at its other end."""
        self._connect = connect
        self._alive = alive
        self._idle: list[C] = []
        self._closed = False

    def use(self, work: Callable[[C], T]) -> T:
        """Return what `work` makes of a connection; after an error it is closed and not lent again."""
        connection = self._take()
        try:
            made = work(connection)
        except BaseException:
            connection.close()
            raise
        self._give(connection)
        return made

    @contextmanager
    def lent(self) -> Generator[C]:
        """Lend a connection for the block; after an error it is closed, which ends any transaction."""
        connection = self._take()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._give(connection)

    def close(self) -> None:
        """Close what is idle at once, and what is lent when it comes back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> C:
        while True:
            try:
                connection = self._idle.pop()  # one step for all threads, as append is
            except IndexError:
                return self._connect()
            if self._alive is None or self._alive(connection):
                return connection
            connection.close()

    def _give(self, connection: C) -> None:
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)
