"""What an agent says to its router, and what it shows there: its key, and from its registration on the token that it was given then."""

from __future__ import annotations

from typing import Optional

from .wire import Body, Reply, Target, exchange

REGISTER = "/agents/register"


class Router:
    """May be used by many threads at once."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._token: Optional[str] = None

    def post(self, path: str, body: Body, *, timeout: float, max_bytes: int) -> Reply:
        """Raises Unreachable."""
        token = None if path == REGISTER else self._token
        target = self._target if token is None else self._target._replace(api_key=token)
        reply = exchange(target, "POST", path, body, timeout=timeout, max_bytes=max_bytes)
        if token is not None and reply.status in (401, 403) and self._target.api_key is not None:
            # Another has registered under our id, or the router has lost what tokens are made with: the key counts still.
            self._token = None
            return exchange(self._target, "POST", path, body, timeout=timeout, max_bytes=max_bytes)
        if path == REGISTER and reply.status in (200, 201):
            answer = reply.json()
            given = answer.get("agent_token") if isinstance(answer, dict) else None
            self._token = given if isinstance(given, str) and 0 < len(given) <= 512 and given.isascii() and given.isprintable() and " " not in given else None
        return reply
