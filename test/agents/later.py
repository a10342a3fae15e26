"""An agent of the Python SDK whose results come later, for tests; later.ts is its twin and says what it does."""

import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "sdk", "python"))

from switchyard import Agent, NonRetryableError  # noqa: E402

env = os.environ.get
agent = Agent(
    type=env("AGENT_TYPE") or "test",
    drain_seconds=float(env("AGENT_DRAIN_SECONDS") or 25),
    later_after_seconds=float(env("AGENT_LATER_AFTER_SECONDS")) if env("AGENT_LATER_AFTER_SECONDS") else None,
    register=env("AGENT_REGISTER") != "0",
)
gates = {}


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())  # a line stays whole, whichever thread says it


def wait(ctx, parameters):
    """Until its gate is open, or the task is to stop; `ignores` waits on."""
    say("began", ctx.task_id)
    gate = gates.setdefault(ctx.task_id, threading.Event())
    while not gate.wait(0.01):
        if ctx.cancelled.is_set() and not parameters.get("ignores"):
            break
    say("ended", ctx.task_id, ctx.reason or "by itself")


@agent.task("work")
def work(parameters, ctx):
    wait(ctx, parameters)
    ends = parameters.get("ends", "value")
    if ends == "fails":
        raise RuntimeError("on purpose")
    if ends == "final":
        raise NonRetryableError("no such account")
    return {"value": {"a": ["ä", 1.5, None]}, "large": "x" * (1 << 20), "largest": "x" * ((1 << 20) - 1026), "no_json": {"n": float("nan")}}[ends]


@agent.task("later")
def later(parameters, ctx):
    ctx.later()
    ctx.later()
    return work(parameters, ctx)


@agent.task("report")
def report(parameters, ctx):
    """Reports, and tells what became of each; then waits."""
    taken = []
    for one in parameters.get("reports", []):
        taken.append(ctx.progress(one.get("percent"), one.get("message"), one.get("data"), extend_seconds=one.get("extendSeconds")))
        say("left", ctx.task_id, round(ctx.remaining))
    say("reported", ctx.task_id, ",".join(str(one).lower() for one in taken))
    wait(ctx, parameters)
    return taken


@agent.task("open")
def open_gate(parameters):
    gates.setdefault(parameters["name"], threading.Event()).set()


if __name__ == "__main__":
    agent.run()
