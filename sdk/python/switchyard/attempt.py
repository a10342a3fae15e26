"""One attempt at a task: its handler's run on a worker thread, its one answer, and its abort."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from typing import Any, Callable, List, Optional

from . import answer
from .answer import Answer
from .context import Context, NonRetryableError

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

    def __init__(self, context: Context, parameters: Any, handler: Handler) -> None:
        self.context = context
        self._parameters = parameters
        self._handler = handler
        self._lock = threading.Lock()
        self._answer: Optional[Answer] = None
        self._listeners: List[Listener] = []
        self._stop_async: Optional[Callable[[], None]] = None

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

    def abort(self, reason: str) -> None:
        """Says so to the handler. One that goes on regardless keeps its place; only who waits is answered when time presses."""
        with self._lock:
            first = self.context.reason is None and self._answer is None
            if first:
                self.context.reason = reason
                self.context.cancelled.set()
            stop_async = self._stop_async if first else None
        if stop_async:
            stop_async()
        if reason in ("timeout", "stopped"):
            self.settle(answer.aborted(self.context.task_id, reason, self.context.timeout_seconds))

    def run(self) -> Answer:
        """Calls the handler and makes an answer of what comes; nothing that a handler does gets out of here. The answer is for `settle`."""
        made = self._made()
        reason = self.context.reason
        # Also in place of a result: it may be half of one.
        return made if reason is None else answer.aborted(self.context.task_id, reason, self.context.timeout_seconds)

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
