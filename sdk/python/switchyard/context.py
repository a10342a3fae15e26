"""What a handler is told of its task, and how it is stopped."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Dict, Optional

#: Why a task was aborted: it was cancelled; its time is over; whoever sent it hung up; Switchyard says that it is no longer this
#: agent's; the agent stops, and its drain is over.
REASONS = ("cancelled", "timeout", "disconnected", "lost", "stopped")


class NonRetryableError(Exception):
    """Raised by a handler: the task fails for good, with this message; another attempt would fare no better."""


class TaskAborted(Exception):
    """What ``ctx.raise_if_cancelled()`` raises: nobody waits for this task's result any longer."""


class Context:
    """One attempt at a task, as its handler sees it."""

    def __init__(self, task: Dict[str, Any], logger: logging.Logger, traceparent: Optional[str]) -> None:
        self.task_id: str = task["task_id"]
        self.task_type: str = task["task_type"]
        #: Counts deliveries from 1, also those that cost the task no attempt.
        self.attempt: int = task.get("attempt", 1)
        #: None when whoever sent the task gave none.
        self.attempt_id: Optional[str] = task.get("attempt_id")
        #: How long the attempt may take; None when it was not said.
        self.timeout_seconds: Optional[float] = task.get("timeout_seconds")
        #: When it must have ended, on the clock of ``time.monotonic()``.
        self.deadline: Optional[float] = None if self.timeout_seconds is None else time.monotonic() + self.timeout_seconds
        self.priority: Optional[int] = task.get("priority")
        self.metadata: Dict[str, Any] = task.get("metadata") or {}
        #: The W3C trace context that the client sent along, if it did.
        self.traceparent = traceparent
        self.logger = logging.LoggerAdapter(logger, {"task_id": self.task_id, "attempt": self.attempt})
        #: Set when nobody waits for the result any longer. ``ctx.cancelled.wait(seconds)`` sleeps until then at most.
        self.cancelled = threading.Event()
        #: Why: one of REASONS; None until then.
        self.reason: Optional[str] = None

    @property
    def remaining(self) -> Optional[float]:
        """Seconds until the deadline, not below 0; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def raise_if_cancelled(self) -> None:
        """Call it between the steps of long work: it raises TaskAborted once the result is not wanted any longer."""
        if self.cancelled.is_set():
            raise TaskAborted(self.reason)
