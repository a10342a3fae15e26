"""One attempt at a task: its handler's run on a worker thread, its one answer or what is told later, and its abort."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import answer
from .answer import Answer
from .context import Context, NonRetryableError
from .progress import Progress
from .telling import TOLD_LATE_SECONDS, Stop, Telling

Listener = Callable[[Answer], None]


class Handler:
    """A function that does tasks of one type, sync or async, of the parameters or of them and the context."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = getattr(function, "__qualname__", None) or repr(function)
        self.takes_context = _takes_context(function, self.name)

    def __call__(self, parameters: Any, context: Context) -> Any:
        return self.function(parameters, context) if self.takes_context else self.function(parameters)


def _takes_context(function: Callable[..., Any], name: str) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a function in C, which tells nothing
        return False
    for count in (2, 1):
        try:
            signature.bind(*[None] * count)
            return count == 2
        except TypeError:
            continue
    raise TypeError(f"the handler {name} must take the parameters, or the parameters and the context")


class Attempt:
    """Its state changes under its lock: not over → over, and on the way at most one reason to abort it and exactly one answer."""

    def __init__(self, context: Context, parameters: Any, handler: Handler, telling: Optional[Telling] = None) -> None:
        self.context = context
        self._parameters = parameters
        self._handler = handler
        self._telling = telling if context.attempt_id is not None else None
        self._lock = threading.Lock()
        self._answer: Optional[Answer] = None
        self._listeners: List[Listener] = []
        self._stop_async: Optional[Callable[[], None]] = None
        self._over = False
        self._when_over: List[Callable[[], None]] = []
        #: Its result is told to Switchyard, not answered.
        self.is_later = False
        self._stop_telling = Stop()
        #: A deadline of Switchyard's clock, and what it was by ours: of a later one only the difference counts, so the clocks may differ.
        self._known: Optional[Tuple[float, float]] = None
        self._progress = Progress(self._tell_progress)
        context._later = self.later
        if self._telling is not None:
            context._progress = self._progress.report

    def listen(self, listener: Listener) -> None:
        """Tells the answer once, in whichever thread finds it, or at once when it is there."""
        with self._lock:
            if self._answer is None:
                self._listeners.append(listener)
                return
        listener(self._answer)

    def unlisten(self, listener: Listener) -> None:
        """Whoever listened has gone; nobody left means that nobody wants the result."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)
            alone = not self._listeners and self._answer is None
        if alone:
            self.abort("disconnected")

    def when_over(self, tell: Callable[[], None]) -> None:
        """Called when the handler has ended, or at once when it has."""
        with self._lock:
            if not self._over:
                self._when_over.append(tell)
                return
        tell()

    def later(self) -> None:
        """The delivery is answered now, and the result told when it is there."""
        with self._lock:
            if self._answer is not None or self._over or self.context.reason is not None:
                return
            if self._telling is None:
                self.context.logger.debug("the result of task %s cannot come later: %s", self.context.task_id, "the agent is told of no Switchyard" if self.context.attempt_id else "it came without an attempt_id")
                return
            self.is_later = True
        self.settle(answer.accepted(self.context.task_id))

    def abort(self, reason: str) -> None:
        """Says so to the handler. One that goes on regardless keeps its place; only who waits is answered when time presses."""
        with self._lock:
            first = self.context.reason is None and not self._over and (self._answer is None or self.is_later)
            if first:
                self.context.reason = reason
                self.context.cancelled.set()
            stop_async = self._stop_async if first else None
        if reason == "stopped":
            self._stop_telling.hurry()
        elif not first and self._over:
            self._stop_telling.forget()
        if stop_async:
            stop_async()
        if reason in ("timeout", "stopped"):
            self.settle(self._aborted(reason))

    def _aborted(self, reason: str) -> Answer:
        return answer.aborted(self.context.task_id, reason, self.context.timeout_seconds)

    def run(self) -> Answer:
        """Calls the handler and makes an answer of what comes; nothing that a handler does gets out of here. The answer is for `tell` or `settle`."""
        made = self._made()
        with self._lock:
            self._over = True
            told, self._when_over = self._when_over, []
        self._progress.close()
        self._parameters = None
        # Or the two would keep each other until the next collection.
        self.context._later = self.context._progress = None
        for tell in told:
            tell()
        reason = self.context.reason
        # Also in place of a result: it may be half of one.
        return made if reason is None else self._aborted(reason)

    def _made(self) -> Answer:
        task_id, logger = self.context.task_id, self.context.logger
        began = time.perf_counter()
        try:
            self.context.raise_if_cancelled()
            result = self._handler(self._parameters, self.context)
            if inspect.isawaitable(result):
                result = asyncio.run(self._awaited(result))
            data = answer.encode_result(result, self._handler.name)
            return answer.completed(task_id, data, (time.perf_counter() - began) * 1000)
        except NonRetryableError as error:
            return answer.failed(task_id, str(error) or "NonRetryableError", 422, retryable=False)
        except answer.Unusable as error:
            logger.error("%s", error)
            return answer.failed(task_id, str(error), retryable=False)
        except BaseException as error:  # SystemExit too: a task must not end the agent
            if self.context.reason is None:
                logger.exception("task %s (%s) failed in %s", task_id, self.context.task_type, self._handler.name)
            return answer.failed(task_id, answer.describe(error))

    async def _awaited(self, awaitable: Any) -> Any:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(awaitable)

        def stop() -> None:
            try:
                loop.call_soon_threadsafe(task.cancel)
            except RuntimeError:
                pass  # the loop has just ended, and the task with it

        with self._lock:
            self._stop_async = stop
        if self.context.cancelled.is_set():
            task.cancel()
        return await task

    def settle(self, given: Answer) -> None:
        """Tells the answer to all who wait, unless there was one already."""
        with self._lock:
            if self._answer is not None:
                return
            self._answer = given
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener(given)

    def tell(self, given: Answer) -> bool:
        """Tells Switchyard what has become of it, if that is to come later. False when nobody wants it any more."""
        context, telling = self.context, self._telling
        if not self.is_later or telling is None or context.attempt_id is None:
            return True
        # Of what was stopped Switchyard knows, mostly because it said so; of what this agent leaves behind it hears by beats that no longer list it.
        if context.reason is not None:
            return False
        return telling.result(context.task_id, context.attempt_id, given, self._told_until, self._stop_telling, context.logger)

    @property
    def tells(self) -> bool:
        return self.is_later and self._over and self.context.reason is None

    def _told_until(self) -> float:
        deadline = self.context.deadline
        return TOLD_LATE_SECONDS + (time.monotonic() if deadline is None else deadline)

    def _tell_progress(self, report: Dict[str, Any]) -> bool:
        context, telling = self.context, self._telling
        if telling is None or context.attempt_id is None or context.reason is not None:
            return False
        if "percent" in report and isinstance(report["percent"], (int, float)):
            report["percent"] = min(max(report["percent"], 0), 100)  # what comes of rounding is no reason to be refused
        heard = telling.progress(context.task_id, context.attempt_id, report, context.logger)
        if heard.over or heard.cancel_requested:
            self.abort("lost" if heard.over else "cancelled")
            return False
        if heard.deadline_at is not None:
            self._read_deadline(heard.deadline_at, report.get("extend_seconds"))
        return heard.taken and context.reason is None

    def _read_deadline(self, theirs: float, extend_seconds: Optional[float]) -> None:
        deadline = self.context.deadline
        if deadline is None:
            return
        if self._known is None:
            self._known = (theirs, deadline if extend_seconds is None else max(deadline, time.monotonic() + extend_seconds))
        self.context.deadline = max(deadline, self._known[1] + theirs - self._known[0])
