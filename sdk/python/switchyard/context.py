"""What a handler is told of its task, and how it is stopped."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Callable, Dict, Optional

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
        #: How long the attempt may take, as it was sent; None when it was not said.
        self.timeout_seconds: Optional[float] = task.get("timeout_seconds")
        #: When it must have ended, on the clock of ``time.monotonic()``. Moves when `progress` was granted more.
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
        # What the agent does about them; a context by itself, as in a test of a handler, has nobody to tell.
        self._later: Optional[Callable[[], None]] = None
        self._progress: Optional[Callable[..., bool]] = None

    @property
    def remaining(self) -> Optional[float]:
        """Seconds until the deadline, not below 0; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def raise_if_cancelled(self) -> None:
        """Call it between the steps of long work: it raises TaskAborted once the result is not wanted any longer."""
        if self.cancelled.is_set():
            raise TaskAborted(self.reason)

    def later(self) -> None:
        """For work of minutes: says at once that the task is taken (202), so that no connection need stay open.

        Nothing else changes: what the handler returns or raises is told to Switchyard when it is there, again and again until that has heard it. Without a
        Switchyard that it could tell, this does nothing.
        """
        if self._later is not None:
            self._later()

    def progress(self, percent: Optional[float] = None, message: Optional[str] = None, data: Any = None, extend_seconds: Optional[float] = None) -> bool:
        """Tells Switchyard how far it is, also while the connection is open; what is left out stays as it was said before.

        Call it as often as you like: a report goes out each second at most, the newest then. One that asks for more time (that the attempt may take
        ``extend_seconds`` from now; `deadline` then says how long it may) goes at once. Raises nothing. False when Switchyard did not take it: it is away, or
        the attempt is over, and then `cancelled` is set.
        """
        return self._progress is not None and self._progress(percent, message, data, extend_seconds)
