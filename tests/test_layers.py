"""The floors and walls of the house: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cueapi

ROOT = Path(__file__).parent.parent
PURE: tuple[str, ...] = ("declare.", "deploy.plan", "deploy.forecast", "deploy.render", "run.delivery", "run.outcome")
PURE += ("deploy.normal", "deploy.ownership", "deploy.change", "deploy.cautions", "deploy.clock", "deploy.usage")
PURE += ("deploy.guards", "deploy.markdown")
PURE_SERVER = ("server.rules", "server.records", "server.views", "server.schemas")
IMPURE = {"httpx", "sqlite3", "socket", "threading", "os", "time", "subprocess", "asyncio", "random"}
FLOORS = [
    {"_sdk", "errors", "config", "web", "asgi", "log"},
    {"declare"},
    {"run", "server", "deploy"},
    {"app"},
    {"", "cli", "testing"},
]
"""The package's top-level names, ground floor first; "" is the package itself."""

SERVER_MAY_USE = ("errors", "config", "log", "web", "declare.schedules")
DEFERRED = {
    ("run.account", "cueapi"): "the client is loaded when the first outcome is reported",
    ("run.ledger", "redis"): "its library is an extra",
    ("run.ledger", "postgres"): "its library is an extra",
}


def modules(package: str) -> dict[str, ast.Module]:
    found: dict[str, ast.Module] = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / package).with_suffix("").parts)
        found[name.removesuffix("__init__").rstrip(".")] = ast.parse(path.read_text("utf-8"))
    return found


def imports(tree: ast.Module, module: str, package: str, *, is_package: bool) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the absolute dotted name of each imported module, or module and name, with its statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = [package, *module.split(".")] if module else [package]
                keep = len(here) - node.level + (1 if is_package else 0)
                base = ".".join([*here[:keep], *([node.module] if node.module else [])])
            yield from ((f"{base}.{alias.name}" if base else alias.name, node) for alias in node.names)


def edges(package: str) -> Iterator[tuple[str, str]]:
    known = modules(package)
    for module, tree in known.items():
        is_package = (ROOT / package / module.replace(".", "/") / "__init__.py").exists()
        for name, _ in imports(tree, module, package, is_package=is_package):
            yield module, name


def inside(name: str) -> str | None:
    """Return the part of a dotted name below cueapi_tasks, or None if it is elsewhere."""
    return name.removeprefix("cueapi_tasks").lstrip(".") if name.split(".")[0] == "cueapi_tasks" else None


OURS = [(module, target) for module, name in edges("cueapi_tasks") if (target := inside(name)) is not None]


def floor(name: str) -> int:
    top = name.split(".")[0]
    return next((level for level, names in enumerate(FLOORS) if top in names), len(FLOORS) - 1)


def test_no_module_imports_from_a_floor_above() -> None:
    assert [(low, high) for low, high in OURS if floor(high) > floor(low)] == []


def test_the_wings_do_not_know_each_other() -> None:
    wings = {"run", "server", "deploy"}
    crossing = [
        (one, other)
        for one, other in OURS
        if {one.split(".")[0], other.split(".")[0]} <= wings and one.split(".")[0] != other.split(".")[0]
    ]
    assert crossing == []


def test_the_sdk_does_not_know_tasks() -> None:
    assert [edge for edge in edges("cueapi") if edge[1].startswith("cueapi_tasks")] == []


def test_tasks_use_only_what_the_sdk_documents() -> None:
    used = {name for _, name in edges("cueapi_tasks") if name.split(".")[0] == "cueapi"}
    assert {name.partition(".")[2] for name in used} <= {*cueapi.__all__, "webhook"}


@pytest.mark.parametrize(
    ("package", "prefixes"), [("cueapi_tasks", PURE + PURE_SERVER), ("cueapi", ("models", "exceptions", "_retry"))]
)
def test_pure_modules_do_no_io(package: str, prefixes: tuple[str, ...]) -> None:
    found = [edge for edge in edges(package) if f"{edge[0]}.".startswith(prefixes) and edge[1].split(".")[0] in IMPURE]
    assert found == []


