"""The client's agents: list and read, and what an agent says of itself."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional

from .calls import Calls, members, part
from .shapes import AgentRecord, AgentStatus, CleanedUp, HeartbeatAnswer, Registered, ReportedStatus, SecretRotated, Unregistered


class Agents:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def list(self, *, type: Optional[str] = None, capability: Optional[str] = None, status: Optional[AgentStatus] = None, include_dead: bool = False, page_size: int = 200) -> Iterator[AgentRecord]:
        """All agents that match, by type and id; pages are fetched as they are come to."""
        query = members(type=type, capability=capability, status=status, include_dead=include_dead or None)
        return self._calls.pages("/agents", "agents", query, page_size)

    def list_type(self, type: str, *, capability: Optional[str] = None, status: Optional[AgentStatus] = None, include_dead: bool = False, page_size: int = 200) -> Iterator[AgentRecord]:
        """The same of one type, by its own route."""
        query = members(capability=capability, status=status, include_dead=include_dead or None)
        return self._calls.pages(f"/agents/type/{part(type)}", "agents", query, page_size)

    def get(self, agent_id: str) -> AgentRecord:
        agent: AgentRecord = self._calls.json("GET", f"/agents/{part(agent_id)}")
        return agent

    def register(
        self,
        name: str,
        host: str,
        port: Optional[int] = None,
        *,
        type: Optional[str] = None,
        capabilities: Optional["List[str]"] = None,
        version: Optional[str] = None,
        status: Optional[ReportedStatus] = None,
        agent_id: Optional[str] = None,
        ttl_seconds: Optional[float] = None,
        max_concurrency: Optional[int] = None,
        instance_id: Optional[str] = None,
        rotate_secret: Optional[bool] = None,
        metadata: Optional[Dict[str, Any]] = None,
    ) -> Registered:
        """Registers an agent that does not do so itself; ``port`` may stand in ``host`` instead."""
        body = members(
            name=name,
            host=host,
            port=port,
            type=type,
            capabilities=capabilities,
            version=version,
            status=status,
            agent_id=agent_id,
            ttl_seconds=ttl_seconds,
            max_concurrency=max_concurrency,
            instance_id=instance_id,
            rotate_secret=rotate_secret,
            metadata=metadata,
        )
        registered: Registered = self._calls.json("POST", "/agents/register", body)
        return registered

    def heartbeat(self, agent_id: str, *, status: Optional[ReportedStatus] = None, metadata: Optional[Dict[str, Any]] = None, running: Optional["List[str]"] = None, timestamp: Optional[str] = None, max_concurrency: Optional[int] = None) -> HeartbeatAnswer:
        """A sign of life. ``running=None`` means unknown; ``[]`` means nothing, and frees the agent's slots. ``timestamp`` is that of the last answer."""
        body = members(status=status, metadata=metadata, running=running, timestamp=timestamp, max_concurrency=max_concurrency)
        answer: HeartbeatAnswer = self._calls.json("POST", f"/agents/{part(agent_id)}/heartbeat", body)
        return answer

    def rotate_secret(self, agent_id: str, *, overlap_seconds: Optional[float] = None) -> SecretRotated:
        """Gives it another signing secret; the agent hears of it with its next heartbeat, and fetches it. For ``overlap_seconds`` (a day) what it
        is sent is signed with its present one as well: 0 when that is in wrong hands."""
        answer: SecretRotated = self._calls.json("POST", f"/agents/{part(agent_id)}/rotate-secret", members(overlap_seconds=overlap_seconds))
        return answer

    def unregister(self, agent_id: str) -> Unregistered:
        """May be repeated."""
        answer: Unregistered = self._calls.json("POST", f"/agents/{part(agent_id)}/unregister")
        return answer

    def delete(self, agent_id: str) -> Unregistered:
        """The same as ``unregister``, by the other route."""
        answer: Unregistered = self._calls.json("DELETE", f"/agents/{part(agent_id)}")
        return answer

    def cleanup(self) -> CleanedUp:
        """Removes the dead agents now."""
        answer: CleanedUp = self._calls.json("POST", "/agents/cleanup", {})
        return answer
