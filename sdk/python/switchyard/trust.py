"""Whom the agent obeys: who signs with its secret, which it was told at its registration or by whoever started it.

It is the router's time that counts, as its answers tell it: the clocks of two machines need not agree.
"""

from __future__ import annotations

import threading
import time
from datetime import datetime
from typing import Any, Callable, List, Mapping, Optional, Tuple

from . import answer
from .answer import Answer
from .settings import Settings
from .signature import TOLERANCE_SECONDS, keys_of, verify


class Trust:
    """Told by the thread that registers, asked by the one that serves."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        # Of its registration, and its id; the one before, and until when what was signed with that may be on its way.
        self._own: Optional[Tuple[bytes, Optional[str]]] = None
        self._old: Optional[Tuple[bytes, float]] = None
        # No registration was answered yet, or it has to be made anew: the secret may be another one by now.
        self._waits = settings.register
        self._heard: Optional[Tuple[float, float]] = None

    def learn(self, secret: Any, secret_id: Any) -> None:
        """The registration was answered, with a secret unless the router is an old one."""
        key: Optional[bytes] = None
        try:
            key = keys_of([secret])[0] if isinstance(secret, str) else None
        except ValueError:
            self._settings.logger.warning("the signing secret of the registration cannot be read; requests are not checked by it")
        with self._lock:
            if self._own is not None and self._own[0] != key:
                self._old = (self._own[0], time.monotonic() + TOLERANCE_SECONDS)
            self._own = None if key is None else (key, secret_id if isinstance(secret_id, str) else None)
            self._waits = False

    def doubt(self) -> None:
        """The router does not know this agent any longer."""
        self._waits = True

    def is_outdated(self, secret_id: Any) -> bool:
        """Whether the router says by this that there is another secret."""
        return self._settings.verifies and isinstance(secret_id, str) and (self._own is None or secret_id != self._own[1])

    def hear(self, said: str) -> None:
        """The router's time, as it says."""
        try:
            self._heard = (datetime.fromisoformat(said.replace("Z", "+00:00")).timestamp(), time.monotonic())
        except ValueError:
            pass

    def refusal(self, headers: Mapping[str, str], body: bytes, is_for: Callable[[str], bool]) -> Optional[Answer]:
        """None for a request that may be obeyed, else what to answer. ``is_for``: whether it was signed for this purpose, by its ``webhook-id``."""
        if not self._settings.verifies:
            return None
        keys, waits = self._keys()
        if not keys:
            return answer.refused(503, "this agent is not registered yet, and cannot tell who asks", Retry_After="1") if waits else None
        fault = verify(keys, headers, body, self._now(), self._settings.tolerance_seconds)
        if fault is None and not is_for(headers["webhook-id"]):
            fault = "webhook-id is that of another request"
        if fault is None:
            return None
        if waits and not self._settings.keys:
            return answer.refused(503, "this agent registers anew, and cannot tell who asks", Retry_After="1")
        self._settings.logger.warning("refused a request that is not signed as agreed: %s", fault)
        # It is not the task's fault.
        return answer.of(401, {"error": fault, "retryable": True})

    def _keys(self) -> Tuple[List[bytes], bool]:
        with self._lock:
            keys = list(self._settings.keys)
            if self._own is not None:
                keys.append(self._own[0])
            if self._old is not None and self._old[1] > time.monotonic():
                keys.append(self._old[0])
            return keys, self._waits

    def _now(self) -> float:
        heard = self._heard
        return time.time() if heard is None else heard[0] + time.monotonic() - heard[1]
