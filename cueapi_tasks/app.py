"""The façade: `CueTasks` brings the declared tasks, the settings and the receiver together, and decides nothing."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from os import getpid
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from . import config, web
from .asgi import ASGIApp, Edge
from .asgi import mount as mount_asgi
from .config import Settings, Value
from .declare import schedules
from .declare.options import (
    TRANSPORTS,
    check_choice,
    check_kinds,
    check_timeout,
    make_headers,
    make_on_failure,
    make_policy,
    make_retry,
    make_schedule,
    make_verification,
)
from .declare.registry import Registry
from .declare.spec import CueSpec, Owner, check_former, check_part
from .declare.task import (
    AnyTask,
    Declared,
    P,
    Task,
    check_payload,
    first_line,
    task_of,
)
from .errors import ConfigurationError, DeclarationError
from .run.account import outcome_client, secret_reader
from .run.dispatch import Stage
from .run.hooks import AfterFailure, AfterRun, Around, BeforeRun, Hooks, check_hook
from .run.include import Includes
from .run.ledger import open_ledger
from .run.ledger.base import Ledger
from .run.outcome import DISCLOSURES, Disclosure
from .run.receiver import Receiver, refusal
from .run.report import Reporter
from .run.secrets import Secrets
from .run.worker import Worker, WorkerOptions

if TYPE_CHECKING:
    from cueapi import CueAPI

R = TypeVar("R")
Before = TypeVar("Before", bound=BeforeRun)
After = TypeVar("After", bound=AfterRun)
Failure = TypeVar("Failure", bound=AfterFailure)

logger = logging.getLogger("cueapi_tasks.run")


class Decorator(Protocol):
    """What `schedule` returns: it makes a function a `Task`, and gives a `Task` one more schedule."""

    def __call__(self, function: Callable[P, R], /) -> Task[P, R]:
        """Declare the function."""
        ...


class CueTasks:
    """An app: the tasks that it declares, and how CueAPI reaches them.

    `app` owns the cues named `app/...`, or `app@environment/...`. What is not given here comes from the environment:
    `CUEAPI_ENVIRONMENT`, `CUEAPI_CALLBACK_URL` (the receiver's URL, its path included), `CUEAPI_API_KEY`,
    `CUEAPI_BASE_URL`, `CUEAPI_WEBHOOK_SECRET` (one, or several separated by commas while a secret is rotated) and
    `CUEAPI_LEDGER`. `timezone`, `transport` and `callback_headers` are what its schedules have unless they say
    otherwise; `was` is the app's former name, whose cues are taken along.

    `include` names the modules and packages that hold tasks; they are imported by the command line, and before the
    first delivery runs. `around` is called for each run and returns a context manager that the function runs in, as
    `around=flask_app.app_context`. `report_errors="type"` sends only the type of an error to CueAPI, not its message.
    With `refresh_secret` a signature that does not match makes the receiver read the account's secret from the API, at
    most once a minute, so that a rotation needs no restart. Making an app touches no network, disk or clock, and no
    missing setting makes it fail.
    """

    def __init__(
        self,
        app: str,
        *,
        environment: str | None = None,
        callback: str | None = None,
        callback_headers: Mapping[str, str] | None = None,
        timezone: str = "UTC",
        transport: str = "webhook",
        api_key: str | None = None,
        base_url: str | None = None,
        webhook_secret: str | Iterable[str] | None = None,
        ledger: str | None = None,
        was: str | None = None,
        include: Iterable[str] = (),
        around: Around | None = None,
        report_errors: str = "message",
        refresh_secret: bool = False,
    ) -> None:
        self.name = check_part(app, "the app's name")
        self.timezone = schedules.check_zone(timezone)
        self.transport = check_choice("transport", transport, TRANSPORTS, app)
        self.callback_headers = make_headers(callback_headers, f"app {app!r}")
        self.was = was if was is None else check_part(was, "the app's former name")
        self.report_errors = check_choice("report_errors", report_errors, DISCLOSURES, app)
        self.refresh_secret = refresh_secret
        self.registry = Registry()
        self.includes = Includes(include)
        self._hooks = Hooks() if around is None else Hooks(around=around)
        self._given: Mapping[str, Value] = {
            "environment": environment,
            "callback": callback,
            "api_key": api_key,
            "base_url": base_url,
            "webhook_secret": webhook_secret
            if webhook_secret is None or isinstance(webhook_secret, str)
            else tuple(webhook_secret),
            "ledger": ledger,
        }
        self._overrides: dict[str, Value] = {}
        self._lock = threading.Lock()
        self._receivers: dict[int, Receiver] = {}
        """By process; what a fork leaves of its parent's is neither used nor closed, since both would touch that."""
        self._fault = ""

    def __repr__(self) -> str:
        return f"CueTasks({self.name!r}, {len(self.registry)} tasks)"

    def schedule(
        self,
        *,
        cron: str | None = None,
        every: str | timedelta | None = None,
        at: str | datetime | None = None,
        timezone: str | None = None,
        name: str | None = None,
        task: str | None = None,
        payload: Mapping[str, Any] | None = None,
        description: str | None = None,
        transport: str | None = None,
        callback_headers: Mapping[str, str] | None = None,
        retry: Mapping[str, Any] | None = None,
        on_failure: Mapping[str, Any] | None = None,
        verification: str = "none",
        paused: bool | None = None,
        was: str | None = None,
        dst: str = "once",
        late: str = "run",
        max_late: str | float | timedelta | None = None,
        overlap: str = "allow",
        timeout: float | None = None,
        after_crash: str = "rerun",
        adopts: str | None = None,
    ) -> Decorator:
        """Declare when the decorated function runs; exactly one of `cron`, `every` and `at`.

        `cron` is read in `timezone` (IANA, the app's by default), at both clock changes as the server does. `every` is
        an interval that divides an hour or a day (`"15m"`, `"2h"`, a timedelta), `at` one moment. `payload` holds the
        function's arguments by name. Stack the decorator for several schedules, each then with its own `name`.
        `retry` is `{"max_attempts": 3, "backoff_minutes": [1, 5, 15]}`, `on_failure` is
        `{"email": True, "webhook": None, "pause": False}`. `verification` names the evidence that CueAPI asks of a
        success. `paused` says whether the cue is; without it that is left to people. `was` is the schedule's former
        name (the part after the slash), `adopts` the name of a cue that somebody else made and that should become
        this one. `dst`, `late` with `max_late`, `overlap` and `after_crash` are policies for runs at the clock changes,
        too late, beside another run, and after a crash; `timeout` is in seconds, for async functions.

        Raises `DeclarationError`, which says how to mend it, for anything that could never run.
        """
        check_kinds(
            cron=cron, every=every, at=at, timezone=timezone, name=name, task=task, payload=payload,
            description=description, callback_headers=callback_headers, retry=retry, on_failure=on_failure,
            paused=paused, was=was, max_late=max_late, timeout=timeout, adopts=adopts,
        )  # fmt: skip
        zone = timezone or self.timezone
        when = make_schedule(cron=cron, every=every, at=at, zone=zone)
        policies = {"dst": dst, "late": late, "overlap": overlap, "after_crash": after_crash}

        def declare(function: Callable[P, R], /) -> Task[P, R]:
            base = task_of(function, task)
            carried = check_payload(base.binder, payload or {}, base.name)
            policy = make_policy(base.name, max_late=max_late, timeout=timeout, **policies)
            check_timeout(policy, base.function, base.name)
            headers = make_headers(callback_headers, f"task {base.name!r}")
            declared = Declared(
                name=name if name is None else check_part(name, "the schedule's name"),
                schedule=when,
                payload=carried,
                description=first_line(base.function) if description is None else description,
                retry=make_retry(retry, base.name),
                on_failure=make_on_failure(on_failure, base.name),
                policy=policy,
                transport=check_choice("transport", transport or self.transport, TRANSPORTS, base.name),
                callback_headers=self.callback_headers if headers is None else headers,
                verification=make_verification(verification, base.function, policy, base.name),
                paused=paused,
                was=was if was is None else check_former(was),
                adopts=adopts,
            )
            whole = base.with_schedule(declared)
            self.registry.add(whole, self.owner)
            return whole

        return declare

    def before_run(self, hook: Before, /) -> Before:
        """Call `hook(ctx)` before each run, inside `around`; what a hook raises is only logged."""
        self._hooks.before_run.append(check_hook(hook))
        return hook

    def after_run(self, hook: After, /) -> After:
        """Call `hook(ctx, value)` after a function returned `value`."""
        self._hooks.after_run.append(check_hook(hook))
        return hook

    def after_failure(self, hook: Failure, /) -> Failure:
        """Call `hook(ctx, error)` after a failure that no further attempt will change."""
        self._hooks.after_failure.append(check_hook(hook))
        return hook

    @property
    def settings(self) -> Settings:
        """The settings as they are now: given here, or else in the environment."""
        return config.resolve(self._overrides, self._given, ledger_name=self.name)

    @property
    def owner(self) -> Owner:
        """Whose cues the declared ones are."""
        environment = self.settings.environment
        return Owner(
            app=self.name,
            environment=environment and check_part(environment, "the environment (CUEAPI_ENVIRONMENT)"),
        )

    @property
    def former_owner(self) -> Owner | None:
        """Whose cues they were before the app was renamed."""
        return None if self.was is None else Owner(app=self.was, environment=self.owner.environment)

    @property
    def tasks(self) -> tuple[AnyTask, ...]:
        """The declared tasks, in the order of declaration."""
        return tuple(self.registry)

    def specs(self) -> tuple[CueSpec, ...]:
        """The wanted state of every cue."""
        return self.registry.specs(self.owner, self.settings.callback, self.former_owner)

    def override(self, **settings: Value) -> None:
        """Put settings above what the app and the environment say, before the first request; `dev` does."""
        self._overrides |= settings

    def mount(self, wsgi_app: web.WSGIApp, path: str = "/cueapi") -> web.MountedApp:
        """Return the WSGI app with the receiver at `path`: `app.wsgi_app = cue.mount(app.wsgi_app)`."""
        return web.mount(wsgi_app, self.wsgi, path)

    @functools.cached_property
    def wsgi(self) -> web.MountedApp:
        """The receiver alone, as a WSGI app for any path."""
        return web.wsgi(self._handle)

    def mount_asgi(self, asgi_app: ASGIApp, path: str = "/cueapi") -> ASGIApp:
        """Return the ASGI app with the receiver at `path`; also as `app.add_middleware(cue.mount_asgi, path=path)`."""
        return mount_asgi(asgi_app, self.asgi, path)

    @functools.cached_property
    def asgi(self) -> Edge:
        """The receiver alone, as an ASGI app for any path."""
        return Edge(self._handle)

    @property
    def receiver(self) -> Receiver:
        """The receiver of this process, assembled from the settings when it is first needed."""
        process = getpid()
        with self._lock:
            if process not in self._receivers:
                self._receivers[process] = self._assemble()
            return self._receivers[process]

    def worker(self, client: CueAPI, options: WorkerOptions | None = None) -> Worker:
        """Return a worker for the tasks with `transport="worker"`; its `run` works until `stop` and then drains."""
        settings = self.settings
        ledger = open_ledger(settings.ledger)
        return Worker(
            registry=self.registry,
            owner=self.owner,
            former=self.former_owner,
            client=client,
            ledger=ledger,
            stage=self.stage,
            reporter=self._reporter(ledger, settings),
            options=options,
        )

    @property
    def stage(self) -> Stage:
        """What surrounds a run of this app: its hooks, and a loop for async tasks that starts with the first."""
        return self._stage(Secrets(self.settings.webhook_secrets))

    def close(self) -> None:
        """Stop the receiver's background threads and close the ledger."""
        with self._lock:
            receiver = self._receivers.pop(getpid(), None)
        if receiver is not None:
            receiver.close()

    def _handle(self, request: web.Request) -> web.Response:
        """Answer a request; without usable settings each is turned away, until there are some."""
        try:
            receiver = self.receiver
        except (ConfigurationError, DeclarationError) as error:
            if self._fault != str(error):
                self._fault = str(error)
                logger.error("nothing runs: %s", error)
            return refusal(503, error.code)
        return receiver.handle(request)

    def _assemble(self) -> Receiver:
        settings = self.settings
        secrets = Secrets(settings.webhook_secrets, secret_reader(settings) if self.refresh_secret else None)
        ledger = open_ledger(settings.ledger)
        return Receiver(
            registry=self.registry,
            owner=self.owner,
            former=self.former_owner,
            includes=self.includes,
            secrets=secrets,
            ledger=ledger,
            stage=self._stage(secrets),
            reporter=self._reporter(ledger, settings),
        )

    def _reporter(self, ledger: Ledger, settings: Settings) -> Reporter:
        former = self.former_owner
        return Reporter(
            ledger, self.owner.scope, lambda: outcome_client(settings), former=None if former is None else former.scope
        )

    def _stage(self, secrets: Secrets) -> Stage:
        key = self.settings.api_key
        hidden = Disclosure(errors=self.report_errors, hidden=lambda: (key or "", *secrets.known()))
        return Stage(hooks=self._hooks, disclosure=hidden)
