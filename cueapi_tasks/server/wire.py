"""Requests read and answers written as the API does it: schemas, envelopes, echo (contract, sections 1 and 3)."""

from __future__ import annotations

import functools
import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import chain
from typing import Any, TypeVar, cast

from flask import Flask, Response, g, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from .profile import Profile, Quirk
from .rules import EVIDENCE, ApiError, Unchecked

MAX_BODY = 1_048_576
"""Bytes of a request's body (section 4)."""
MAX_DEPTH = 200
"""How deep JSON may be nested, so that every answer that holds it can be written."""
DROP_HEADER = "X-Drop-Connection"
"""Tells our HTTP server to close the connection without a word; never sent."""
ECHO_HEADER = "X-CueAPI-Verify-Echo"

Body = TypeVar("Body", bound=BaseModel)
Json = Mapping[str, Any]


UNCHECKED: Mapping[str, frozenset[str]] = {
    "CuePatch": frozenset(("body.name", "body.callback.method")),
    "FireIn": frozenset(("body.send_at",)),
    "OutcomeIn": frozenset(("body.external_id", "body.result_ref", "body.result_type")),
    "EvidenceIn": frozenset(f"body.{name}" for name in (*EVIDENCE, "metadata")),
    "CueQuery": frozenset(("query.offset",)),
}
"""Fields whose faults the core answers with a 500 (contract, Q10), by schema; too large an offset among them."""


class Malformed(Exception):
    """A body or query that the schema refuses."""

    def __init__(self, schema: str, faults: list[Json]) -> None:
        super().__init__(schema)
        self.schema = schema
        self.faults = faults

    @property
    def unchecked(self) -> bool:
        """Whether the core would not have noticed."""
        return all(fault["field"] in UNCHECKED.get(self.schema, ()) for fault in self.faults)

    @property
    def bad_method(self) -> bool:
        """Whether a create's callback method is all that is wrong."""
        return self.schema == "CueIn" and [fault["field"] for fault in self.faults] == ["body.callback.method"]


def read_body(schema: type[Body], *, optional: bool = False) -> Body:
    """Return the request's body as the schema has it."""
    raw = request.get_data()
    if optional and not raw:
        return schema()
    if not request.is_json:
        raise Malformed("", [{"field": "body", "message": "Input should be a valid dictionary or object"}])
    value = _parsed(raw)
    if optional and value is None:
        return schema()
    return _validated(schema, value, "body")


def read_query(schema: type[Body]) -> Body:
    """Return the request's query as the schema has it."""
    return _validated(schema, request.args.to_dict(), "query")


def answer(view: Json, status: int = 200) -> Response:
    """Return a JSON answer."""
    text = json.dumps(view, separators=(",", ":"))
    return Response(text, status=status, mimetype="application/json")


def install(app: Flask, profile: Profile, clock: Callable[[], datetime]) -> None:
    """Give the app the API's error envelopes, request ids, dates and echo."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.register_error_handler(ApiError, functools.partial(_refused, profile))
    app.register_error_handler(Malformed, functools.partial(_malformed, profile))
    app.register_error_handler(RequestEntityTooLarge, _too_large)
    app.register_error_handler(HTTPException, functools.partial(_http_error, app))
    app.after_request(_echoed)
    app.after_request(_with_request_id)
    app.after_request(functools.partial(_dated, clock))


def _parsed(raw: bytes) -> Any:
    """Return JSON that can be written again: no NaN, no infinity, no half of a character (RFC 8259)."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "invalid_json", "Request body is not valid JSON") from error
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise Unchecked(400, "invalid_payload", "Request body holds a value that JSON cannot carry") from error
    if _is_deeper(value, MAX_DEPTH):
        raise Unchecked(400, "invalid_payload", f"Request body is nested more than {MAX_DEPTH} deep")
    return value


