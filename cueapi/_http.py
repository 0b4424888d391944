"""The one door to httpx: build a request, send it, send it again where that is safe, read the answer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, cast

import httpx

from . import exceptions as errors
from ._json import as_object
from ._retry import RETRIED_STATUSES, Loss, Repeat, RetryPolicy, loss_of_status, parse_date, parse_retry_after

BY_STATUS: Mapping[int, type[errors.CueAPIError]] = {
    400: errors.InvalidRequestError,
    401: errors.AuthenticationError,
    403: errors.CueLimitExceededError,
    404: errors.CueNotFoundError,
    409: errors.ConflictError,
    422: errors.InvalidRequestError,
}
BY_CODE: Mapping[str, type[errors.CueAPIError]] = {
    "duplicate_cue_name": errors.DuplicateCueNameError,
    "claim_failed": errors.ClaimFailedError,
    "already_claimed": errors.ClaimFailedError,
    "outcome_already_recorded": errors.OutcomeAlreadyRecordedError,
    "outcome_already_reported": errors.OutcomeAlreadyRecordedError,
    "execution_not_found": errors.ExecutionNotFoundError,
    "worker_not_found": errors.WorkerNotFoundError,
    "not_execution_owner": errors.NotExecutionOwnerError,
    "invalid_schedule": errors.InvalidScheduleError,
    "invalid_timezone": errors.InvalidScheduleError,
}
"""What the server says decides before its status does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of the API before it is sent."""

    method: str
    path: str
    repeat: Repeat
    json: Mapping[str, Any] | None = None
    params: Mapping[str, Any] | None = None
    headers: Mapping[str, str] | None = None


@dataclass(slots=True)
class LastAnswer:
    """What the newest answer's headers said; None until one did."""

    date: datetime | None = None
    """The server's clock, in whole seconds."""
    rate_limit: int | None = None
    """Requests a minute."""
    rate_remaining: int | None = None

    def read(self, headers: httpx.Headers) -> None:
        """Take an answer's headers."""
        self.date = parse_date(headers.get("Date")) or self.date
        limit, remaining = headers.get("X-RateLimit-Limit", ""), headers.get("X-RateLimit-Remaining", "")
        if limit.isdecimal() and remaining.isdecimal():
            self.rate_limit, self.rate_remaining = int(limit[:9]), int(remaining[:9])


class Http:
    """Sends calls over one httpx client; safe to share between threads, as that client is."""

    def __init__(
        self,
        client: httpx.Client,
        policy: RetryPolicy,
        *,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        timeout: float | None = None,
        last: LastAnswer | None = None,
    ) -> None:
        self.last = last or LastAnswer()
        self._client = client
        self._timeout = timeout
        self._policy = policy
        self._sleep = sleep
        self._jitter = jitter

    def send(self, call: Call) -> Any:
        """Return the answer's JSON (None for 204), or raise a `CueAPIError`."""
        tries, lost = 1, False
        while True:
            try:
                return self._send_once(call)
            except _Failure as failure:
                lost |= failure.loss is Loss.UNKNOWN
                failure.error.repeated = lost
                if not self._policy.again(tries, call.repeat, failure.loss, failure.retry_after):
                    raise failure.error from failure.__cause__
                self._sleep(self._policy.delay(tries, failure.retry_after, self._jitter))
                tries += 1
            except errors.CueAPIError as error:
                error.repeated = lost
                raise

    def with_options(
        self,
        *,
        timeout: float | None = None,
        max_retries: int | None = None,
        wait: Callable[[float], None] | None = None,
    ) -> Http:
        """Return a door over the same connections with another timeout, number of retries, or way to wait."""
        policy = self._policy if max_retries is None else replace(self._policy, max_retries=max_retries)
        timeout = self._timeout if timeout is None else timeout
        sleep = wait or self._sleep
        return Http(self._client, policy, sleep=sleep, jitter=self._jitter, timeout=timeout, last=self.last)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _send_once(self, call: Call) -> Any:
        try:
            response = self._ask(call)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _Failure(_no_answer(error, self._client), Loss.NOT_SENT) from error
        except (httpx.InvalidURL, UnicodeError) as error:  # a host that cannot be
            raise _no_answer(error, self._client) from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _Failure(_no_answer(error, self._client), Loss.UNKNOWN) from error
        return _read(response)

    def _ask(self, call: Call) -> httpx.Response:
        if self._client.is_closed:
            raise errors.APIConnectionError("the client is closed")
        with self._client.stream(
            call.method,
            call.path,
            json=call.json,
            params=_present(call.params or {}),
            headers=call.headers,
            timeout=httpx.USE_CLIENT_DEFAULT if self._timeout is None else self._timeout,
        ) as response:
            self.last.read(response.headers)
            if response.status_code >= 500:
                return _last_on_its_connection(response)
            response.read()
            return response


def _last_on_its_connection(response: httpx.Response) -> httpx.Response:
    """Read an answer and close its connection before another call can take it from the pool.

    The server closes it too, after a 500, but without notice (contract, E5 and Q11): a call that cannot be sent again
    would fail on it.
    """
    content = b"".join(cast("httpx.SyncByteStream", response.stream))
    connection = response.extensions.get("network_stream")
    if connection is not None:
        connection.close()
    return httpx.Response(response.status_code, headers=response.headers, content=content, request=response.request)


class _Failure(Exception):
    """A try that failed in a way that may pass; carries the error to raise if it is not tried again."""

    def __init__(self, error: errors.CueAPIError, loss: Loss, retry_after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.loss = loss
        self.retry_after = retry_after


def _present(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _no_answer(error: Exception, client: httpx.Client) -> errors.CueAPIError:
    kind = errors.APITimeoutError if isinstance(error, httpx.TimeoutException) else errors.APIConnectionError
    return kind(f"no answer from {client.base_url}: {error or type(error).__name__}")


def _read(response: httpx.Response) -> Any:
    if response.status_code == 204:
        return None
    body = _body(response)
    if response.is_success:
        if as_object(body) is None:
            raise errors.CueAPIError(
                "the server's answer is not CueAPI's; check the base URL", response.status_code, body=body
            )
        return body
    error = _error(response, body)
    if response.status_code not in RETRIED_STATUSES:
        raise error
    raise _Failure(error, loss_of_status(response.status_code), _retry_after(response))


def _body(response: httpx.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return response.text


def _error(response: httpx.Response, body: Any) -> errors.CueAPIError:
    status = response.status_code
    code, message = _code_and_message(body)
    facts: dict[str, Any] = {
        "message": message or f"HTTP {status}",
        "status_code": status,
        "code": code,
        "body": body,
        "request_id": response.headers.get("X-Request-Id"),
    }
    if status == 429:
        return errors.RateLimitError(retry_after=_retry_after(response), **facts)
    fallback = errors.CueAPIServerError if status >= 500 else errors.CueAPIError
    return (BY_CODE.get(code or "") or BY_STATUS.get(status, fallback))(**facts)


def _code_and_message(body: Any) -> tuple[str | None, str | None]:
    """Read `{"error": {...}}`, `{"detail": {"error": {...}}}`, FastAPI's list of faults, or plain text."""
    whole = as_object(body)
    if whole is None:
        return None, _text(body)
    detail = whole.get("detail")
    error = as_object(whole.get("error")) or as_object((as_object(detail) or {}).get("error"))
    if error is not None:
        return _text(error.get("code")), _text(error.get("message"))
    return None, _text(detail if detail is not None else whole.get("message"))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)[:500]


def _retry_after(response: httpx.Response) -> float | None:
    return parse_retry_after(response.headers.get("Retry-After"), datetime.now(timezone.utc))
