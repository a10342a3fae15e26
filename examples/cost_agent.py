"""An agent that reads cloud bills: ``analyze_cost`` and ``forecast_cost``. Python 3.9 or newer, standard library and the Switchyard SDK only.

    python3 examples/cost_agent.py

Settings: SWITCHYARD_URL (http://127.0.0.1:8080), AGENT_NAME, AGENT_HOST, AGENT_PORT and the others of sdk/python/README.md.
"""

from __future__ import annotations

import math
import os
import sys
from statistics import fmean, median

# In a checkout the SDK need not be installed.
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "sdk", "python"))

from switchyard import Agent, NonRetryableError

# What is wrong with the parameters stays so, whoever tries: NonRetryableError.
agent = Agent(type="cost", version="1.0.0", max_concurrency=4, drain_seconds=10)


def number(value: object, what: str, least: float = 0) -> float:
    # True is an int in Python, and no number to anyone else.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < least:
        raise NonRetryableError(f"{what} must be a number of at least {least:g}")
    return float(value)


def items_of(parameters: dict) -> list[dict]:
    items = parameters.get("items")
    if not isinstance(items, list) or not items:
        raise NonRetryableError("items must be a list that is not empty")
    read = []
    for index, item in enumerate(items):
        if not isinstance(item, dict) or not isinstance(item.get("service"), str):
            raise NonRetryableError(f"items[{index}] must be an object with a service")
        hours = item.get("usage_hours")
        read.append(
            {
                "index": index,
                "service": item["service"],
                "resource": item.get("resource"),
                "amount": number(item.get("amount"), f"items[{index}].amount"),
                "usage_hours": None if hours is None else number(hours, f"items[{index}].usage_hours"),
            }
        )
    return read


def anomalies_of(items: list[dict]) -> list[dict]:
    """Items far from what their service usually costs, by the median absolute deviation, which outliers cannot pull along.

    The modified z-score of Iglewicz and Hoaglin: 3.5 is far. Where more than half of the amounts are equal that deviation is 0, and
    the mean absolute one stands in. Where amounts hardly differ a cent is far, so a quarter of what is usual is the least. Fewer than
    four items tell nothing.
    """
    if len(items) < 4:
        return []
    usual = median(item["amount"] for item in items)
    distances = [abs(item["amount"] - usual) for item in items]
    unit = median(distances) / 0.6745 or fmean(distances) * 1.253314
    if unit == 0:
        return []
    return [
        {**pick(item, "index", "service", "resource", "amount"), "usual": round(usual, 2), "score": round(distance / unit, 2)}
        for item, distance in zip(items, distances)
        if distance / unit > 3.5 and distance > 0.25 * usual
    ]


def pick(item: dict, *names: str) -> dict:
    return {name: item[name] for name in names}


@agent.task("analyze_cost")
def analyze_cost(parameters: dict) -> dict:
    """``{items: [{service, amount, resource?, usage_hours?}], period_hours = 720}`` → totals, anomalies and what seems to idle."""
    items = items_of(parameters)
    period = number(parameters.get("period_hours", 720), "period_hours", 1)
    services: dict[str, list[dict]] = {}
    for item in items:
        services.setdefault(item["service"], []).append(item)
    total = math.fsum(item["amount"] for item in items)
    by_service = [
        {"service": service, "amount": round(amount, 2), "share": round(amount / total, 4) if total else 0, "items": len(its)}
        for service, its in services.items()
        for amount in [math.fsum(item["amount"] for item in its)]
    ]
    # Paid for, and used for less than a twentieth of the time.
    idle = [item for item in items if item["amount"] > 0 and item["usage_hours"] is not None and item["usage_hours"] < 0.05 * period]
    return {
        "total": round(total, 2),
        "items": len(items),
        "by_service": sorted(by_service, key=lambda s: (-s["amount"], s["service"])),
        "anomalies": sorted((a for its in services.values() for a in anomalies_of(its)), key=lambda a: a["index"]),
        "idle_suspects": [pick(item, "index", "service", "resource", "amount", "usage_hours") for item in idle],
        "idle_amount": round(math.fsum(item["amount"] for item in idle), 2),
    }


@agent.task("forecast_cost")
def forecast_cost(parameters: dict) -> dict:
    """``{daily: [amounts], days = 7}`` → the straight line through them by least squares, and where it leads."""
    daily = parameters.get("daily")
    if not isinstance(daily, list) or len(daily) < 2:
        raise NonRetryableError("daily must be a list of at least two amounts")
    amounts = [number(amount, f"daily[{index}]") for index, amount in enumerate(daily)]
    days = parameters.get("days", 7)
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= 366:
        raise NonRetryableError("days must be a whole number from 1 to 366")
    mean_x, mean_y = (len(amounts) - 1) / 2, fmean(amounts)
    spread = math.fsum((x - mean_x) ** 2 for x in range(len(amounts)))
    slope = math.fsum((x - mean_x) * (y - mean_y) for x, y in enumerate(amounts)) / spread
    start = mean_y - slope * mean_x
    variation = math.fsum((y - mean_y) ** 2 for y in amounts)
    missed = math.fsum((y - start - slope * x) ** 2 for x, y in enumerate(amounts))
    # A cost cannot fall below nothing, whatever the line does.
    forecast = [max(0.0, start + slope * (len(amounts) + day)) for day in range(days)]
    return {
        "slope_per_day": round(slope, 4),
        "r_squared": round(1 - missed / variation, 4) if variation else None,
        "forecast": [round(amount, 2) for amount in forecast],
        "forecast_total": round(math.fsum(forecast), 2),
    }


if __name__ == "__main__":
    agent.run()
