"""Agents and clients of Switchyard, a task router for HTTP agents. Standard library only.

    from switchyard import Agent

    agent = Agent(type="cost")

    @agent.task("analyze_cost")
    def analyze_cost(parameters, ctx):
        return {"total": 12.5}

    agent.run()
"""

from .agent import Agent
from .client import Client
from .context import Context, NonRetryableError, TaskAborted
from .errors import (
    AgentTypeConflict,
    AlreadyRetried,
    ConnectionFailed,
    Forbidden,
    HeadersTooLarge,
    HostNotAllowed,
    IdempotencyKeyReused,
    Internal,
    InvalidJson,
    InvalidRequest,
    MalformedRequest,
    MethodNotAllowed,
    NoAgent,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    QueueFull,
    RateLimited,
    RequestTimeout,
    StoreFull,
    StoreUnavailable,
    SwitchyardError,
    StaleAttempt,
    TaskEnded,
    TaskNotEnded,
    TooManyAgents,
    TooManyKeys,
    TooManyQueues,
    TooManyWatchers,
    TooManySchedules,
    Unauthorized,
    UnsupportedMediaType,
    WaitTimeout,
)
from .signature import sign, verify
from .tasks import TaskHandle
from .version import __version__
from .webhook import WebhookVerificationError, verify_webhook

__all__ = [
    "Agent",
    "AgentTypeConflict",
    "AlreadyRetried",
    "Client",
    "ConnectionFailed",
    "Context",
    "Forbidden",
    "HeadersTooLarge",
    "HostNotAllowed",
    "IdempotencyKeyReused",
    "Internal",
    "InvalidJson",
    "InvalidRequest",
    "MalformedRequest",
    "MethodNotAllowed",
    "NoAgent",
    "NonRetryableError",
    "NotFound",
    "Overloaded",
    "PayloadTooLarge",
    "QueueFull",
    "RateLimited",
    "RequestTimeout",
    "StoreFull",
    "StoreUnavailable",
    "SwitchyardError",
    "TaskAborted",
    "StaleAttempt",
    "TaskEnded",
    "TaskHandle",
    "TaskNotEnded",
    "TooManyAgents",
    "TooManyKeys",
    "TooManyQueues",
    "TooManyWatchers",
    "TooManySchedules",
    "Unauthorized",
    "UnsupportedMediaType",
    "WaitTimeout",
    "WebhookVerificationError",
    "__version__",
    "sign",
    "verify",
    "verify_webhook",
]
