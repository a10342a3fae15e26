"""What Switchyard answers, as types; every member is there. `/docs` of a running one explains each."""

from __future__ import annotations

from typing import Any, Dict, List, Literal, Optional, TypedDict

TaskStatus = Literal["pending", "queued", "sent", "running", "retrying", "completed", "failed", "timeout", "cancelled"]
AgentStatus = Literal["healthy", "degraded", "unhealthy", "draining", "unreachable", "dead"]
ReportedStatus = Literal["healthy", "degraded", "unhealthy", "draining"]
Outcome = Literal["completed", "failed", "rejected", "timeout", "unreachable", "no_room", "cancelled", "lost", "drained"]

ENDS = ("completed", "failed", "timeout", "cancelled")


class Attempt(TypedDict):
    """One delivery. `outcome` is None while it lasts."""

    attempt: int
    agent_id: str
    agent_name: str
    sent_at: str
    ended_at: Optional[str]
    outcome: Optional[Outcome]
    status_code: Optional[int]
    error: Optional[str]


class WebhookAttempt(TypedDict):
    at: str
    status_code: Optional[int]
    error: Optional[str]
    duration_ms: Optional[int]


class TaskWebhook(TypedDict):
    """`id` is the header `webhook-id`, the same at every try."""

    id: str
    status: Literal["pending", "delivered", "failed", "disabled"]
    attempts: List[WebhookAttempt]
    next_attempt_at: Optional[str]


class Progress(TypedDict):
    """How far an attempt is, as its agent said last. `data` is any JSON value."""

    percent: Optional[float]
    message: Optional[str]
    data: Any
    at: str


class LateResult(TypedDict):
    """A result that came too late to count."""

    attempt: int
    agent_id: str
    received_at: str
    status: Literal["completed", "failed"]
    result: Any
    error: Optional[str]


class Task(TypedDict):
    """Times are ISO 8601 in UTC."""

    task_id: str
    task_type: str
    agent_type: str
    agent_id: Optional[str]
    priority: int
    status: TaskStatus
    parameters: Dict[str, Any]
    result: Any
    error: Optional[str]
    created_at: str
    started_at: Optional[str]
    completed_at: Optional[str]
    run_at: Optional[str]
    expires_at: str
    timeout_seconds: float
    retry_count: int
    max_retries: int
    redeliveries: int
    refunds: int
    poison: bool
    progress: Optional[Progress]
    metadata: Dict[str, Any]
    cancel_requested: bool
    retry_of: Optional[str]
    retried_as: Optional[str]
    schedule_id: Optional[str]
    scheduled_at: Optional[str]
    execution_time_ms: Optional[float]
    callback_url: Optional[str]
    webhook: Optional[TaskWebhook]
    attempts: List[Attempt]
    late_results: List[LateResult]


class WebhookEvent(TypedDict, total=False):
    """What a `callback_url` is sent. `omitted` is there, and names members of the task, when the whole was too large."""

    type: Literal["task.completed", "task.failed", "task.timeout", "task.cancelled"]
    timestamp: str
    data: Task
    omitted: List[str]


class Refusal(TypedDict, total=False):
    """The problem that a task of a batch would have been answered with alone; pointers are into the task."""

    type: str
    title: str
    status: int
    detail: str
    errors: List[Dict[str, str]]
    error: str


class BatchItem(TypedDict, total=False):
    """Of one that was taken everything but ``error``; of one that was not ``index`` and ``error``."""

    index: int
    task_id: str
    status: TaskStatus
    agent_id: Optional[str]
    created_at: str
    status_url: str
    #: It was taken before, under the same key; this is the first answer.
    replayed: bool
    error: Refusal


class BatchTaken(TypedDict):
    """``tasks`` has an answer for each task, in order."""

    accepted: int
    refused: int
    tasks: List[BatchItem]


class Cancelled(TypedDict):
    """With `cancel_requested` and a status that is no end, it is at an agent and will end cancelled."""

    task_id: str
    status: TaskStatus
    cancel_requested: bool


class Redelivery(TypedDict):
    task_id: str
    webhook: TaskWebhook


class DeadLetterGroup(TypedDict):
    """How many dead letters are of one kind. Ids and numbers in `error` are `#`."""

    agent_type: str
    task_type: str
    error: str
    count: int
    newest_task_id: str


