"""What the client raises: a class for each problem type of docs/errors.md, and those for when there is no answer."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Type

from .wire import Reply

KNOWN = ("type", "title", "status", "detail", "instance", "errors", "error")


class SwitchyardError(Exception):
    """Base of all. A problem of a type that this version does not know is one, too."""

    #: The problem type that the class stands for.
    problem: Optional[str] = None

    def __init__(self, detail: str, *, type: Optional[str] = None, title: str = "", status: Optional[int] = None, errors: Optional[List[Dict[str, str]]] = None, extra: Optional[Dict[str, Any]] = None, retry_after: Optional[float] = None) -> None:
        super().__init__(detail)
        self.type = type or self.problem
        self.title = title
        #: The HTTP status; None when there was no answer.
        self.status = status
        self.detail = detail
        #: For invalid-request: what is wrong where, each ``{"pointer", "detail"}``.
        self.errors = errors or []
        #: Further members of the problem, such as ``task_status`` of task-ended.
        self.extra = extra or {}
        #: Seconds after which it is worth trying again, if the answer said so.
        self.retry_after = retry_after


class MalformedRequest(SwitchyardError):
    problem = "malformed-request"


class InvalidJson(SwitchyardError):
    problem = "invalid-json"


class InvalidRequest(SwitchyardError):
    """What was sent is wrong; ``errors`` says where."""

    problem = "invalid-request"


class UnsupportedMediaType(SwitchyardError):
    problem = "unsupported-media-type"


class PayloadTooLarge(SwitchyardError):
    problem = "payload-too-large"


class HeadersTooLarge(SwitchyardError):
    problem = "headers-too-large"


class RequestTimeout(SwitchyardError):
    problem = "request-timeout"


class Unauthorized(SwitchyardError):
    """A key is needed, or the one that was sent is not known: it was revoked, has expired, or never was one."""

    problem = "unauthorized"


class Forbidden(SwitchyardError):
    """The key, or the agent's token, may not do this: ``extra["roles_needed"]`` says which roles may."""

    problem = "forbidden"


class NotFound(SwitchyardError):
    problem = "not-found"


class MethodNotAllowed(SwitchyardError):
    problem = "method-not-allowed"


class HostNotAllowed(SwitchyardError):
    problem = "host-not-allowed"


class AgentTypeConflict(SwitchyardError):
    problem = "agent-type-conflict"


class TaskEnded(SwitchyardError):
    """``extra["task_status"]`` says how."""

    problem = "task-ended"


class StaleAttempt(SwitchyardError):
    """``extra["task_status"]`` is what has become of the task."""

    problem = "stale-attempt"


class TaskNotEnded(SwitchyardError):
    problem = "task-not-ended"


class AlreadyRetried(SwitchyardError):
    """``extra["task_id"]`` is the task that it was retried as."""

    problem = "already-retried"


class IdempotencyKeyReused(SwitchyardError):
    """Another task was submitted with this key before: ``extra["task_id"]``."""

    problem = "idempotency-key-reused"


class NoAgent(SwitchyardError):
    """Of ``require_agent=True``: nobody who can do it is alive."""

    problem = "no-agent"


class TooManyQueues(SwitchyardError):
    problem = "too-many-queues"


class TooManyAgents(SwitchyardError):
    problem = "too-many-agents"


class TooManyWatchers(SwitchyardError):
    problem = "too-many-watchers"


class TooManySchedules(SwitchyardError):
    problem = "too-many-schedules"


class TooManyKeys(SwitchyardError):
    problem = "too-many-keys"


class RateLimited(SwitchyardError):
    """The key may make no more requests a second: ``extra["limit"]``."""

    problem = "rate-limited"


class QueueFull(SwitchyardError):
    """As many tasks wait in the queue as may: ``extra["queue"]``, ``extra["limit"]``."""

    problem = "queue-full"


class StoreFull(SwitchyardError):
    """The router's Redis has so little memory left that it takes no new work."""

    problem = "store-full"


class Overloaded(SwitchyardError):
    """The API process has as much in hand as it takes."""

    problem = "overloaded"


class StoreUnavailable(SwitchyardError):
    problem = "store-unavailable"


class Internal(SwitchyardError):
    problem = "internal"


class ConnectionFailed(SwitchyardError, ConnectionError):
    """There was no answer, or not a whole one. ``sent`` tells whether the request may have been taken nevertheless."""

    def __init__(self, detail: str, sent: bool) -> None:
        super().__init__(detail)
        self.sent = sent


class WaitTimeout(SwitchyardError, TimeoutError):
    """The task had not ended when the wait was over. It goes on; ``task`` is how it was last seen, if it was."""

    def __init__(self, detail: str, task: Any = None) -> None:
        super().__init__(detail)
        self.task = task


#: By problem type.
CLASSES: Dict[str, Type[SwitchyardError]] = {cls.problem: cls for cls in SwitchyardError.__subclasses__() if cls.problem is not None}


def retry_after_of(reply: Reply) -> Optional[float]:
    text = reply.headers.get("retry-after", "").strip()
    try:
        return max(0.0, min(float(text), 86_400.0)) if text[:1].isdigit() else None
    except ValueError:
        return None


def error_of(reply: Reply, what: str) -> SwitchyardError:
    """The error that an answer is. ``what`` was asked, for answers that do not say what is wrong."""
    body = reply.json()
    problem: Dict[str, Any] = body if isinstance(body, dict) else {}
    given = problem.get("type")
    kind = given.rsplit("#", 1)[-1] if isinstance(given, str) else None
    detail = problem.get("detail") or problem.get("error")
    if not isinstance(detail, str):
        detail = f"{what} was answered {reply.status}: {reply.body[:200].decode('utf-8', 'replace')}"
    errors = problem.get("errors")
    return CLASSES.get(kind or "", SwitchyardError)(
        detail,
        type=kind,
        title=str(problem.get("title") or ""),
        status=reply.status,
        errors=errors if isinstance(errors, list) else None,
        extra={name: value for name, value in problem.items() if name not in KNOWN},
        retry_after=retry_after_of(reply),
    )
