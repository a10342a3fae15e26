"""What an agent answers to a delivery: status, headers and JSON body, each bounded."""

from __future__ import annotations

import json
from typing import Any, Dict, NamedTuple, Optional, Tuple

#: Switchyard takes no answer over 1 MiB; what stands around the result is some of it.
MAX_RESULT_BYTES = 1024 * 1024 - 1024
#: The router keeps no more of an error.
MAX_ERROR_CHARS = 4000
#: An answer nested deeper than 512 is not taken either.
MAX_DEPTH = 500
#: When one that was declined may come again, in seconds.
FULL_SECONDS = 1
DRAINING_SECONDS = 5


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: Tuple[Tuple[str, str], ...] = ()


class Unusable(Exception):
    """A handler's return that cannot be a result."""


def of(status: int, body: Dict[str, Any], **headers: str) -> Answer:
    """An answer of ours; a header's name is written with underscores."""
    return Answer(status, json.dumps(body, allow_nan=False).encode(), tuple((name.replace("_", "-"), value) for name, value in headers.items()))


def refused(status: int, error: str, **headers: str) -> Answer:
    return of(status, {"error": bounded(error)}, **headers)


def full(max_concurrency: int) -> Answer:
    return refused(429, f"this agent has all the {max_concurrency} tasks it can do at once", Retry_After=str(FULL_SECONDS))


def no_thread() -> Answer:
    return refused(503, "this agent cannot start another thread now", Retry_After=str(FULL_SECONDS))


def stopping() -> Answer:
    return refused(503, "this attempt is being stopped", Retry_After=str(FULL_SECONDS))


def draining() -> Answer:
    return refused(503, "this agent takes no new tasks: it is draining", Retry_After=str(DRAINING_SECONDS))


def failed(task_id: str, error: str, status: int = 500, retryable: Optional[bool] = None, **headers: str) -> Answer:
    body: Dict[str, Any] = {"task_id": task_id, "status": "failed", "error": bounded(error)}
    if retryable is not None:
        body["retryable"] = retryable
    return of(status, body, **headers)


def completed(task_id: str, result: bytes, took_ms: float) -> Answer:
    """The result is JSON text already, so that it is encoded once and in the handler's thread."""
    head = json.dumps({"task_id": task_id, "status": "completed", "execution_time_ms": round(took_ms, 3)}).encode()
    return Answer(200, head[:-1] + b', "result": ' + result + b"}")


def accepted(task_id: str) -> Answer:
    """The result comes later."""
    return of(202, {"task_id": task_id, "status": "running"})


def told_later(attempt_id: str, given: Answer) -> bytes:
    """The same outcome as ``POST /tasks/{id}/result`` takes it."""
    return b'{"attempt_id": ' + json.dumps(attempt_id).encode() + b", " + given.body[1:]


def aborted(task_id: str, reason: str, timeout_seconds: Optional[float]) -> Answer:
    if reason == "stopped":
        # No room, rather than a failure: the task loses no attempt.
        return failed(task_id, "this agent stopped before the task was done", 503, Retry_After=str(FULL_SECONDS))
    if reason == "timeout":
        return failed(task_id, f"no result within {timeout_seconds:g} s")
    words = {"cancelled": "the task was cancelled", "lost": "the attempt is no longer this agent's", "disconnected": "the connection was closed"}
    return failed(task_id, words[reason], retryable=False if reason == "cancelled" else None)


def encode_result(result: Any, handler: str) -> bytes:
    """The result as JSON text in UTF-8. Raises Unusable, with words for who wrote the handler."""
    try:
        text = json.dumps(result, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise Unusable(f"the handler {handler} returned a value that is nested too deep") from None
    except (TypeError, ValueError) as error:
        raise Unusable(f"the handler {handler} returned a value that is no JSON: {error}") from None
    try:
        data = text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can only say escaped
        data = json.dumps(result, allow_nan=False, separators=(",", ":")).encode()
    if len(data) > MAX_RESULT_BYTES:
        raise Unusable(f"the handler {handler} returned {len(data)} bytes of JSON; at most {MAX_RESULT_BYTES} are taken")
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(result) > MAX_DEPTH:
        raise Unusable(f"the handler {handler} returned a value that is nested deeper than {MAX_DEPTH} levels")
    return data


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        inner = [item for item in level if isinstance(item, (dict, list, tuple))]
        level = [child for item in inner for child in (item.values() if isinstance(item, dict) else item)]
        depth += 1 if inner else 0
        if depth > MAX_DEPTH:
            break
    return depth


def describe(error: BaseException) -> str:
    """``Type: message``, as a traceback ends."""
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def bounded(text: str) -> str:
    return text if len(text) <= MAX_ERROR_CHARS else text[: MAX_ERROR_CHARS - 1] + "…"
