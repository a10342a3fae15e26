"""An agent: a function for each kind of task, and all that is needed for Switchyard to call it."""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
import time
from typing import Any, Callable, Dict, Optional, Sequence, TypeVar, Union

from . import server
from .attempt import Handler
from .membership import Membership
from .router import Router
from .settings import WORD, Settings, resolve
from .telling import LAST_TRY_SECONDS, Telling
from .trust import Trust
from .work import Work

F = TypeVar("F", bound=Callable[..., Any])

MAX_CAPABILITIES = 64
#: For handlers to end and their answers to go out after they were aborted.
STOPPED_SECONDS = 1.0
#: The same where a result is still to be told, which is tried once more.
TOLD_SECONDS = LAST_TRY_SECONDS + 0.5
#: For the last words with Switchyard.
GOODBYE_SECONDS = 10.0
#: One Ctrl-C comes twice where a wrapper passes it on: from the terminal to the whole group, and again from the wrapper.
SAME_SIGNAL_SECONDS = 0.5


class Agent:
    """Does tasks. See README.md for the options; one that is not given is read from the environment where that has it."""

    def __init__(
        self,
        name: Optional[str] = None,
        type: Optional[str] = None,
        *,
        url: Optional[str] = None,
        api_key: Optional[str] = None,
        host: Optional[str] = None,
        port: Optional[int] = None,
        bind: Optional[str] = None,
        agent_id: Optional[str] = None,
        max_concurrency: int = 10,
        ttl_seconds: float = 60,
        metadata: Optional[Dict[str, Any]] = None,
        version: Optional[str] = None,
        verify: Optional[bool] = None,
        tolerance_seconds: float = 300,
        secret: Union[str, Sequence[str], None] = None,
        drain_seconds: float = 25,
        later_after_seconds: Optional[float] = None,
        register: bool = True,
        logger: Optional[logging.Logger] = None,
        handle_signals: bool = True,
    ) -> None:
        self._options = {name: value for name, value in locals().items() if name not in ("self", "handle_signals")}
        self._handle_signals = handle_signals
        self._handlers: Dict[str, Handler] = {}
        # A SimpleQueue, as its put may interrupt anything, itself too: signal handlers run between any two steps of the main thread.
        self._endings: "queue.SimpleQueue[int]" = queue.SimpleQueue()
        self._lifecycle = threading.Lock()
        self._settings: Optional[Settings] = None
        self._work: Optional[Work] = None
        self._server: Optional[server.Server] = None
        self._membership: Optional[Membership] = None
        self._port: Optional[int] = None

    def task(self, capability: str) -> Callable[[F], F]:
        """Makes the decorated function do the tasks of this type: ``f(parameters)`` or ``f(parameters, ctx)``, sync or async."""
        if not isinstance(capability, str) or not WORD.fullmatch(capability):
            raise ValueError(f"a capability must be 1 to 64 of A-Z a-z 0-9 _ - ., beginning with a letter or digit; {capability!r} is not")
        if capability in self._handlers:
            raise ValueError(f"there is a handler for {capability} already")
        if self._server is not None:
            raise RuntimeError("the agent has started; decorate its handlers before")
        if len(self._handlers) == MAX_CAPABILITIES:
            raise ValueError(f"an agent has at most {MAX_CAPABILITIES} capabilities")

        def decorate(function: F) -> F:
            self._handlers[capability] = Handler(function)
            return function

        return decorate

    @property
    def port(self) -> Optional[int]:
        """Where it listens, once started."""
        return self._port

    @property
    def agent_id(self) -> Optional[str]:
        """Its id at Switchyard: chosen, or made there and known once it has registered."""
        if self._membership is not None:
            return self._membership.agent_id
        return self._options["agent_id"] or os.environ.get("AGENT_ID") or None

    def wait_until_registered(self, timeout: Optional[float] = None) -> bool:
        """False when it has not registered by then. For embedding and tests: `start` does not wait."""
        return self._membership is not None and self._membership.registered.wait(timeout)

    def start(self) -> "Agent":
        """Listens, and registers in the background. Raises ValueError for a setting that is wrong, OSError for a port that is taken."""
        with self._lifecycle:
            if self._server is not None:
                raise RuntimeError("the agent has started already")
            settings = resolve(self._options)
            sockets = server.listen(settings.bind, settings.port)
            self._settings = settings
            self._port = sockets[0].getsockname()[1]
            router = Router(settings.target)
            self._work = Work(self._handlers, settings.max_concurrency, settings.logger, Telling(settings.target.url, router) if settings.register else None)
            trust = Trust(settings)
            self._server = server.Server(self._work, trust, self._health, self._ready, settings.max_concurrency, settings.logger, settings.later_after_seconds)
            self._server.start(sockets)
            settings.logger.info("listening on port %d", self._port)
            if settings.register:
                self._membership = Membership(settings, self._port, list(self._handlers), self._work, trust, router)
                self._work.on_stopped = self._membership.beat_soon
                self._membership.start()
        return self

    def _health(self) -> Dict[str, Any]:
        assert self._work is not None and self._settings is not None
        status = "draining" if self._work.draining else "healthy"
        return {"status": status, "running": self._work.count(), "max_concurrency": self._settings.max_concurrency, "capabilities": list(self._handlers)}

    def _ready(self) -> bool:
        registered = self._membership is None or self._membership.registered.is_set()
        return registered and self._work is not None and not self._work.draining

    def stop(self) -> None:
        """Takes nothing new, answers what runs (what is not done after drain_seconds is stopped), unregisters. May be called from any thread."""
        with self._lifecycle:
            if self._server is None or self._work is None or self._settings is None:
                return
            work, settings = self._work, self._settings
            work.leaving = True
            if self._membership is not None:
                self._membership.leave()
            if not work.wait_until_done(settings.drain_seconds):
                settings.logger.warning("%d task(s) are not done after %g s and are stopped", work.abort_all("stopped"), settings.drain_seconds)
                work.wait_until_done(TOLD_SECONDS if work.tells() else STOPPED_SECONDS)
                work.left = True
            if self._membership is not None:
                self._membership.end(GOODBYE_SECONDS, work.left)
            self._server.close()
            work.close()
            self._server = self._membership = self._work = self._port = None
        self._endings.put(0)

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains and returns; a second signal, not the same passed on, ends the process at once. Needs the main thread for that."""
        handling = self._handle_signals and threading.current_thread() is threading.main_thread()
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)} if handling else {}
        self._signalled_at: Optional[float] = None
        self._endings = queue.SimpleQueue()  # what ended it before is past
        try:
            self._start_or_exit()
            self._await_end()
            self.stop()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start_or_exit(self) -> None:
        show_log()
        name = self._options["name"] or os.environ.get("AGENT_NAME") or self._options["type"] or "agent"
        try:
            self.start()
        except ValueError as error:
            sys.exit(f"{name}: {error}")
        except OSError as error:
            port = self._options["port"] or os.environ.get("AGENT_PORT") or "a free port"
            sys.exit(f"{name}: cannot listen on {port} ({error.strerror or error}); set AGENT_PORT to a free one, or leave it out")

    def _await_end(self) -> None:
        while True:
            try:
                # Without a timeout it could not be interrupted on Windows.
                self._endings.get(timeout=1.0 if os.name == "nt" else None)
                return
            except queue.Empty:
                continue

    def _on_signal(self, number: int, _frame: Any) -> None:
        now = time.monotonic()
        if self._signalled_at is None:
            self._signalled_at = now
            self._endings.put(number)
        elif now - self._signalled_at > SAME_SIGNAL_SECONDS:
            os._exit(128 + number)


def show_log() -> None:
    """What a program that has not set up logging shows: lines on stderr, from INFO on."""
    logger = logging.getLogger("switchyard")
    if logging.getLogger().handlers or logger.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
