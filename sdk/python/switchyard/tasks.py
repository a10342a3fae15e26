"""The client's tasks: submit, wait, read, list, cancel, retry."""

from __future__ import annotations

import time
import uuid
from datetime import datetime
from typing import Any, Dict, Iterable, Iterator, Literal, Mapping, Optional, Union

from .calls import Calls, members, part
from .errors import ConnectionFailed, Overloaded, StoreUnavailable, TooManyWatchers, WaitTimeout
from .events import watch
from .explanation import Explanation
from .shapes import ENDS, BatchTaken, Cancelled, ProgressTaken, Redelivery, ResultTaken, Task, TaskEvent, TaskStatus

#: Switchyard answers a wait when the task ends, or after so many seconds; then it is asked again.
LONGEST_ASK = 30.0
#: For the answer behind that.
GRACE = 10.0
PAUSE = 0.5
#: How long a wait bears with a Switchyard that does not answer; it may be just starting again.
PATIENCE = 30.0


def _time(at: Union[str, datetime, None]) -> Optional[str]:
    # Of one without a zone the machine's is meant, as everywhere in Python.
    return at.astimezone().isoformat() if isinstance(at, datetime) else at


def _key(given: Optional[str]) -> str:
    if given is not None and not (given.isascii() and given.isprintable() and " " not in given and 1 <= len(given) <= 255):
        raise ValueError("idempotency_key must be 1 to 255 visible ASCII characters")
    return given or str(uuid.uuid4())


class TaskHandle:
    """A task that was taken."""

    def __init__(self, tasks: "Tasks", submitted: Dict[str, Any]) -> None:
        self._tasks = tasks
        self.task_id: str = submitted["task_id"]
        #: As it was at first; ``get()`` tells how it is now.
        self.status: TaskStatus = submitted["status"]
        self.agent_id: Optional[str] = submitted["agent_id"]
        self.created_at: str = submitted["created_at"]
        self.status_url: str = submitted["status_url"]
        #: The ended task that this one repeats.
        self.retry_of: Optional[str] = submitted.get("retry_of")

    def __repr__(self) -> str:
        return f"TaskHandle({self.task_id!r})"

    def wait(self, timeout: Optional[float] = None) -> Task:
        """See ``Tasks.wait``."""
        return self._tasks.wait(self.task_id, timeout)

    def get(self) -> Task:
        return self._tasks.get(self.task_id)

    def cancel(self) -> Cancelled:
        return self._tasks.cancel(self.task_id)

    def retry(self) -> "TaskHandle":
        return self._tasks.retry(self.task_id)


