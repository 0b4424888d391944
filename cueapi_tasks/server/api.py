"""The HTTP face of the engine: routes, authentication and the API's error envelopes (contract, sections 2, 3 and 5)."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from flask import Flask, Response, g, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from . import schemas, views
from .engine import Engine
from .records import Account, Page
from .rules import ApiError

MAX_BODY = 1_048_576
"""Bytes of a request's body (contract, section 4)."""
OPEN_ROUTES = frozenset(("health", "status"))
"""Endpoints that need no key."""

Body = TypeVar("Body", bound=BaseModel)
Json = Mapping[str, Any]


class Malformed(Exception):
    """A body or query that the schema refuses; `where` is `body` or `query`."""

    def __init__(self, where: str, faults: list[Json]) -> None:
        super().__init__(where)
        self.where = where
        self.faults = faults


def create_api(engine: Engine, clock: Callable[[], datetime]) -> Flask:
    """Return the API as a WSGI app over an engine and a clock."""
    app = Flask("cueapi_tasks.server", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.before_request(lambda: _authenticate(engine))
    app.after_request(_with_request_id)
    _handle_errors(app)
    _health_routes(app, clock)
    _account_routes(app, engine)
    _cue_routes(app, engine, clock)
    _execution_routes(app, engine, clock)
    return app


def digest(api_key: str) -> str:
    """Return what is kept of an API key."""
    return hashlib.sha256(api_key.encode("utf-8", "surrogateescape")).hexdigest()


def _health_routes(app: Flask, clock: Callable[[], datetime]) -> None:
    @app.get("/health")
    def health() -> Response:
        services = {"postgres": "ok", "redis": "ok", "poller": "ok", "worker": "none"}
        view = {"status": "healthy", "version": "1.0.0", "timestamp": views.with_offset(clock())}
        return _answer(view | {"services": services})

    @app.get("/status")
    def status() -> Response:
        return _answer({"status": "healthy"})


def _account_routes(app: Flask, engine: Engine) -> None:
    @app.get("/v1/auth/me")
    def me() -> Response:
        return _answer(views.account_view(_account(), engine.active_cues(_account())))

    @app.get("/v1/auth/webhook-secret")
    def webhook_secret() -> Response:
        return _answer({"webhook_secret": _account().webhook_secret})


def _cue_routes(app: Flask, engine: Engine, clock: Callable[[], datetime]) -> None:
    @app.post("/v1/cues")
    def create_cue() -> Response:
        cue = engine.create_cue(_account(), _body(schemas.CueIn), clock())
        return _answer(views.cue_view(cue), 201)

    @app.get("/v1/cues")
    def list_cues() -> Response:
        query = _query(schemas.CueQuery)
        page = Page(limit=query.limit, offset=query.offset)
        cues, total = engine.cues(_account(), query.status, page)
        return _answer(views.cue_page(cues, total, page))

    @app.get("/v1/cues/<cue_id>")
    def get_cue(cue_id: str) -> Response:
        query = _query(schemas.CueDetailQuery)
        page = Page(limit=query.execution_limit, offset=query.execution_offset)
        cue = engine.cue(_account(), cue_id)
        executions, total = engine.executions(_account(), page, cue_id=cue_id)
        return _answer(views.cue_detail(cue, executions, total, page))

    @app.patch("/v1/cues/<cue_id>")
    def patch_cue(cue_id: str) -> Response:
        cue = engine.patch_cue(_account(), cue_id, _body(schemas.CuePatch), clock())
        return _answer(views.cue_view(cue))

    @app.delete("/v1/cues/<cue_id>")
    def delete_cue(cue_id: str) -> Response:
        engine.delete_cue(_account(), cue_id)
        return Response(status=204)

    @app.post("/v1/cues/<cue_id>/fire")
    def fire(cue_id: str) -> Response:
        body = _body(schemas.FireIn, optional=True)
        return _answer(views.fired_view(engine.fire(_account(), cue_id, body, clock())))


def _execution_routes(app: Flask, engine: Engine, clock: Callable[[], datetime]) -> None:
    @app.get("/v1/executions")
    def list_executions() -> Response:
        query = _query(schemas.ExecutionQuery)
        page = Page(limit=query.limit, offset=query.offset)
        found = engine.executions(_account(), page, cue_id=query.cue_id, status=query.status or None)
        return _answer(views.execution_page(*found, page))

    @app.get("/v1/executions/<execution_id>")
    def get_execution(execution_id: str) -> Response:
        return _answer(views.execution_view(engine.execution(_account(), execution_id)))

    @app.post("/v1/executions/<execution_id>/outcome")
    def outcome(execution_id: str) -> Response:
        body = _body(schemas.OutcomeIn)
        execution = engine.record_outcome(_account(), execution_id, body, clock())
        return _answer(
            {
                "execution_id": execution.id,
                "outcome_recorded": True,
                "outcome_state": execution.outcome_state,
                "reason": None,
            }
        )


def _authenticate(engine: Engine) -> None:
    if request.url_rule is None or request.endpoint in OPEN_ROUTES:
        return
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or not key:
        raise ApiError(401, "invalid_api_key", "Missing or invalid Authorization header")
    # looked up by digest, so that no comparison of the key itself can be timed
    account = engine.account_by_key(digest(key))
    if account is None:
        raise ApiError(401, "invalid_api_key", "Invalid API key")
    g.account = account


def _account() -> Account:
    account: Account = g.account
    return account


def _body(schema: type[Body], *, optional: bool = False) -> Body:
    raw = request.get_data()
    if optional and not raw:
        return schema()
    if not request.is_json:
        raise Malformed("body", [{"field": "body", "message": "Input should be a valid dictionary or object"}])
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "invalid_json", "Request body is not valid JSON") from error
    if optional and value is None:
        return schema()
    return _validated(schema, value, "body")


def _query(schema: type[Body]) -> Body:
    return _validated(schema, request.args.to_dict(), "query")


def _validated(schema: type[Body], value: object, where: str) -> Body:
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        faults = [
            {"field": ".".join(str(part) for part in (where, *fault["loc"])), "message": fault["msg"]}
            for fault in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise Malformed(where, list[Json](faults)) from error


def _answer(view: Json, status: int = 200) -> Response:
    text = json.dumps(view, separators=(",", ":"))
    return Response(text, status=status, mimetype="application/json")


def _refusal(status: int, code: str, message: str, **more: Any) -> Response:
    return _answer({"error": {"code": code, "message": message, "status": status, **more}}, status)


def _handle_errors(app: Flask) -> None:
    @app.errorhandler(ApiError)
    def refused(error: ApiError) -> Response:
        return _refusal(error.status, error.code, str(error))

    @app.errorhandler(Malformed)
    def malformed(error: Malformed) -> Response:
        first = error.faults[0]
        message = f"{first['field']}: {first['message']}"
        return _refusal(422, "validation_error", message, details=error.faults)

    @app.errorhandler(RequestEntityTooLarge)
    def too_large(_: RequestEntityTooLarge) -> Response:
        return _refusal(413, "request_too_large", f"Request body is over {MAX_BODY} bytes")

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status = error.code or 500
        return _refusal(status, "http_error", error.name.title())


def _with_request_id(response: Response) -> Response:
    response.headers["X-Request-Id"] = str(uuid.uuid4())
    return response
