"""An agent on the Python SDK for other suites. Its settings are the environment's; it runs from a checkout, installed or not."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "sdk", "python"))

from switchyard import Agent, NonRetryableError  # noqa: E402

env = os.environ.get
agent = Agent(
    type=env("AGENT_TYPE") or "test",
    max_concurrency=int(env("AGENT_MAX_CONCURRENCY") or 4),
    ttl_seconds=float(env("AGENT_TTL_SECONDS") or 60),
    drain_seconds=float(env("AGENT_DRAIN_SECONDS") or 25),
    later_after_seconds=float(env("AGENT_LATER_AFTER_SECONDS")) if env("AGENT_LATER_AFTER_SECONDS") else None,
    register=env("AGENT_REGISTER") != "0",
)


@agent.task("echo")
def echo(parameters):
    return parameters


@agent.task("sleep")
def sleep(parameters, ctx):
    """{seconds}: that long, or until nobody waits any longer."""
    ctx.cancelled.wait(parameters.get("seconds", 1))
    ctx.raise_if_cancelled()
    return {"slept": parameters.get("seconds", 1)}


@agent.task("later")
def later(parameters, ctx):
    """The same, answered 202, with reports."""
    ctx.later()
    for done in range(4):
        ctx.progress(25 * done, f"{done} of 4")
        ctx.cancelled.wait(parameters.get("seconds", 1) / 4)
        ctx.raise_if_cancelled()
    return {"slept": parameters.get("seconds", 1)}


@agent.task("fail")
def fail(parameters):
    """{message, retryable}"""
    error = RuntimeError if parameters.get("retryable", True) else NonRetryableError
    raise error(parameters.get("message", "failed on purpose"))


if __name__ == "__main__":
    agent.run()
