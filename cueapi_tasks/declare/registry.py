"""Every declared task of one app, by name; a name from two places is refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from ..errors import DuplicateTaskError
from .spec import CueSpec, Owner, check_length
from .task import AnyTask

logger = logging.getLogger("cueapi_tasks.declare")


class Registry:
    """The tasks of one app; adding is all or nothing."""

    def __init__(self) -> None:
        self._tasks: dict[str, AnyTask] = {}

    def add(self, task: AnyTask, owner: Owner) -> None:
        """Add a task, or replace it when the same function registers again (a reload, or `__main__`)."""
        other = self._tasks.get(task.name)
        if other is not None and not _same(other, task):
            raise DuplicateTaskError(
                "duplicate_task",
                f"two functions declare the task {task.name!r}: {other.place} and {task.place}; "
                "rename one, or give it task=",
            )
        if other is not None and _line(other) != _line(task):
            logger.warning(
                "the task %r is declared twice in %s, in lines %s and %s, and the second stands; rename one",
                *(task.name, task.place, _line(other), _line(task)),
            )
        self._refuse_double_schedules(task, owner)
        self._tasks[task.name] = task

    def get(self, name: str) -> AnyTask | None:
        """Return the task of that name, if there is one."""
        return self._tasks.get(name)

    def find(self, task: str, schedule: str | None) -> tuple[str, str | None] | None:
        """Return the names, as they are now, of what is or was called so; None where no task ever was."""
        known = self.get(task)
        if known is not None and known.of_schedule(schedule) is not None:
            return task, schedule
        rest = task if schedule is None else f"{task}:{schedule}"
        former = [(each.name, declared) for each in self for declared in each.declared if declared.was is not None]
        for name, declared in former:
            if declared.was == rest:
                return name, declared.name
        renamed = next((name for name, declared in former if (declared.was or "").partition(":")[0] == task), None)
        owner = renamed if known is None else task
        return None if owner is None else (owner, schedule)

    def __iter__(self) -> Iterator[AnyTask]:
        return iter(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)

    def specs(self, owner: Owner, callback: str | None, former: Owner | None = None) -> tuple[CueSpec, ...]:
        """Return the wanted state of every cue, in the order of declaration."""
        return tuple(spec for task in self for spec in task.specs(owner, callback, former))

    def _refuse_double_schedules(self, task: AnyTask, owner: Owner) -> None:
        names = [check_length(spec.name) for spec in task.specs(owner, None)]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise DuplicateTaskError(
                "duplicate_schedule",
                f"the schedule {twice[0]!r} is declared twice at {task.place}; give each its own name=",
            )


def _same(one: AnyTask, other: AnyTask) -> bool:
    if one.identity == other.identity:
        return True
    # `python app.py` imports the module as __main__, and again under its own name where another module imports it
    return _code(one) is not None and _code(one) == _code(other)


def _line(task: AnyTask) -> int | None:
    code = getattr(task.function, "__code__", None)
    return None if code is None else code.co_firstlineno


def _code(task: AnyTask) -> tuple[str, str] | None:
    code = getattr(task.function, "__code__", None)
    return None if code is None else (code.co_filename, getattr(task.function, "__qualname__", ""))
