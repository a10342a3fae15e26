"""The client's keys: made, listed, rotated and revoked, by one of role ``admin``."""

from __future__ import annotations

from typing import List, Optional

from .calls import Calls, members, part
from .shapes import Key, KeyMade, KeyRevoked, Role


class Keys:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def create(self, name: str, roles: "List[Role]", *, namespace: Optional[str] = None, expires_in_seconds: Optional[float] = None, requests_per_second: Optional[int] = None) -> KeyMade:
        """Of the client's own namespace unless one is given. The answer's ``key`` is never told again. Should the answer be lost there is a key that nobody has: revoke it."""
        made: KeyMade = self._calls.json("POST", "/keys", members(name=name, roles=roles, namespace=namespace, expires_in_seconds=expires_in_seconds, requests_per_second=requests_per_second))
        return made

    def list(self) -> "List[Key]":
        """All of them, the oldest first; with a key of a namespace those of that one."""
        keys: "List[Key]" = self._calls.json("GET", "/keys")["keys"]
        return keys

    def rotate(self, key_id: str, *, old_expires_in_seconds: Optional[float] = None, expires_in_seconds: Optional[float] = None) -> KeyMade:
        """A key of the same name, roles and namespace; the old one goes on beside it for a day, or as long as is said."""
        made: KeyMade = self._calls.json("POST", f"/keys/{part(key_id)}/rotate", members(old_expires_in_seconds=old_expires_in_seconds, expires_in_seconds=expires_in_seconds))
        return made

    def revoke(self, key_id: str) -> KeyRevoked:
        """May be repeated."""
        answer: KeyRevoked = self._calls.json("DELETE", f"/keys/{part(key_id)}", again=True)
        return answer
