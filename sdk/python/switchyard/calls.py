"""One call of the API: repeated only where that cannot do a thing twice, and never for long."""

from __future__ import annotations

import math
import random
import time
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple
from urllib.parse import quote, urlencode

from .errors import ConnectionFailed, NoAgent, SwitchyardError, error_of
from .wire import Reply, Target, Unreachable, exchange

#: For clocks that differ, and answers under way.
KEY_LONGER, LONGEST_KEY = 60.0, 86_400
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
#: An answer that wants to be left alone for longer than this is given to the caller instead.
LONGEST_RETRY_AFTER = 15.0
#: A page of 200 tasks of 1 MiB, and then some.
MAX_ANSWER_BYTES = 512 * 1024 * 1024
MAX_PAGE = 200


class Calls:
    def __init__(self, target: Target, timeout: float, retries: int) -> None:
        if not timeout > 0 or retries < 0:
            raise ValueError("timeout must be above 0, and retries not below")
        self.target = target
        self.timeout = timeout
        self.retries = retries

    @property
    def own_key_seconds(self) -> str:
        """A key that only one call knows need not be kept for a day."""
        return str(math.ceil(min((self.timeout + LONGEST_RETRY_AFTER) * (self.retries + 1) + KEY_LONGER, LONGEST_KEY)))

    def json(self, method: str, path: str, body: Optional[Mapping[str, Any]] = None, query: Optional[Mapping[str, Any]] = None, headers: Optional[Dict[str, str]] = None, again: bool = False, until: Optional[float] = None, patience: Optional[float] = None) -> Any:
        """The answer's JSON. ``again``: it may be sent twice. Raises SwitchyardError."""
        reply = self.reply(method, path, body, query, headers, again=again, until=until, patience=patience)
        value = reply.json()
        if value is None:
            raise SwitchyardError(f"{method} {path} was answered {reply.status} with what is no JSON; is Switchyard at {self.target.url}?", status=reply.status)
        return value

    def reply(self, method: str, path: str, body: Optional[Mapping[str, Any]] = None, query: Optional[Mapping[str, Any]] = None, headers: Optional[Dict[str, str]] = None, accept: Tuple[int, ...] = (), again: bool = False, until: Optional[float] = None, patience: Optional[float] = None) -> Reply:
        """The answer, when its status is 2xx or one of ``accept``. Raises SwitchyardError, soon after ``until`` (``time.monotonic()``) at the latest.

        ``patience``: seconds for each request, where the client's own are not meant."""
        given = {name: _text(value) for name, value in (query or {}).items() if value is not None}
        full = f"{path}?{urlencode(given)}" if given else path
        pause = FIRST_PAUSE
        for left in range(self.retries, -1, -1):
            try:
                reply = exchange(self.target, method, full, None if body is None else dict(body), timeout=self._timeout(until, self.timeout if patience is None else patience), max_bytes=MAX_ANSWER_BYTES, headers=headers)
                if 200 <= reply.status < 300 or reply.status in accept:
                    return reply
                error = error_of(reply, f"{method} {path}")
            except Unreachable as unreachable:
                error = ConnectionFailed(f"no answer from Switchyard at {self.target.url}: {unreachable}", unreachable.sent)
            wait = error.retry_after if error.retry_after is not None else pause * random.uniform(0.5, 1.5)
            if left == 0 or wait > LONGEST_RETRY_AFTER or not _harmless(again or method == "GET", error) or (until is not None and time.monotonic() + wait >= until):
                raise error
            time.sleep(max(wait, 0.05))
            pause = min(pause * 2, LONGEST_PAUSE)
        raise AssertionError("not reached")

    def _timeout(self, until: Optional[float], longest: float) -> float:
        # The last one may come as late as that, and must not be too short to be answered.
        return longest if until is None else min(longest, max(until - time.monotonic(), 0.0) + 1.0)

    def pages(self, path: str, member: str, query: Mapping[str, Any], page_size: int) -> Iterator[Any]:
        """Each item of a list, page after page, fetched when it is come to."""
        if not 1 <= page_size <= MAX_PAGE:
            raise ValueError(f"page_size must be from 1 to {MAX_PAGE}")
        cursor: Optional[str] = None
        while True:
            page = self.json("GET", path, query={**query, "limit": page_size, "cursor": cursor})
            yield from page[member]
            before, cursor = cursor, page.get("next_cursor")
            if cursor is None or cursor == before:
                return


def _harmless(again: bool, error: SwitchyardError) -> bool:
    """Whether asking again does no harm, and may help. What is answered 429 or 503 has changed nothing; a lost answer may have."""
    if isinstance(error, ConnectionFailed):
        return again or not error.sent
    # Who requires an agent wants to be told, not to wait for one.
    return error.status in (429, 503) and not isinstance(error, NoAgent)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def part(text: str) -> str:
    """A part of a path; whatever it holds, it stays one."""
    return quote(text, safe="") if text not in (".", "..") else text.replace(".", "%2E")


def members(**given: Any) -> Dict[str, Any]:
    """Those that were given; null is not absence on the wire."""
    return {name: value for name, value in given.items() if value is not None}
