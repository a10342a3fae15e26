"""All that an agent is working on: places for `max_concurrency` attempts, and the threads that do them."""

from __future__ import annotations

import logging
import os
import queue
import threading
from typing import Any, Callable, Dict, List, Mapping, Optional, Union

from . import answer
from .answer import Answer
from .attempt import Attempt, Handler
from .context import Context
from .telling import Telling


class Work:
    """Everything in it may be called from any thread."""

    def __init__(self, handlers: Mapping[str, Handler], max_concurrency: int, logger: logging.Logger, telling: Optional[Telling] = None) -> None:
        self._handlers = handlers
        self._max = max_concurrency
        self._logger = logger
        # None: there is no Switchyard that it could tell.
        self._telling = telling
        self._changed = threading.Condition()
        # Whoever holds a place stands here until its handler has ended, answered or not. Keyed by the object: an attempt id may be left out.
        self._places: Dict[int, Attempt] = {}
        self._to_do: "queue.SimpleQueue[Optional[Attempt]]" = queue.SimpleQueue()
        self._threads = 0
        self._pid = os.getpid()
        #: Takes nothing new: the agent leaves, or Switchyard told it to drain.
        self.leaving = False
        self.told_to_drain = False
        #: Whatever still runs is no longer this agent's: it stands in no beat, and goes elsewhere at no cost to its task.
        self.left = False
        #: Called when a handler has ended that was told to stop, in its thread.
        self.on_stopped: Callable[[], None] = lambda: None

    @property
    def draining(self) -> bool:
        return self.leaving or self.told_to_drain

    def take(self, task: Dict[str, Any], traceparent: Optional[str]) -> Union[Attempt, Answer]:
        """An attempt, begun now or running already; or why there is none."""
        handler = self._handlers.get(task["task_type"])
        if handler is None:
            return answer.refused(422, f"this agent has no capability {task['task_type']}; it has {', '.join(sorted(self._handlers)) or 'none'}")
        with self._changed:
            running = self._running(task.get("attempt_id"))
            if running is not None and running.is_later and running.context.reason is not None:
                return answer.stopping()
            if running is not None:
                self._logger.info("task %s came again as the attempt that runs, and joins it", task["task_id"])
                return running
            if self.draining:
                return answer.draining()
            if len(self._places) >= self._max:
                return answer.full(self._max)
            attempt = Attempt(Context(task, self._logger, traceparent), task["parameters"], handler, self._telling)
            self._places[id(attempt)] = attempt
            # As many threads as there were ever attempts at once.
            if self._threads < len(self._places):
                try:
                    threading.Thread(target=self._worker, name=f"switchyard-task-{self._threads}", daemon=True).start()
                except RuntimeError as error:  # the machine has none left; a place without a thread would never be free again
                    del self._places[id(attempt)]
                    self._logger.error("declined a task: %s", error)
                    return answer.no_thread()
                self._threads += 1
        self._to_do.put(attempt)
        return attempt

    def _running(self, attempt_id: Optional[str]) -> Optional[Attempt]:
        if attempt_id is None:
            return None
        return next((attempt for attempt in self._places.values() if attempt.context.attempt_id == attempt_id), None)

    def _worker(self) -> None:
        while True:
            attempt = self._to_do.get()
            if attempt is None:
                return
            made = attempt.run()
            if os.getpid() != self._pid:
                os._exit(1)  # a child that the handler forked, and did not end, would wait here for ever, with our port in its hands
            wanted = attempt.tell(made)
            # The place first: the next task is on its way as soon as the answer is.
            with self._changed:
                del self._places[id(attempt)]
                self._changed.notify_all()
            attempt.settle(made)
            if not wanted or attempt.context.reason is not None:
                self.on_stopped()
            del attempt, made  # or they would stay until the next

    def count(self) -> int:
        return len(self._places)

    def attempt_ids(self) -> List[str]:
        """What the beats report. Attempt ids over 128 characters, as JavaScript counts them, are none of Switchyard's, which would refuse the whole beat for one."""
        if self.left:
            return []
        with self._changed:
            ids = [attempt.context.attempt_id for attempt in self._places.values()]
        return [one for one in ids if one is not None and len(one.encode("utf-16-le", "surrogatepass")) <= 2 * 128]

    def abort_attempt(self, attempt_id: str, reason: str) -> None:
        with self._changed:
            attempt = self._running(attempt_id)
        if attempt is not None:
            attempt.abort(reason)

    def abort_task(self, task_id: str, attempt_id: Optional[str] = None) -> int:
        """Cancels each attempt at a task, or the one that is named; returns how many there were."""
        with self._changed:
            attempts = [attempt for attempt in self._places.values() if attempt.context.task_id == task_id and attempt.context.reason is None and attempt_id in (None, attempt.context.attempt_id)]
        for attempt in attempts:
            attempt.abort("cancelled")
        return len(attempts)

    def wait_until_done(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._places, seconds)

    def abort_all(self, reason: str) -> int:
        with self._changed:
            attempts = list(self._places.values())
        for attempt in attempts:
            attempt.abort(reason)
        return len(attempts)

    def tells(self) -> bool:
        """The work of some attempt is done, and its result still to be told."""
        with self._changed:
            return any(attempt.tells for attempt in self._places.values())

    def close(self) -> None:
        """Ends the threads that are idle; the others end with their task. None keeps the process."""
        for _ in range(self._threads):
            self._to_do.put(None)