def _is_deeper(value: object, most: int) -> bool:
    """Tell whether JSON is nested more than so deep."""
    level: list[Any] = [value]
    for _ in range(most):
        level = [*chain.from_iterable(map(_inside, level))]
    return bool(level)


def _inside(value: object) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast("Json", value).values()
    return cast("Iterable[Any]", value) if isinstance(value, list) else ()


def _validated(schema: type[Body], value: object, where: str) -> Body:
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        faults: list[Json] = [
            {"field": ".".join(str(part) for part in (where, *fault["loc"])), "message": fault["msg"]}
            for fault in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise Malformed(schema.__name__.removeprefix("Hosted"), faults) from error


def _refusal(status: int, code: str, message: str, **more: Any) -> Response:
    return answer({"error": {"code": code, "message": message, "status": status, **more}}, status)


def _refused(profile: Profile, error: ApiError) -> Response:
    if isinstance(error, Unchecked) and profile.has(Quirk.INTERNAL_ERRORS):
        return _internal_error(profile)
    if request.method == "HEAD":
        return Response(status=error.status)
    if error.code == "no_outcome":  # envelope E6 has no status inside
        return answer({"error": {"code": error.code, "message": str(error)}}, error.status)
    return _refusal(error.status, error.code, str(error))


def _malformed(profile: Profile, error: Malformed) -> Response:
    if error.unchecked and profile.has(Quirk.INTERNAL_ERRORS):
        return _internal_error(profile)
    if error.bad_method and profile.has(Quirk.MISLABELLED_METHOD):
        return _refusal(409, "duplicate_cue_name", "A cue of this name already exists")
    first = error.faults[0]
    return _refusal(422, "validation_error", f"{first['field']}: {first['message']}", details=error.faults)


def _too_large(_: RequestEntityTooLarge) -> Response:
    return _refusal(413, "request_too_large", f"Request body is over {MAX_BODY} bytes")


def _http_error(app: Flask, error: HTTPException) -> Response:
    if error.code == 404 and request.path.endswith("/") and _matches_without_slash(app):
        query = f"?{request.query_string.decode('latin-1')}" if request.query_string else ""
        return Response(status=307, headers={"Location": request.base_url.rstrip("/") + query})
    return _refusal(error.code or 500, "http_error", error.name.title())


def _internal_error(profile: Profile) -> Response:
    response = _refusal(500, "internal_error", "An internal error occurred")
    if profile.has(Quirk.DROPPED_CONNECTION):
        response.headers[DROP_HEADER] = "1"
    return response


def _matches_without_slash(app: Flask) -> bool:
    adapter = app.create_url_adapter(None) or app.url_map.bind("localhost")
    return any(adapter.test(request.path.rstrip("/"), method) for method in ("GET", "POST", "PATCH", "DELETE"))


def _with_request_id(response: Response) -> Response:
    if response.status_code != 500:
        response.headers["X-Request-Id"] = str(uuid.uuid4())
    return response


def _dated(clock: Callable[[], datetime], response: Response) -> Response:
    """Say what time it is here, as clients go by it: the clock may run faster than the machine's."""
    response.date = clock()
    return response


def _echoed(response: Response) -> Response:
    """Add what was received to a successful answer, where the request asks for it (section 1)."""
    asked = request.headers.get(ECHO_HEADER, "").lower() == "true" and request.method in ("POST", "PATCH", "PUT")
    if not asked or not 200 <= response.status_code < 300 or not response.is_json:
        return response
    view = json.loads(response.get_data())
    received, raw = _received()
    digest = hashlib.sha256(raw).hexdigest()
    response.set_data(json.dumps(view | {"body_received": received, "body_received_sha256": digest}))
    return response


def _received() -> tuple[Any, bytes]:
    """Return the body and the bytes that its digest is over: canonical JSON; `fire` says that it received nothing."""
    raw = request.get_data()
    if g.get("echo_nothing") or not raw:
        return None, b""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return raw.decode("utf-8", "replace"), raw
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return value, text.encode("utf-8", "surrogatepass")