class Tasks:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def submit(
        self,
        task_type: str,
        *,
        agent_type: Optional[str] = None,
        agent_id: Optional[str] = None,
        parameters: Optional[Dict[str, Any]] = None,
        priority: Union[int, str, None] = None,
        timeout_seconds: Optional[float] = None,
        max_retries: Optional[int] = None,
        retry_delay_seconds: Optional[float] = None,
        backoff: Optional[str] = None,
        delay_seconds: Optional[float] = None,
        run_at: Union[str, datetime, None] = None,
        expires_in_seconds: Optional[float] = None,
        callback_url: Optional[str] = None,
        metadata: Optional[Dict[str, Any]] = None,
        require_agent: bool = False,
        traceparent: Optional[str] = None,
        idempotency_key: Optional[str] = None,
    ) -> TaskHandle:
        """Submits a task. It waits until an agent of ``agent_type`` (or the one of ``agent_id``) does it; see /docs for the rest.

        Under one ``idempotency_key`` an agent type takes one task within a day, however often it is submitted. Unless given, each submit has
        one of its own, so that it can be sent again when its answer is lost.
        """
        body = members(
            task_type=task_type,
            agent_type=agent_type,
            agent_id=agent_id,
            parameters=parameters,
            priority=priority,
            timeout_seconds=timeout_seconds,
            max_retries=max_retries,
            retry_delay_seconds=retry_delay_seconds,
            backoff=backoff,
            delay_seconds=delay_seconds,
            run_at=_time(run_at),
            expires_in_seconds=expires_in_seconds,
            callback_url=callback_url,
            metadata=metadata,
        )
        headers = members(traceparent=traceparent or None)
        headers["Idempotency-Key"] = _key(idempotency_key)
        if idempotency_key is None:
            headers["Idempotency-Key-Seconds"] = self._calls.own_key_seconds
        return TaskHandle(self, self._calls.json("POST", "/tasks", body, {"require_agent": True if require_agent else None}, headers, again=True))

    def submit_batch(self, tasks: Iterable[Mapping[str, Any]], *, require_agent: bool = False) -> BatchTaken:
        """Submits up to 1,000 tasks in one request, at a fraction of what they cost one by one.

        Each is a dict of what ``submit`` takes, ``task_type`` and ``idempotency_key`` among it, and is taken or refused by itself: look at each answer.
        """
        sent = [{**members(**task), **members(run_at=_time(task.get("run_at")))} for task in tasks]
        headers = {} if any("idempotency_key" in task for task in sent) else {"Idempotency-Key-Seconds": self._calls.own_key_seconds}
        body = {"tasks": [{"idempotency_key": _key(None), **task} for task in sent]}
        taken: BatchTaken = self._calls.json("POST", "/tasks/batch", body, {"require_agent": True if require_agent else None}, headers, again=True)
        return taken

    def get(self, task_id: str) -> Task:
        task: Task = self._calls.json("GET", f"/tasks/{part(task_id)}")
        return task

    def events(self, task_id: str, last_event_id: Optional[str] = None) -> Iterator[TaskEvent]:
        """What happens to a task, from its submit (or behind an event) to its end, as it happens; broken connections are made again, without a gap or a repeat."""
        return watch(self._calls, f"/tasks/{part(task_id)}/events", {}, last_event_id, lambda event: event["type"].split(".")[-1] in ENDS)

    def explain(self, task_id: str) -> Explanation:
        """Why it waits, or where it is, and which agents it may go to."""
        explanation: Explanation = self._calls.json("GET", f"/tasks/{part(task_id)}/explain")
        return explanation

    def list(self, *, status: Optional[TaskStatus] = None, agent_type: Optional[str] = None, task_type: Optional[str] = None, agent_id: Optional[str] = None, page_size: int = 50) -> Iterator[Task]:
        """All tasks that match, newest first; pages are fetched as they are come to."""
        query = members(status=status, agent_type=agent_type, task_type=task_type, agent_id=agent_id)
        return self._calls.pages("/tasks", "tasks", query, page_size)

    def cancel(self, task_id: str) -> Cancelled:
        """One that is at an agent ends cancelled a little later. Raises TaskEnded when it is too late."""
        cancelled: Cancelled = self._calls.json("DELETE", f"/tasks/{part(task_id)}")
        return cancelled

    def retry(self, task_id: str) -> TaskHandle:
        """Submits an ended task again, as a new one; once."""
        return TaskHandle(self, self._calls.json("POST", f"/tasks/{part(task_id)}/retry", {}))

    def redeliver(self, task_id: str) -> Redelivery:
        """Has the webhook of an ended task sent again, at once."""
        redelivery: Redelivery = self._calls.json("POST", f"/tasks/{part(task_id)}/webhooks/redeliver", {}, again=True)
        return redelivery

    def result(
        self,
        task_id: str,
        attempt_id: str,
        *,
        status: Literal["completed", "failed"] = "completed",
        result: Any = None,
        error: Optional[str] = None,
        execution_time_ms: Optional[float] = None,
        retryable: Optional[bool] = None,
    ) -> ResultTaken:
        """Says how an attempt has ended that its agent answered with 202. Said again, it is answered alike. Raises StaleAttempt when it counts no more."""
        said = members(attempt_id=attempt_id, status=status, error=error, execution_time_ms=execution_time_ms, retryable=retryable)
        if status == "completed":
            said["result"] = result
        taken: ResultTaken = self._calls.json("POST", f"/tasks/{part(task_id)}/result", said, again=True)
        return taken

    def progress(
        self,
        task_id: str,
        attempt_id: str,
        *,
        percent: Optional[float] = None,
        message: Optional[str] = None,
        data: Any = None,
        extend_seconds: Optional[float] = None,
    ) -> ProgressTaken:
        """Says how far an attempt is that is under way, and gives it more time if asked to: ``deadline_at`` is what counts. Raises StaleAttempt when it is over."""
        told = members(attempt_id=attempt_id, percent=percent, message=message, data=data, extend_seconds=extend_seconds)
        taken: ProgressTaken = self._calls.json("POST", f"/tasks/{part(task_id)}/progress", told, again=True)
        return taken

    def wait(self, task_id: str, timeout: Optional[float] = None) -> Task:
        """The task when it has ended, whichever way: look at its status. Raises WaitTimeout after ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        seen, silent_since = None, None
        while True:
            try:
                ask = LONGEST_ASK if deadline is None else max(0.0, min(LONGEST_ASK, deadline - time.monotonic()))
                seen = self._calls.json("GET", f"/tasks/{part(task_id)}", query={"wait": f"{ask:.3f}"}, until=deadline, patience=ask + GRACE)
                silent_since = None
                if seen["status"] in ENDS:
                    return seen
            except (ConnectionFailed, Overloaded, StoreUnavailable, TooManyWatchers):
                silent_since = time.monotonic() if silent_since is None else silent_since
                if time.monotonic() - silent_since > PATIENCE:
                    raise
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeout(f"task {task_id} has not ended within {timeout:g} s; it is {seen['status'] if seen else 'not known how far'}", seen)
            if silent_since is not None:
                time.sleep(PAUSE if deadline is None else max(0.0, min(PAUSE, deadline - time.monotonic())))
