"""A handler's reports of its progress: as many as it likes, of which few go out."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Dict, Optional

#: More often than this is waste: clients see the latest.
GAP = 1.0
#: Between reports while Switchyard does not take them.
LONGEST_GAP = 10.0


class Progress:
    """For one attempt. ``send`` tells Switchyard; it returns whether that took it, and raises nothing."""

    def __init__(self, send: Callable[[Dict[str, Any]], bool]) -> None:
        self._send = send
        # Held while one is on its way; whatever is said meanwhile goes with the next.
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        # Of all that was said, the newest: each report that goes out is whole.
        self._whole: Dict[str, Any] = {}
        self._extend: Optional[float] = None
        self._new = self._flying = self._closed = False
        self._taken = True
        self._failures = 0
        self._sent_at = float("-inf")
        self._timer: Optional[threading.Timer] = None

    def report(self, percent: Optional[float], message: Optional[str], data: Any, extend_seconds: Optional[float]) -> bool:
        given = {"percent": percent, "message": message, "data": data}
        with self._lock:
            if self._closed:
                return False
            self._whole.update({name: value for name, value in given.items() if value is not None})
            self._new = True
            if extend_seconds is not None:
                self._extend = extend_seconds
            wait = self._sent_at + min(GAP * 2**self._failures, LONGEST_GAP) - time.monotonic()
            if extend_seconds is None and (wait > 0 or self._flying):
                if self._timer is None:
                    self._timer = threading.Timer(max(wait, 0), self._go)
                    self._timer.daemon = True
                    try:
                        self._timer.start()
                    except RuntimeError:  # the machine has no thread left: it goes with the next
                        self._timer = None
                return self._failures == 0
        return self._go()

    def _go(self) -> bool:
        with self._turn:
            with self._lock:
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
                if self._closed:
                    return False
                if not self._new:  # it went along with the one before
                    return self._taken
                report = dict(self._whole)
                if self._extend is not None:
                    report["extend_seconds"] = self._extend
                self._new, self._extend, self._flying = False, None, True
                self._sent_at = time.monotonic()
            taken = self._send(report)
            with self._lock:
                self._flying, self._taken = False, taken
                self._failures = 0 if taken else min(self._failures + 1, 10)
            return taken

    def close(self) -> None:
        """Nothing more is said."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
