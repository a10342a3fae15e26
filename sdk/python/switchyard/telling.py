"""What an agent tells Switchyard of an attempt, beside its answer to the delivery: how far it is, and a result that comes later."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from datetime import datetime
from typing import Any, Callable, Dict, NamedTuple, Optional, Union

from . import answer
from .answer import Answer
from .calls import part
from .errors import retry_after_of
from .router import Router
from .wire import Reply, Unreachable

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
#: A result may be 1 MiB, and the way slow.
RESULT_SECONDS = 15.0
#: The handler waits for it.
PROGRESS_SECONDS = 2.0
#: While leaving, one that does not answer is waited for no longer than this.
LAST_TRY_SECONDS = 2.0
#: A result is still told so long after its time: Switchyard may have been away, and have ended nothing meanwhile.
TOLD_LATE_SECONDS = 30.0
#: A Retry-After beyond this is not kept.
LONGEST_RETRY_AFTER = 3600.0
MAX_ANSWER_BYTES = 1024 * 1024

Log = Union[logging.Logger, "logging.LoggerAdapter[Any]"]


class Heard(NamedTuple):
    """Of a report of progress. ``deadline_at`` is the attempt's deadline by Switchyard's clock, in seconds; None when it did not say."""

    taken: bool
    over: bool = False
    deadline_at: Optional[float] = None
    cancel_requested: bool = False


class Stop:
    """How the telling of one result is cut short."""

    def __init__(self) -> None:
        self._cut = threading.Event()
        self.unwanted = False

    @property
    def hurried(self) -> bool:
        return self._cut.is_set()

    def hurry(self) -> None:
        """The agent leaves: one more try, at once."""
        self._cut.set()

    def forget(self) -> None:
        """The attempt is over: no more tries."""
        self.unwanted = True
        self._cut.set()

    def sleep(self, seconds: float) -> None:
        self._cut.wait(max(seconds, 0))


class Telling:
    """For all attempts of an agent; may be called from any thread."""

    def __init__(self, url: str, router: Router) -> None:
        self._url = url
        self._router = router

    def _post(self, task_id: str, what: str, body: bytes, timeout: float) -> Reply:
        return self._router.post(f"/tasks/{part(task_id)}/{what}", body, timeout=timeout, max_bytes=MAX_ANSWER_BYTES)

    def result(self, task_id: str, attempt_id: str, given: Answer, until: Callable[[], float], stop: Stop, logger: Log) -> bool:
        """Tells how an attempt has ended, until Switchyard has heard it. False when the attempt is over: nobody wants it any more."""
        body, refused, tries = answer.told_later(attempt_id, given), False, 0
        while not stop.unwanted:
            tries += 1
            last = stop.hurried or time.monotonic() >= until()
            wait = min(FIRST_PAUSE * 2 ** min(tries - 1, 10), LONGEST_PAUSE) * random.uniform(0.75, 1.25)
            try:
                reply = self._post(task_id, "result", body, LAST_TRY_SECONDS if last else RESULT_SECONDS)
                said = reply.json()
                if reply.status == 200 and isinstance(said, dict) and said.get("task_id") == task_id:
                    logger.log(logging.INFO if tries > 1 else logging.DEBUG, "the result of task %s is told", task_id)
                    return True
                # A proxy before a Switchyard that is away may say 404 as well.
                if reply.status == 409 or (reply.status == 404 and isinstance(said, dict) and isinstance(said.get("type"), str)):
                    logger.info("the result of task %s came too late: %s", task_id, reply.words())
                    return False
                why = "200, but not as Switchyard does" if reply.status == 200 else reply.words()
                asked = retry_after_of(reply)
                wait = wait if asked is None or asked > LONGEST_RETRY_AFTER else max(wait, asked)
                if final(reply.status):
                    logger.error("%s does not take the result of task %s: %s", self._url, task_id, why)
                    if refused:
                        return True
                    refused = True
                    body = answer.told_later(attempt_id, answer.failed(task_id, f"Switchyard does not take the result: {why}", retryable=False))
                    continue
            except Unreachable as error:
                why = str(error)
            if last:
                logger.error("could not tell the result of task %s to %s (%s); the task will time out", task_id, self._url, why)
                return True
            if tries == 1:
                logger.warning("could not tell the result of task %s to %s (%s); trying on", task_id, self._url, why)
            stop.sleep(min(wait, until() - time.monotonic()))
        return False

    def progress(self, task_id: str, attempt_id: str, report: Dict[str, Any], logger: Log) -> Heard:
        """One try. Raises nothing."""
        try:
            body = json.dumps({"attempt_id": attempt_id, **report}, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            logger.warning("the progress of task %s is no JSON: %s", task_id, error)
            return Heard(False)
        try:
            reply = self._post(task_id, "progress", body, PROGRESS_SECONDS)
        except Unreachable as error:
            logger.debug("could not tell the progress of task %s (%s)", task_id, error)
            return Heard(False)
        if reply.status == 409:
            return Heard(False, over=True)
        said = reply.json()
        if reply.status != 200 or not isinstance(said, dict):
            logger.log(logging.WARNING if final(reply.status) else logging.DEBUG, "%s does not take the progress of task %s: %s", self._url, task_id, reply.words())
            return Heard(False)
        return Heard(True, deadline_at=_time_of(said.get("deadline_at")), cancel_requested=said.get("cancel_requested") is True)


def final(status: int) -> bool:
    """The same again would be refused again; a key (401, 403) may be mended meanwhile."""
    return 400 <= status < 500 and status not in (401, 403, 404, 408, 425, 429)


def _time_of(text: Any) -> Optional[float]:
    try:
        # Before 3.11 it knows no Z.
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None
