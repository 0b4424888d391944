"""The HTTP face of the engine: its routes (contract, section 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from flask import Flask, Response, g, request

from . import guard, schemas, views, wire
from .engine import Engine
from .executions import payload_of
from .guard import LOOPBACK, RateLimiter, account
from .profile import Quirk
from .records import Execution, Page
from .rules import LEASE, ApiError
from .wire import answer, read_body, read_query

Clock = Callable[[], datetime]


def create_api(engine: Engine, clock: Clock, *, hosts: Iterable[str] = LOOPBACK, allow_register: bool = False) -> Flask:
    """Return the API as a WSGI app over an engine and a clock; `hosts` are the names that it answers to."""
    app = Flask("cueapi_tasks.server", static_folder=None)
    limiter = RateLimiter(engine.profile.limits.requests_per_minute)
    guard.install(app, engine.accounts, limiter, clock, hosts)
    wire.install(app, engine.profile, clock)
    _open_routes(app, engine, clock, allow_register=allow_register)
    _account_routes(app, engine, clock, limiter)
    _secret_routes(app, engine, clock)
    _cue_routes(app, engine, clock)
    _execution_routes(app, engine, clock)
    _outcome_routes(app, engine, clock)
    _worker_routes(app, engine, clock)
    return app


def _open_routes(app: Flask, engine: Engine, clock: Clock, *, allow_register: bool) -> None:
    @app.get("/health")
    def health() -> Response:
        now = clock()
        services = {"postgres": "ok", "redis": "ok", "poller": "ok", "worker": "ok"}
        return answer(
            {
                "status": "healthy",
                "version": "1.0.0",
                "timestamp": views.with_offset(now),
                "services": services,
                "poller": {
                    "last_run": views.with_offset(now),
                    "seconds_ago": 0,
                    "cues_last_cycle": 0,
                    "cycle_duration_ms": 0,
                },
                "workers": {"active_count": 0},
                "queue": engine.accounts.queue(now),
            }
        )

    @app.get("/status")
    def status() -> Response:
        return answer({"status": "healthy"})

    @app.get("/v1/info")
    def info() -> Response:
        return answer(
            {
                "version": "0.1.2",
                "authorization_backend": "SameTenantAuthorizationBackend",
                "authentication_paths": {"per_user_api_key": True, "internal_token_with_on_behalf_of": False},
                "disabled_primitives": [],
            }
        )

    @app.post("/v1/auth/register")
    def register() -> Response:
        if not allow_register:
            raise ApiError(404, "not_found", "Not found")
        body = read_body(schemas.RegisterIn)
        key = engine.accounts.register(body.email)
        return answer({"api_key": key, "email": body.email}, 201)


def _account_routes(app: Flask, engine: Engine, clock: Clock, limiter: RateLimiter) -> None:
    @app.get("/v1/auth/me")
    def me() -> Response:
        return answer(engine.accounts.me(account(), clock()))

    @app.patch("/v1/auth/me")
    def patch_me() -> Response:
        engine.accounts.patch(account(), read_body(schemas.AccountPatch))
        return answer({"updated_at": views.with_z(clock())})

    @app.get("/v1/usage")
    def usage() -> Response:
        now = clock()
        return answer(engine.accounts.usage(account(), limiter.used(guard.caller(), now.timestamp()), now))

    @app.get("/v1/alerts")
    def alerts() -> Response:
        query = read_query(schemas.AlertQuery)
        page = Page(limit=query.limit, offset=query.offset)
        found, total = engine.accounts.alerts(account(), query.alert_type, query.since, page)
        return answer(views.alert_page(found, total, page))


def _secret_routes(app: Flask, engine: Engine, clock: Clock) -> None:
    @app.get("/v1/auth/webhook-secret")
    def webhook_secret() -> Response:
        return answer({"webhook_secret": account().webhook_secret})

    @app.post("/v1/auth/webhook-secret/regenerate")
    def regenerate_webhook_secret() -> Response:
        _need_confirmation()
        secret = engine.accounts.regenerate_webhook_secret(account())
        return answer({"webhook_secret": secret, "previous_secret_revoked": True})

    @app.get("/v1/auth/alert-webhook-secret")
    def alert_secret() -> Response:
        return answer({"alert_webhook_secret": engine.accounts.alert_secret(account())})

    @app.post("/v1/auth/alert-webhook-secret/regenerate")
    def regenerate_alert_secret() -> Response:
        _need_confirmation()
        secret = engine.accounts.alert_secret(account(), regenerate=True)
        return answer({"alert_webhook_secret": secret, "previous_secret_revoked": True})

    @app.get("/v1/auth/key")
    def key() -> Response:
        message = "The key is kept as a digest and cannot be shown again"
        return answer({"api_key": None, "prefix": account().api_key_prefix, "message": message})

    @app.post("/v1/auth/key/regenerate")
    def regenerate_key() -> Response:
        _need_confirmation()
        return answer({"api_key": engine.accounts.regenerate_key(account(), clock()), "previous_key_revoked": True})


def _need_confirmation() -> None:
    if request.headers.get("X-Confirm-Destructive") != "true":
        raise ApiError(400, "confirmation_required", "Send the header X-Confirm-Destructive: true to confirm")


def _cue_routes(app: Flask, engine: Engine, clock: Clock) -> None:
    core_keys, core_fire = engine.profile.has(Quirk.IGNORED_CUE_KEYS), engine.profile.has(Quirk.IGNORED_FIRE_KEYS)
    created = schemas.CueIn if core_keys else schemas.HostedCueIn
    patched = schemas.CuePatch if core_keys else schemas.HostedCuePatch
    fired = schemas.FireIn if core_fire else schemas.HostedFireIn

    @app.post("/v1/cues")
    def create_cue() -> Response:
        body = read_body(created)
        cue, warning = engine.cues.create(account(), body, clock())
        return answer(views.cue_view(cue, warning), 201)

    @app.get("/v1/cues")
    def list_cues() -> Response:
        query = read_query(schemas.CueQuery)
        page = Page(limit=query.limit, offset=query.offset)
        return answer(views.cue_page(*engine.cues.list(account(), query.status, page), page))

    @app.get("/v1/cues/<cue_id>")
    def get_cue(cue_id: str) -> Response:
        query = read_query(schemas.CueDetailQuery)
        page = Page(limit=query.execution_limit, offset=query.execution_offset)
        cue, executions, total = engine.cues.get(account(), cue_id, page)
        return answer(views.cue_detail(cue, [views.execution_view(each) for each in executions], total, page))

    @app.patch("/v1/cues/<cue_id>")
    def patch_cue(cue_id: str) -> Response:
        body = read_body(patched)
        return answer(views.cue_view(engine.cues.patch(account(), cue_id, body, clock())))

    @app.delete("/v1/cues/<cue_id>")
    def delete_cue(cue_id: str) -> Response:
        engine.cues.delete(account(), cue_id)
        return Response(status=204)

    @app.post("/v1/cues/<cue_id>/fire")
    def fire(cue_id: str) -> Response:
        g.echo_nothing = True
        body = read_body(fired, optional=True)
        return answer(views.fired_view(engine.cues.fire(account(), cue_id, body, clock())))


def _execution_routes(app: Flask, engine: Engine, clock: Clock) -> None:
    hidden = engine.profile.has(Quirk.HIDDEN_EXECUTION_FIELDS)

    @app.get("/v1/executions")
    def list_executions() -> Response:
        query = read_query(schemas.ExecutionQuery)
        page = Page(limit=query.limit, offset=query.offset)
        found, total, oldest = engine.executions.list(account(), query, page)
        return answer(views.execution_page([views.execution_view(each) for each in found], total, page, oldest))

    @app.get("/v1/executions/claimable")
    def claimable() -> Response:
        found = engine.executions.claimable(account(), request.args.get("task"), clock())
        return answer({"executions": [views.claimable_view(each, cue, payload_of(each, cue)) for each, cue in found]})

    @app.get("/v1/executions/<execution_id>")
    def get_execution(execution_id: str) -> Response:
        execution, cue = engine.executions.get(account(), execution_id)
        more = {} if hidden else views.hosted_fields(execution, payload_of(execution, cue))
        return answer(views.execution_view(execution) | more)

    @app.post("/v1/executions/claim")
    def claim_next() -> Response:
        body = read_body(schemas.ClaimIn)
        return _claim_answer(engine.executions.claim_next(account(), body.worker_id, clock()))

    @app.post("/v1/executions/<execution_id>/claim")
    def claim(execution_id: str) -> Response:
        body = read_body(schemas.ClaimIn)
        return _claim_answer(engine.executions.claim(account(), execution_id, body.worker_id, clock()))

    @app.post("/v1/executions/<execution_id>/heartbeat")
    def heartbeat(execution_id: str) -> Response:
        now = clock()
        worker_id = request.headers.get("X-Worker-Id")
        execution = engine.executions.heartbeat(account(), execution_id, worker_id, now)
        until = views.with_offset(now + LEASE)
        return answer({"execution_id": execution.id, "lease_extended_until": until, "acknowledged": True})

    @app.post("/v1/executions/<execution_id>/replay")
    def replay(execution_id: str) -> Response:
        return answer(views.fired_view(engine.executions.replay(account(), execution_id, clock())))


def _outcome_routes(app: Flask, engine: Engine, clock: Clock) -> None:
    @app.post("/v1/executions/<execution_id>/outcome")
    def outcome(execution_id: str) -> Response:
        execution = engine.executions.record_outcome(account(), execution_id, read_body(schemas.OutcomeIn), clock())
        state = execution.outcome_state
        return answer({"execution_id": execution.id, "outcome_recorded": True, "outcome_state": state, "reason": None})

    @app.post("/v1/executions/<execution_id>/verify")
    def verify(execution_id: str) -> Response:
        body = read_body(schemas.VerifyIn, optional=True)
        state = engine.executions.verify(account(), execution_id, body, clock()).outcome_state
        return answer(
            {"execution_id": execution_id, "outcome_state": state, "valid": body.valid, "reason": body.reason}
        )

    @app.post("/v1/executions/<execution_id>/verification-pending")
    def verification_pending(execution_id: str) -> Response:
        execution = engine.executions.mark_pending(account(), execution_id, clock())
        return answer({"execution_id": execution.id, "outcome_state": execution.outcome_state})

    @app.patch("/v1/executions/<execution_id>/evidence")
    def evidence(execution_id: str) -> Response:
        body = read_body(schemas.EvidenceIn)
        execution = engine.executions.add_evidence(account(), execution_id, body, clock())
        state = execution.outcome_state
        return answer({"execution_id": execution.id, "outcome_state": state, "evidence_updated": True})


def _worker_routes(app: Flask, engine: Engine, clock: Clock) -> None:
    @app.post("/v1/worker/heartbeat")
    def worker_heartbeat() -> Response:
        body, now = read_body(schemas.HeartbeatIn), clock()
        engine.executions.worker_heartbeat(account(), body.worker_id, body.handlers, now)
        return answer({"acknowledged": True, "server_time": views.with_z(now)})

    @app.get("/v1/workers")
    def workers() -> Response:
        now = clock()
        return answer({"workers": [views.worker_view(each, now) for each in engine.executions.workers(account())]})

    @app.delete("/v1/workers/<worker_id>")
    def delete_worker(worker_id: str) -> Response:
        engine.executions.delete_worker(account(), worker_id)
        return Response(status=204)


def _claim_answer(execution: Execution) -> Response:
    seconds = int(LEASE.total_seconds())
    return answer({"claimed": True, "execution_id": execution.id, "lease_seconds": seconds})
