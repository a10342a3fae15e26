"""An agent on the Python SDK that does odd things on purpose, and prints what happens to its tasks. Settings from the environment only."""

import asyncio
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "sdk", "python"))

from switchyard import Agent, NonRetryableError, http1  # noqa: E402

env = os.environ.get
http1.REQUEST_SECONDS = float(env("REQUEST_SECONDS") or http1.REQUEST_SECONDS)
agent = Agent(
    type="test",
    max_concurrency=int(env("AGENT_MAX_CONCURRENCY") or 4),
    drain_seconds=float(env("AGENT_DRAIN_SECONDS") or 25),
    register=env("AGENT_REGISTER") != "0",
)
gate = threading.Event()


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())  # a line stays whole, whichever thread says it


@agent.task("echo")
def echo(parameters):
    return parameters


@agent.task("about")
def about(_parameters, ctx):
    ctx.logger.info("about itself")
    names = ("task_id", "task_type", "attempt", "attempt_id", "timeout_seconds", "metadata", "priority", "traceparent", "reason")
    return {**{name: getattr(ctx, name) for name in names}, "remaining": ctx.remaining, "cancelled": ctx.cancelled.is_set(), "thread": threading.current_thread().name}


@agent.task("fork")
def fork(_parameters):
    pid = os.fork()
    if pid == 0:
        sys.exit(0)
    return {"pid": pid}


@agent.task("later")
async def later(parameters):
    await asyncio.sleep(0.01)
    return parameters


@agent.task("later_about")
async def later_about(_parameters, ctx):
    return ctx.task_id


@agent.task("wait")
def wait(_parameters, ctx):
    say("began", ctx.task_id)
    ctx.cancelled.wait(30)
    say("ended", ctx.task_id, ctx.reason)
    ctx.raise_if_cancelled()


@agent.task("wait_async")
async def wait_async(_parameters, ctx):
    say("began", ctx.task_id)
    try:
        await asyncio.sleep(30)
    finally:
        say("ended", ctx.task_id, ctx.reason)


@agent.task("ignore")
def ignore(_parameters, ctx):
    """Does not care whether anybody waits; ends when the gate opens."""
    say("began", ctx.task_id)
    gate.wait(30)
    say("ended", ctx.task_id, ctx.reason)
    return "too late"


@agent.task("until_file")
def until_file(parameters, ctx):
    """Ends well when there is such a file."""
    say("began", ctx.task_id)
    while not os.path.exists(parameters["path"]) and not ctx.cancelled.wait(0.02):
        pass
    say("ended", ctx.task_id, ctx.reason)
    return "there it is"


@agent.task("open")
def open_gate(_parameters):
    gate.set()


@agent.task("raise")
def raises(parameters):
    kind, message = parameters["kind"], parameters.get("message", "on purpose")
    if kind == "exit":
        sys.exit(3)
    raise {"final": NonRetryableError, "value": ValueError, "interrupt": KeyboardInterrupt, "cancelled": asyncio.CancelledError}[kind](message)


@agent.task("return")
def returns(parameters):
    cycle = []
    cycle.append(cycle)
    deep = []
    for _ in range(600):
        deep = [deep]
    values = {"nan": float("nan"), "infinity": [float("inf")], "set": {1}, "object": object(), "bytes": b"a", "cycle": cycle, "deep": deep, "large": "x" * (1 << 20), "largest": "x" * ((1 << 20) - 1026), "surrogate": "\ud800", "tuple": (1, "é"), "none": None}
    return values[parameters["kind"]]


if __name__ == "__main__":
    agent.run()
