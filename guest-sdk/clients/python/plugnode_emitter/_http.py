"""One request of the server API, repeated until it has an answer: the same idempotency key each time, so that it takes effect once."""

import http.client
import json
import random
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

#: Seconds before the first repetition, and at most before any.
_PAUSE = (0.1, 5.0)
#: Seconds for the answer to one request: a node gives up by itself before that.
_PATIENCE = 20.0
#: Seconds for the way to the node and back, and for the node to take the request in.
_TRANSIT = 6.0
#: Bytes of an answer.
_MAX_ANSWER = 64 << 20
#: The kinds of problems that pass.
_PASSING = {f"urn:plugnode:api:{kind}" for kind in ("unavailable", "too-fast", "body-timeout")}
#: Answers of proxies in front of the API that pass.
_PASSING_STATUS = {408, 429, 500, 502, 503, 504}


class EmitterError(Exception):
    """A call was refused, or had no answer in time: then it may have taken effect."""

    #: The HTTP status; None without an answer.
    status: int | None
    #: The kind of problem, such as `urn:plugnode:api:forbidden`.
    type: str | None
    #: The field that is wrong.
    field: str | None
    #: The key of the request, with which a repetition takes effect once.
    idempotency_key: str | None

    def __init__(self, message: str, status: int | None = None, type: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.field = field
        self.idempotency_key = None


class _Failure(Exception):
    """An attempt without a usable answer."""

    def __init__(self, error: EmitterError, passes: bool, retry_after: float = 0.0) -> None:
        super().__init__(error)
        self.error = error
        self.passes = passes
        self.retry_after = retry_after


class Http:
    """The nodes that serve the API. Each thread has one connection, which stays open."""

    def __init__(self, urls: Sequence[str], key: str, timeout: float) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        for url in self._urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{url!r} is no address of a server API, such as http://127.0.0.1:9090")
        if not self._urls or not key:
            raise ValueError("an emitter needs the address of a server API, and the secret of an [[api.key]]")
        self._key = key
        self._timeout = timeout
        #: The number of the URL to use; it changes when one fails.
        self._current = 0
        self._local = threading.local()

    def post(self, operation: str, type: str, body: bytes, idempotency_key: str, wait: float | None = None) -> dict[str, Any]:
        """Returns the body of the answer. `wait` is the time that the request itself gives the node for its answer, in seconds."""
        deadline = time.monotonic() + self._timeout
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Content-Type": type,
            "Accept": "application/json",
            "Idempotency-Key": idempotency_key,
        }
        pause = _PAUSE[0]
        while True:
            current = self._current
            left = deadline - time.monotonic()
            patience = max(1.0, min(left, _PATIENCE)) if wait is None else wait + _TRANSIT
            try:
                return self._attempt(self._urls[current % len(self._urls)], operation, headers, body, patience)
            except _Failure as failure:
                waiting = max(failure.retry_after, pause * random.uniform(0.5, 1))
                if not failure.passes or time.monotonic() + waiting >= deadline:
                    failure.error.idempotency_key = idempotency_key
                    raise failure.error from failure.__cause__
            self._current = current + 1
            pause = min(_PAUSE[1], pause * 2)
            time.sleep(waiting)

    def close(self) -> None:
        """Closes the connection of this thread."""
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
        self._local.connection = self._local.url = None

    def _attempt(self, url: str, operation: str, headers: dict[str, str], body: bytes, patience: float) -> dict[str, Any]:
        try:
            connection = self._connection(url, patience)
            connection.request("POST", f"{urlsplit(url).path}/api/v1/{operation}", body, headers)
            response = connection.getresponse()
            content = response.read(_MAX_ANSWER)
        except (OSError, http.client.HTTPException) as cause:
            self.close()
            error = EmitterError(f"no answer of the server API at {url}: {cause or cause.__class__.__name__}")
            raise _Failure(error, passes=True) from cause
        if response.will_close or not response.isclosed():
            self.close()
        return _answer_of(url, operation, response, content)

    def _connection(self, url: str, patience: float) -> http.client.HTTPConnection:
        kept: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if kept is not None and self._local.url == url:
            kept.timeout = patience
            if kept.sock is not None:
                kept.sock.settimeout(patience)
            return kept
        self.close()
        parts = urlsplit(url)
        make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        made = make(parts.hostname or "", parts.port, timeout=patience)
        self._local.connection, self._local.url = made, url
        return made


def _answer_of(url: str, operation: str, response: http.client.HTTPResponse, content: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    if 200 <= response.status < 300 and isinstance(answer, dict):
        return answer
    problem = answer if isinstance(answer, dict) else {}
    kind = problem.get("type")
    retry_after = response.getheader("Retry-After", "")
    pause = min(float(retry_after), 60.0) if retry_after.isdigit() else 0.0
    if isinstance(kind, str) and kind.startswith("urn:plugnode:api:"):
        field = problem.get("field")
        message = f"{field}: {problem.get('detail')}" if field else str(problem.get("detail"))
        raise _Failure(EmitterError(message, response.status, kind, field), kind in _PASSING, pause)
    message = f"{url}/api/v1/{operation} answers {response.status}, which is no answer of a server API"
    raise _Failure(EmitterError(message, response.status), response.status in _PASSING_STATUS, pause)
