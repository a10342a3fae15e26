"""The client: submit tasks and look after them, from any Python program."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Optional

from .agents import Agents
from .calls import Calls, members
from .dead_letters import DeadLetters
from .errors import error_of
from .events import watch
from .keys import Keys
from .schedules import Schedules
from .settings import client_target
from .shapes import Live, Ready, TaskEvent
from .tasks import Tasks


class Client:
    """Switchyard's API. ``url`` and ``api_key`` are SWITCHYARD_URL and SWITCHYARD_API_KEY unless given.

    It keeps nothing open and may be used by many threads at once. ``timeout`` (seconds) is for each request; one that can be repeated
    without harm is, up to ``retries`` times: reads and submits when there was no answer, anything when no connection was made or the answer was 429 or 503.
    """

    def __init__(self, url: Optional[str] = None, api_key: Optional[str] = None, *, timeout: float = 30.0, retries: int = 4) -> None:
        self._calls = Calls(client_target(url, api_key), timeout, retries)
        self.tasks = Tasks(self._calls)
        self.dead_letters = DeadLetters(self._calls)
        self.agents = Agents(self._calls)
        self.schedules = Schedules(self._calls)
        self.keys = Keys(self._calls)

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    @property
    def url(self) -> str:
        return self._calls.target.url

    def events(self, agent_type: Optional[str] = None, last_event_id: Optional[str] = None) -> Iterator[TaskEvent]:
        """What happens to the tasks of a type, or to all, from now on (or behind an event), as it happens; broken connections are made again,
        without a gap or a repeat. One of type ``gap`` says that some events were forgotten before they could be sent."""
        return watch(self._calls, "/events", members(agent_type=agent_type), last_event_id, lambda _: False)

    def health(self) -> Ready:
        """Whether work goes on, also when it does not."""
        return self._readiness("/health")

    def ready(self) -> Ready:
        """The same as ``health``."""
        return self._readiness("/health/ready")

    def live(self) -> Live:
        """Whether the API's process runs."""
        live: Live = self._calls.json("GET", "/health/live")
        return live

    def metrics(self) -> str:
        """In the text format of Prometheus."""
        return self.page("/metrics")

    def openapi(self) -> Dict[str, Any]:
        """The API's own description, OpenAPI 3.1."""
        document: Dict[str, Any] = self._calls.json("GET", "/openapi.json")
        return document

    def page(self, path: str = "/") -> str:
        """A page for people: ``/``, ``/docs``, ``/docs/errors``, ``/queues``."""
        return self._calls.reply("GET", path).body.decode("utf-8", "replace")

    def _readiness(self, path: str) -> Ready:
        # 503 is an answer to this question, not a refusal of it.
        reply = self._calls.reply("GET", path, accept=(503,))
        ready = reply.json()
        if not isinstance(ready, dict) or "dispatchers" not in ready:
            raise error_of(reply, f"GET {path}")
        known: Ready = ready  # type: ignore[assignment]
        return known
