"""Why a task waits, as types: what ``client.tasks.explain`` gives. docs/explain.md tells what each reason means."""

from __future__ import annotations

from typing import Dict, List, Literal, Optional, TypedDict

from .shapes import AgentStatus, Attempt, TaskStatus


class ConsideredAgent(TypedDict):
    """``reason`` is ``eligible`` when it may get the task now; else why not."""

    agent_id: str
    name: str
    status: AgentStatus
    in_flight: int
    max_concurrency: int
    load: float
    reason: str
    detail: Optional[str]


class Queue(TypedDict):
    """How many tasks of the queue may go, wait for their time, and are at a dispatcher or an agent."""

    name: str
    waiting: int
    delayed: int
    active: int


class OfPriority(TypedDict):
    priority: int
    tasks: int


class Position(TypedDict):
    """``before`` of its queue go first, ``returned`` of them as they came back from a dispatcher that died; ``elsewhere`` in other queues of its agents."""

    before: int
    returned: int
    by_priority: List[OfPriority]
    elsewhere: int


class UnderWay(TypedDict):
    attempt: int
    agent_id: str
    agent_name: str
    sent_at: str
    deadline_at: str
    waits_for: Literal["answer", "callback"]


class AgentsConsidered(TypedDict):
    total: int
    by_reason: Dict[str, int]
    not_looked_at: int


class Explanation(TypedDict):
    """``reason`` is a code that stays, ``summary`` a sentence for people. Times are ISO 8601 in UTC."""

    task_id: str
    status: TaskStatus
    reason: str
    summary: str
    at: str
    since: str
    may_go_at: Optional[str]
    expires_at: str
    cancel_requested: bool
    queue: Queue
    position: Optional[Position]
    attempt: Optional[UnderWay]
    last_attempt: Optional[Attempt]
    avoids: List[str]
    waited_for: Optional[str]
    agents: List[ConsideredAgent]
    agents_considered: Optional[AgentsConsidered]
    dispatchers: int
