"""The agent's life at Switchyard, in one thread: it registers, beats, obeys, and leaves. Nothing that goes wrong there ends the agent."""

from __future__ import annotations

import random
import re
import threading
import uuid
from typing import Any, Callable, Dict, List
from urllib.parse import quote

from .router import Router
from .settings import Settings
from .trust import Trust
from .wire import Body, Reply, Unreachable, is_loopback
from .work import Work

CALL_SECONDS = 5.0
MAX_ANSWER_BYTES = 1024 * 1024
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
#: After a refusal that another try will hardly change.
REFUSED_PAUSE = 30.0
LEAST_INTERVAL = 0.05
#: Between beats that free slots.
SOON = 0.25
#: A host may say the port as well, where others reach this agent by another one than it listens on.
HOST_AND_PORT = re.compile(r"(\[.*\]|[^:]+):\d+")


class Membership:
    def __init__(self, settings: Settings, port: int, capabilities: List[str], work: Work, trust: Trust, router: Router) -> None:
        self._settings = settings
        self._port = port
        self._capabilities = capabilities
        self._work = work
        self._trust = trust
        self._router = router
        self._logger = settings.logger
        # One for the life of the process: by it Switchyard tells a restart, after which nothing runs here, from a mere repeat.
        self._instance_id = str(uuid.uuid4())
        self.agent_id = settings.agent_id
        self.registered = threading.Event()
        self._known = False
        self._interval = settings.ttl_seconds / 3
        # The router's time when it last answered: a beat that comes there late is known by it.
        self._heard = ""
        self._wake = threading.Condition()
        self._leaving = False
        self._ending = False
        self._leaves_work = False
        # How many beats are to come soon, and whether the first of them is due.
        self._soon = 0
        self._now = False
        self._thread = threading.Thread(target=self._run, name="switchyard-membership", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def leave(self) -> None:
        """Says `draining` at once, and goes on beating."""
        with self._wake:
            self._leaving = True
            self._wake.notify_all()

    def beat_soon(self) -> None:
        """An attempt was stopped. Switchyard keeps its slot until two beats without it have come, the first after its last one with it: so two come soon."""
        with self._wake:
            self._now = self._now or self._soon == 0
            self._soon = 2
            self._wake.notify_all()

    def end(self, seconds: float, leaves_work: bool = False) -> None:
        """Unregisters, and ends the thread; gives up after that long. Where something was stopped, two beats without it say that it is to go elsewhere."""
        with self._wake:
            self._leaves_work = leaves_work
            self._leaving = self._ending = True
            self._wake.notify_all()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._ending:
            try:
                if (self._known or self._register()) and not self._beat_on():
                    continue  # forgotten
                break
            except Exception:  # a fault of ours must not leave an agent that nobody knows
                self._logger.exception("keeping this agent registered went wrong; going on")
                self._sleep(LONGEST_PAUSE, lambda: self._leaving)
        if self._known and self._leaves_work:
            for _ in range(2):
                try:
                    self._call(self._path("heartbeat"), self._beat(True))
                except Unreachable as error:
                    self._logger.warning("a heartbeat failed (%s)", error)
                    break
        if self._known:
            self._unregister()

    def _sleep(self, seconds: float, until: Callable[[], bool]) -> None:
        with self._wake:
            self._wake.wait_for(until, seconds)

    def _call(self, path: str, body: Body) -> Reply:
        return self._router.post(path, body, timeout=CALL_SECONDS, max_bytes=MAX_ANSWER_BYTES)

    def _path(self, verb: str) -> str:
        return f"/agents/{quote(self.agent_id or '', safe='')}/{verb}"

    # --- register ---

    def _registration(self, local_address: str) -> Dict[str, Any]:
        s = self._settings
        host = s.host or local_address
        body = {
            "name": s.name,
            "type": s.type,
            "host": host,
            "port": None if HOST_AND_PORT.fullmatch(host) else self._port,
            "capabilities": self._capabilities,
            "max_concurrency": s.max_concurrency,
            "ttl_seconds": s.ttl_seconds,
            "instance_id": self._instance_id,
            "agent_id": self.agent_id,
            "version": s.version,
            "metadata": s.metadata,
            "status": "draining" if self._work.told_to_drain else None,
        }
        return {name: value for name, value in body.items() if value is not None}

    def _register(self) -> bool:
        """Tries until it is taken; False when the agent leaves before."""
        url = self._settings.target.url
        pause, said = FIRST_PAUSE, ""
        while not self._leaving:
            wait = pause
            try:
                reply = self._call("/agents/register", self._registration)
                answer = reply.json()
                if reply.status in (200, 201) and isinstance(answer, dict) and isinstance(answer.get("agent_id"), str):
                    return self._taken(answer)
                why = reply.words()
                if final(reply.status):
                    wait = max(pause, REFUSED_PAUSE)
                    self._say_refused(why, said)
                elif why != said:
                    self._logger.warning("cannot register at %s: %s. Trying on", url, why)
            except (Unreachable, ValueError, TypeError) as error:
                why = str(error)
                if why != said:
                    self._logger.warning("cannot register at %s (%s); is Switchyard running there, and SWITCHYARD_URL right? Trying on", url, why)
            said = why
            self._sleep(wait * random.uniform(0.8, 1.2), lambda: self._leaving)
            pause = min(pause * 2, LONGEST_PAUSE)
        return False

    def _fetch_secret(self) -> None:
        """There is another one, told to who registers. Should that fail now, the next beat tells of it again."""
        try:
            reply = self._call("/agents/register", self._registration)
            answer = reply.json()
        except (Unreachable, ValueError, TypeError):
            return
        if reply.status in (200, 201) and isinstance(answer, dict) and answer.get("agent_id") == self.agent_id:
            self._taken(answer)

    def _say_refused(self, why: str, said: str) -> None:
        if why != said:
            self._logger.error("SWITCHYARD REFUSED THIS AGENT'S REGISTRATION: %s. It gets no task until that is mended; trying again every %d s", why, REFUSED_PAUSE)

    def _taken(self, answer: Dict[str, Any]) -> bool:
        s = self._settings
        self.agent_id = answer["agent_id"]
        self._known = True
        self._told(answer.get("heartbeat_interval_seconds"))
        self._hear(answer.get("last_seen"))
        self._trust.learn(answer.get("signing_secret"), answer.get("signing_secret_id"))
        self._logger.info("registered at %s as %s (%s: %s), reached at %s:%s", s.target.url, self.agent_id, s.type, ", ".join(self._capabilities) or "no capabilities", answer.get("host"), answer.get("port"))
        if is_loopback(str(answer.get("host"))) and not is_loopback(s.target.host):
            self._logger.warning("Switchyard at %s is told to reach this agent at %s, which is this machine alone; set AGENT_HOST", s.target.url, answer.get("host"))
        self.registered.set()
        return True

    def _told(self, interval: Any) -> None:
        if isinstance(interval, (int, float)) and not isinstance(interval, bool) and interval > 0:
            # Whatever it is told, it is not to be silent for its whole time to live.
            self._interval = float(max(min(interval, self._settings.ttl_seconds), LEAST_INTERVAL))

    def _hear(self, time: Any) -> None:
        if isinstance(time, str):
            self._heard = time
            self._trust.hear(time)

    # --- beat ---

    def _beat_on(self) -> bool:
        """Beats until it is forgotten (False) or is to end (True)."""
        failures, refused, said_draining = 0, "", False
        while True:
            if failures == 0:
                wait = self._interval * random.uniform(0.9, 1.1)
            else:
                wait = min(self._interval, FIRST_PAUSE * 2 ** min(failures - 1, 5), LONGEST_PAUSE) * random.uniform(0.8, 1.2)
            hurries = failures == 0
            if hurries and self._soon > 0:
                wait = min(wait, SOON)
            self._sleep(wait, lambda: self._ending or (self._leaving and not said_draining) or (hurries and self._now))
            self._now = False
            self._soon = max(0, self._soon - 1)
            if self._ending and said_draining:
                return True
            # Once is enough, whether it got there or not.
            said_draining = self._leaving
            try:
                reply = self._call(self._path("heartbeat"), self._beat(said_draining))
            except Unreachable as error:
                failures += 1
                if failures == 1:
                    self._logger.warning("a heartbeat failed (%s); beating on", error)
                continue
            if reply.status == 404:
                self._known = False
                self.registered.clear()
                self._trust.doubt()
                self._logger.warning("Switchyard does not know this agent (any more); registering again as %s", self.agent_id)
                return False
            if reply.status == 200:
                if failures:
                    self._logger.info("heartbeats are received again")
                failures, refused = 0, ""
                answer = reply.json()
                self._obey(answer)
                if not said_draining and isinstance(answer, dict) and self._trust.is_outdated(answer.get("signing_secret_id")):
                    self._fetch_secret()
                continue
            why = reply.words()
            # One that is refused will be so next time: no sooner than usual.
            failures = 0 if final(reply.status) else failures + 1
            if why != refused:
                self._logger.error("Switchyard refuses the heartbeat: %s", why)
            refused = why

    def _beat(self, draining: bool) -> Dict[str, Any]:
        # No status but draining: the one that it has there, which an operator may have changed, stays.
        return {
            "running": self._work.attempt_ids(),
            **({"timestamp": self._heard} if self._heard else {}),
            **({"status": "draining"} if draining else {}),
        }

    def _obey(self, answer: Any) -> None:
        if not isinstance(answer, dict):
            return
        self._told(answer.get("next_interval_seconds"))
        self._hear(answer.get("timestamp"))
        for member, reason in (("cancel", "cancelled"), ("lost", "lost")):
            named = answer.get(member)
            for attempt_id in named if isinstance(named, list) else ():
                self._work.abort_attempt(str(attempt_id), reason)
        drain = answer.get("drain") is True
        if drain != self._work.told_to_drain and not self._leaving:
            self._logger.info("Switchyard says that this agent drains" if drain else "Switchyard says that this agent drains no longer")
        self._work.told_to_drain = drain

    def _unregister(self) -> None:
        try:
            reply = self._call(self._path("unregister"), {})
            if reply.status == 200:
                self._logger.info("unregistered")
            else:
                self._logger.warning("could not unregister: %s", reply.words())
        except Unreachable as error:
            self._logger.warning("could not unregister (%s); Switchyard will notice the silence", error)


def final(status: int) -> bool:
    """Whether the same again would be refused again."""
    return 400 <= status < 500 and status not in (404, 408, 429)
