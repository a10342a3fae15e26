"""An agent whose work takes minutes: ``count_primes`` ``{below}`` -> how many primes there are below, and the largest. Standard library and the Switchyard SDK only.

    python3 examples/primes_agent.py

It answers such a task 202 at once, tells how far it is, asks for more time while it goes on, stops when the task is cancelled, and tells the result when it
is there. Settings: SWITCHYARD_URL (http://127.0.0.1:8080), AGENT_NAME, AGENT_HOST, AGENT_PORT and the others of sdk/python/README.md.
"""

from __future__ import annotations

import math
import os
import sys

# In a checkout the SDK need not be installed.
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "sdk", "python"))

from switchyard import Agent, NonRetryableError

MOST = 10**11
#: What is sieved at once: the memory that it takes, and how often it looks whether it is still wanted.
SEGMENT = 1 << 20
#: Less than this is done before anyone would ask.
SMALL = 10**6

agent = Agent(type="primes", version="1.0.0", max_concurrency=2)


def primes_to(limit: int) -> list[int]:
    """By the sieve of Eratosthenes."""
    sieve = bytearray([1]) * (limit + 1)
    for n in range(2, math.isqrt(limit) + 1):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(range(n * n, limit + 1, n)))
    return [n for n in range(2, limit + 1) if sieve[n]]


@agent.task("count_primes")
def count_primes(parameters, ctx):
    below = parameters.get("below")
    if isinstance(below, bool) or not isinstance(below, int) or not 0 <= below <= MOST:
        raise NonRetryableError(f"below must be a whole number from 0 to {MOST}")
    if below > SMALL:
        ctx.later()
    divisors = primes_to(math.isqrt(below))
    count, largest = 0, None
    for start in range(2, below, SEGMENT):
        ctx.raise_if_cancelled()
        # Goes out each second at most; where it asks for time only when there is little left, each of them need not go at once.
        short = ctx.remaining is not None and ctx.remaining < 30
        ctx.progress(100 * start / below, f"{count} up to {start}", {"count": count, "largest": largest}, extend_seconds=60 if short else None)
        end = min(start + SEGMENT, below)
        sieve = bytearray([1]) * (end - start)
        for prime in divisors:
            if prime * prime >= end:
                break
            first = max(prime * prime, -(-start // prime) * prime) - start
            sieve[first::prime] = bytes(len(range(first, end - start, prime)))
        count += sum(sieve)
        last = sieve.rfind(1)
        largest = largest if last < 0 else start + last
    return {"below": below, "count": count, "largest": largest}


if __name__ == "__main__":
    agent.run()