def test_the_server_judges_the_rest_and_shares_only_schedules_and_signing() -> None:
    used = [other for one, other in OURS if one.split(".")[0] == "server" and other.split(".")[0] not in ("server", "")]
    assert [name for name in used if not name.startswith(SERVER_MAY_USE)] == []
    sdk = {name for one, name in edges("cueapi_tasks") if one.startswith("server") and name.split(".")[0] == "cueapi"}
    assert sdk <= {"cueapi.webhook"}


@pytest.mark.parametrize(
    ("module", "must_not_know"),
    [
        ("declare.task", "app"),
        ("declare.registry", "app"),
        ("run.dispatch", "web"),
        ("run.dispatch", "run.receiver"),
        ("run.dispatch", "run.ledger"),
        ("web", "declare"),
        ("web", "run"),
        ("asgi", "declare"),
        ("asgi", "run"),
        ("server.store", "server.api"),
        ("server.engine", "server.api"),
        ("server.engine", "server.deliver"),
    ],
)
def test_low_things_do_not_know_high_things(module: str, must_not_know: str) -> None:
    assert [other for one, other in OURS if one == module and other.startswith(must_not_know)] == []


def test_each_outside_library_has_its_doors() -> None:
    doors = {
        "httpx": {"server.deliver"},
        "sqlite3": {"server.database", "run.ledger.sqlite"},
        "redis": {"run.ledger.redis"},
        "psycopg": {"run.ledger.postgres"},
    }
    for library, allowed in doors.items():
        assert {one for one, name in edges("cueapi_tasks") if name.split(".")[0] == library} <= allowed
    assert {one for one, name in edges("cueapi") if name.split(".")[0] == "httpx"} <= {"_http", "client"}


def test_only_config_and_the_command_line_read_the_environment() -> None:
    readers = {one for one, name in edges("cueapi_tasks") if name == "os"}
    assert readers <= {"config", "cli.main", "cli.process", "cli.state", "server.http"}


def test_imports_are_at_the_top_but_for_the_named_exceptions() -> None:
    deferred: list[tuple[str, str]] = []
    for module, tree in modules("cueapi_tasks").items():
        nested = [child for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for child in ast.walk(node)]
        deferred += [(module, node.module or "") for node in nested if isinstance(node, ast.ImportFrom)]
        assert not [node for node in nested if isinstance(node, ast.Import)]
    assert set(deferred) == set(DEFERRED)


CATCH_ALL = {"run.dispatch": 1, "run.hooks": 1, "run.include": 1, "server.main": 2, "cli.loader": 4}
CATCH_ALL |= {"run.worker": 1, "run.intake": 1, "run.claims": 1, "run.lease": 1, "run.outcome": 2, "declare.binding": 1}
"""Where `except Exception` stands: around the user's functions, validators, hooks and modules, a turn of a loop, and a delivery."""


def test_nothing_else_catches_everything() -> None:
    found: dict[str, int] = {}
    for module, tree in modules("cueapi_tasks").items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler) and catches_everything(node):
                found[module] = found.get(module, 0) + 1
    assert found == CATCH_ALL


def catches_everything(handler: ast.ExceptHandler) -> bool:
    """Tell whether a handler keeps whatever comes, rather than to tidy up and raise it again."""
    names = (
        {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} if handler.type else {"Exception"}
    )
    again = any(isinstance(node, ast.Raise) and node.exc is None for node in handler.body)
    return bool(names & {"Exception", "BaseException"}) and not again


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}} | set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_a_receiver_loads_neither_http_client_nor_flask_nor_the_server() -> None:
    heavy = {"httpx", "flask", "rich", "click", "waitress", "redis", "psycopg"}
    heavy |= {"cueapi_tasks.server", "cueapi_tasks.cli"}
    assert loaded_by("import cueapi_tasks; cueapi_tasks.CueTasks('a', ledger='sqlite:////x').receiver") & heavy == set()


def test_verifying_webhooks_loads_no_http_client_and_no_pydantic() -> None:
    assert loaded_by("import cueapi.webhook") & {"httpx", "pydantic"} == set()
