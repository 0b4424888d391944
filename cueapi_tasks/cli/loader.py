"""Find and import the app that a command is about."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import pydantic
import pydantic.dataclasses

from .. import config
from ..app import CueTasks
from ..errors import AppLoadError, CueTasksError
from ..run import include

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIBRARY = Path(config.__file__).parent
HOW = "name it as module:attribute or path.py:attribute"


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=pydantic.ConfigDict(extra="forbid"))
class Project:
    """What pyproject.toml says under [tool.cueapi-tasks]."""

    app: str | None = None
    require_environment: pydantic.StrictBool = False
    """Refuse to plan and deploy where no environment is named."""
    refuse_older: pydantic.StrictBool = False
    """Refuse to deploy a lower revision than the one that is deployed."""


_PROJECT = pydantic.TypeAdapter(Project)
_TABLE = pydantic.TypeAdapter(dict[str, Any])


def load(reference: str | None) -> CueTasks:
    """Return the app named by the argument, or else by CUEAPI_APP, or else by pyproject.toml."""
    named = reference or config.app_variable() or project().app
    if named is None:
        raise AppLoadError(
            "no_app",
            f"no app is named: {HOW}, or set CUEAPI_APP, "
            'or write app = "..." under [tool.cueapi-tasks] in pyproject.toml',
        )
    target, attribute = _split(named)
    if config.django_settings() is not None:
        _set_up_django()
    module = _import_path(Path(target)) if target.endswith(".py") else _import_module(target)
    app = _pick(module, attribute, named)
    _include(app)
    return app


def project(path: Path = Path("pyproject.toml")) -> Project:
    """Return the project's settings; a key that is not known, or of another type, is refused."""
    if not path.is_file():
        return Project()
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
        tools = _TABLE.validate_python(document.get("tool", {}))
        return _PROJECT.validate_python(tools.get("cueapi-tasks", {}))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AppLoadError("bad_pyproject", f"pyproject.toml cannot be read: {error}") from None
    except pydantic.ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise AppLoadError("bad_pyproject", f"pyproject.toml, [tool.cueapi-tasks]: {faults}") from None


def user_traceback(error: BaseException) -> str:
    """Return the traceback of an error in the user's module, without the frames that lead to it.

    Of an error that this library raised only the place in the module and what it says are left.
    """
    trace = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    if isinstance(error, CueTasksError) and trace is not None:
        frames = traceback.extract_tb(trace)
        theirs = [frame for frame in frames if not Path(frame.filename).is_relative_to(LIBRARY)] or frames
        return f"{theirs[-1].filename}:{theirs[-1].lineno}: [{error.code}] {error}"
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()


def _is_ours(filename: str) -> bool:
    return filename in (__file__, include.__file__) or "importlib" in filename


def _split(reference: str) -> tuple[str, str | None]:
    target, colon, attribute = reference.rpartition(":")
    if not colon or attribute.startswith(("/", "\\")):  # the colon of a drive's letter
        return reference, None
    return target, attribute or None


def _import_path(path: Path) -> ModuleType:
    if not path.is_file():
        raise AppLoadError("file_not_found", f"there is no file {path}; {HOW}")
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    assert spec is not None  # the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _put_first(path.resolve().parent)
    _put_first(Path.cwd())
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[path.stem]
        raise _import_failed(str(path)) from error
    return module


def _import_module(name: str) -> ModuleType:
    _put_first(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise AppLoadError(
                "module_not_found", f"there is no module {error.name!r} here or on the import path; {HOW}"
            ) from None
        raise _import_failed(name) from error
    except Exception as error:
        raise _import_failed(name) from error


def _set_up_django() -> None:
    """Make models usable in tasks; a module that Django's own way leads to, such as wsgi.py, does it by itself."""
    _put_first(Path.cwd())
    try:
        importlib.import_module("django").setup()
    except Exception as error:
        raise _import_failed("what DJANGO_SETTINGS_MODULE names") from error


def _include(app: CueTasks) -> None:
    try:
        app.includes.load()
    except Exception as error:
        raise _import_failed(f"what include= of {app.name!r} names") from error


def _put_first(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _import_failed(name: str) -> AppLoadError:
    return AppLoadError("import_failed", f"{name} could not be imported; its own error stands above")


def _pick(module: ModuleType, attribute: str | None, named: str) -> CueTasks:
    if attribute is None:
        return _only_app(module, named)
    found: object = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if isinstance(found, CueTasks):
        return found
    what = "has no such attribute" if found is None else f"has a {type(found).__name__} there"
    others = " or ".join(f"{named.rpartition(':')[0]}:{name}" for name in _apps(module))
    hint = f"did you mean {others}?" if others else "make one: cue = CueTasks('my-app')"
    raise AppLoadError("not_an_app", f"{named} is no CueTasks: {module.__name__} {what}; {hint}")


def _only_app(module: ModuleType, named: str) -> CueTasks:
    apps = _apps(module)
    if not apps:
        raise AppLoadError(
            "no_app_in_module",
            f"{named} holds no CueTasks at its top level; make one: cue = CueTasks('my-app')",
        )
    if len({id(app) for app in apps.values()}) > 1:
        choices = " or ".join(f"{named}:{name}" for name in apps)
        raise AppLoadError("several_apps", f"{named} holds several CueTasks; say which: {choices}")
    return next(iter(apps.values()))


def _apps(module: ModuleType) -> dict[str, CueTasks]:
    return {name: value for name, value in vars(module).items() if isinstance(value, CueTasks)}