class DeadLetterSummary(TypedDict):
    """`complete` is false when there are too many to look at, of which the newest count, or too many groups."""

    groups: List[DeadLetterGroup]
    count: int
    complete: bool


class DeadLettersRetried(TypedDict):
    """With `more`, there may be more to retry: call again with `next_cursor`. `error` says what kept it from retrying all that it found."""

    retried: int
    skipped: int
    task_ids: List[str]
    more: bool
    next_cursor: Optional[str]
    error: Optional[str]


class ProgressTaken(TypedDict):
    """`deadline_at` is when the attempt ends if nothing is heard until then, moved or not."""

    task_id: str
    status: Literal["running"]
    deadline_at: str
    cancel_requested: bool


class ResultTaken(TypedDict):
    task_id: str
    status: TaskStatus


class TaskEvent(TypedDict, total=False):
    """What happened to a task. `type` is `task.` and the status that it has come to, or `task.progress`; of `gap` there is only `detail`:
    some events were forgotten before they could be sent."""

    id: str
    type: str
    task_id: str
    agent_type: str
    at: str
    attempt: Optional[int]
    agent_id: Optional[str]
    outcome: Optional[Outcome]
    error: Optional[str]
    progress: Any
    detail: str


class Sick(TypedDict):
    """Why and for how long an agent is taken out. `until` is None when it is tried again, with one task at a time."""

    since: str
    until: Optional[str]
    times: int
    reason: str


class AgentRecord(TypedDict):
    """An agent as Switchyard knows it."""

    id: str
    agent_id: str
    name: str
    agent_name: str
    type: str
    host: str
    port: int
    capabilities: List[str]
    status: AgentStatus
    version: Optional[str]
    ttl_seconds: float
    max_concurrency: int
    in_flight: int
    resting_until: Optional[str]
    sick: Optional[Sick]
    suspect: bool
    is_alive: bool
    registered_at: str
    last_seen: str
    last_heartbeat: str
    generation: int
    metadata: Dict[str, Any]


class Registered(AgentRecord):
    heartbeat_url: str
    heartbeat_interval_seconds: float
    signing_secret: str
    signing_secret_id: str
    agent_token: str


class HeartbeatAnswer(TypedDict):
    received: bool
    next_interval_seconds: float
    timestamp: str
    cancel: List[str]
    lost: List[str]
    drain: bool
    signing_secret_id: Optional[str]


class SecretRotated(TypedDict):
    agent_id: str
    old_secret_until: str


class Unregistered(TypedDict):
    agent_id: str
    unregistered: bool


class CleanedUp(TypedDict):
    removed: int


class Schedule(TypedDict):
    """`cron` and `tz`, or `every_seconds`; the others are None. `next_run_at` is None while it is paused."""

    schedule_id: str
    agent_type: str
    cron: Optional[str]
    tz: Optional[str]
    every_seconds: Optional[float]
    catch_up_seconds: float
    paused: bool
    task: Dict[str, Any]
    next_run_at: Optional[str]
    last_run_at: Optional[str]
    last_scheduled_at: Optional[str]
    last_task_id: Optional[str]
    runs: int
    missed: int
    last_missed_at: Optional[str]
    failed: int
    last_error: Optional[str]
    last_error_at: Optional[str]
    created_at: str
    updated_at: str


class ScheduleDeleted(TypedDict):
    schedule_id: str
    deleted: bool


Role = Literal["submit", "agent", "view", "admin"]


class Key(TypedDict):
    key_id: str
    name: str
    roles: List[Role]
    namespace: str
    requests_per_second: Optional[int]
    created_at: str
    expires_at: Optional[str]
    expired: bool
    last_used_at: Optional[str]


class KeyMade(Key):
    key: str


class KeyRevoked(TypedDict):
    key_id: str
    revoked: bool


class Live(TypedDict):
    status: str


class HeldUp(TypedDict):
    queue: str
    tasks: int
    seconds: float


class ReadyBase(TypedDict):
    status: str
    redis: bool
    dispatchers: int


class Ready(ReadyBase, total=False):
    """`status` is `ready` or `not ready`; `reason` says why not, `waiting` what has work and a free slot meanwhile."""

    reason: str
    waiting: List[HeldUp]
