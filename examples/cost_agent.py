"""An agent that reads cloud bills: ``analyze_cost`` and ``forecast_cost``. Python 3.9 or newer, standard library only.

    python3 examples/cost_agent.py

Settings: SWITCHYARD_URL (http://127.0.0.1:8080), AGENT_NAME, AGENT_HOST (127.0.0.1), AGENT_PORT (0: a free one).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from statistics import fmean, median

SWITCHYARD_URL = (os.environ.get("SWITCHYARD_URL") or "http://127.0.0.1:8080").rstrip("/")
NAME = os.environ.get("AGENT_NAME") or "cost-agent"
HOST = os.environ.get("AGENT_HOST") or "127.0.0.1"
PORT = os.environ.get("AGENT_PORT") or "0"
TYPE = "cost"
MAX_CONCURRENCY = 4

# The most that a task's parameters may be, and some more for what comes with them.
MAX_BODY_BYTES = 2 * 1024 * 1024
# How long tasks may go on after SIGTERM, in seconds.
DRAIN_SECONDS = 10


# --- the work ------------------------------------------------------------------------------------------------------------


class BadParameters(Exception):
    """The parameters are at fault: another attempt would fare no better."""


def number(value: object, what: str, least: float = 0) -> float:
    # True is an int in Python, and no number to anyone else.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < least:
        raise BadParameters(f"{what} must be a number of at least {least:g}")
    return float(value)


def items_of(parameters: dict) -> list[dict]:
    items = parameters.get("items")
    if not isinstance(items, list) or not items:
        raise BadParameters("items must be a list that is not empty")
    read = []
    for index, item in enumerate(items):
        if not isinstance(item, dict) or not isinstance(item.get("service"), str):
            raise BadParameters(f"items[{index}] must be an object with a service")
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


def forecast_cost(parameters: dict) -> dict:
    """``{daily: [amounts], days = 7}`` → the straight line through them by least squares, and where it leads."""
    daily = parameters.get("daily")
    if not isinstance(daily, list) or len(daily) < 2:
        raise BadParameters("daily must be a list of at least two amounts")
    amounts = [number(amount, f"daily[{index}]") for index, amount in enumerate(daily)]
    days = parameters.get("days", 7)
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= 366:
        raise BadParameters("days must be a whole number from 1 to 366")
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


CAPABILITIES = {"analyze_cost": analyze_cost, "forecast_cost": forecast_cost}


# --- tasks ---------------------------------------------------------------------------------------------------------------

leaving = threading.Event()
lock = threading.Lock()
# The attempt ids of what is being worked on; guarded by the lock.
running: set[str] = set()


def perform(task: dict) -> tuple[int, dict, dict]:
    """Does one task; returns the status, the body and the headers of the answer."""
    task_id, attempt_id = task.get("task_id"), str(task.get("attempt_id"))
    work = CAPABILITIES.get(task.get("task_type"))
    if work is None or not isinstance(task.get("parameters"), dict):
        return 422, {"task_id": task_id, "error": f"{NAME} has no capability {task.get('task_type')}, or the parameters are no object"}, {}
    # Neither refusal costs the task an attempt; Switchyard gives it to another agent, or comes back after that time.
    if leaving.is_set():
        return 503, {"error": f"{NAME} is leaving"}, {"Retry-After": "5"}
    with lock:
        if len(running) >= MAX_CONCURRENCY:
            return 429, {"error": f"{NAME} has all the {MAX_CONCURRENCY} tasks it can do at once"}, {"Retry-After": "1"}
        running.add(attempt_id)
    began = time.perf_counter()
    try:
        result = work(task["parameters"])
        took = round((time.perf_counter() - began) * 1000, 3)
        return 200, {"task_id": task_id, "status": "completed", "result": result, "execution_time_ms": took}, {}
    except BadParameters as error:
        return 422, {"task_id": task_id, "status": "failed", "error": str(error)}, {}
    except Exception as error:  # whatever went wrong, Switchyard is to know and may try again
        return 500, {"task_id": task_id, "status": "failed", "error": f"{type(error).__name__}: {error}"}, {}
    finally:
        with lock:
            running.discard(attempt_id)


class Handler(BaseHTTPRequestHandler):
    # Of a client that stalls; else it would keep its thread for ever.
    timeout = 10

    def do_POST(self) -> None:
        if self.path != "/task":
            return self.answer(404, {"error": "POST /task and GET /health are all there is"})
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return self.answer(413, {"error": f"send a Content-Length of at most {MAX_BODY_BYTES}"})
        try:
            task = json.loads(self.rfile.read(int(length)))
        except ValueError:
            task = None
        if not isinstance(task, dict):
            return self.answer(400, {"error": "send a task as a JSON object"})
        self.answer(*perform(task))

    def do_GET(self) -> None:
        if self.path != "/health":
            return self.answer(404, {"error": "POST /task and GET /health are all there is"})
        status = "draining" if leaving.is_set() else "healthy"
        self.answer(200, {"status": status, "running": len(running), "max_concurrency": MAX_CONCURRENCY})

    def answer(self, status: int, body: dict, headers: dict | None = None) -> None:
        data = json.dumps(body, allow_nan=False).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingMixIn, TCPServer):
    """A thread for each connection, and a connection for each request (HTTP/1.0); a few more than tasks, to say no in."""

    address_family = socket.AF_INET6 if ":" in HOST else socket.AF_INET
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    threads = threading.BoundedSemaphore(MAX_CONCURRENCY + 4)

    def process_request(self, request, client_address) -> None:
        # With all threads taken the next connection waits in the system's queue, not in ever more threads of ours.
        self.threads.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self.threads.release()
            raise

    def process_request_thread(self, request, client_address) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.threads.release()

    def handle_error(self, request, client_address) -> None:
        pass  # a client that hung up: Switchyard does, when the time is over or the task is cancelled


# --- Switchyard ----------------------------------------------------------------------------------------------------------

# Proxies are for the internet; Switchyard is a neighbour.
http = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# One for the life of the process: by it Switchyard tells a restart, after which nothing runs here, from a mere repeat.
INSTANCE_ID = str(uuid.uuid4())


def say(text: str) -> None:
    print(f"{NAME}: {text}", flush=True)


def call(path: str, body: dict) -> tuple[int, dict]:
    """One POST; raises OSError when there is no answer."""
    request = urllib.request.Request(SWITCHYARD_URL + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with http.open(request, timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        try:
            return error.code, json.load(error)
        except ValueError:
            return error.code, {}
    except ValueError as error:
        raise OSError("the answer is no JSON") from error


def register(port: int, agent_id: str | None) -> tuple[str, float] | None:
    """Tries until it is taken; returns our id and after how many seconds to beat, or None when we are to leave."""
    body = {
        "name": NAME, "type": TYPE, "host": HOST, "port": port, "capabilities": list(CAPABILITIES), "version": "1.0.0",
        "max_concurrency": MAX_CONCURRENCY, "instance_id": INSTANCE_ID, **({"agent_id": agent_id} if agent_id else {}),
    }  # fmt: skip
    pause = 0.25
    while not leaving.is_set():
        try:
            status, answer = call("/agents/register", body)
            if status in (200, 201):
                say(f"registered at {SWITCHYARD_URL} as {answer['agent_id']} ({TYPE}: {', '.join(CAPABILITIES)}), listening at {HOST}:{port}")
                return answer["agent_id"], answer["heartbeat_interval_seconds"]
            why = f"{status} {answer.get('error', '')}"
            if status < 500 and status != 429:
                print(f"{NAME}: Switchyard refused the registration: {why}", file=sys.stderr, flush=True)
                os._exit(1)  # also from the thread that beats
        except OSError as error:
            why = str(getattr(error, "reason", error))
        if pause == 0.25:
            say(f"cannot register at {SWITCHYARD_URL} ({why}); is it running (npm start), and SWITCHYARD_URL right? Trying on")
        leaving.wait(pause)
        pause = min(pause * 2, 5)
    return None


def attempts() -> list[str]:
    with lock:
        return list(running)


def main() -> None:
    for name in (signal.SIGTERM, signal.SIGINT):
        # From a thread, as the main one may be just inside the event, whose lock is not reentrant.
        signal.signal(name, lambda *_: threading.Thread(target=leaving.set).start())
    try:
        server = Server((HOST, int(PORT)), Handler)
    except (OSError, ValueError, OverflowError) as error:
        sys.exit(f"{NAME}: cannot listen at {HOST}:{PORT} ({error}): set AGENT_PORT to a free port, or 0, and AGENT_HOST to a name or address of this machine")
    port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()

    registered = register(port, None)
    while registered and not leaving.wait(registered[1]):
        agent_id, seconds = registered
        try:
            status, answer = call(f"/agents/{agent_id}/heartbeat", {"status": "healthy", "running": attempts()})
        except OSError:
            continue  # a beat that is missed does no harm: three fit into the time after which an agent counts as dead
        if status == 404:  # it was forgotten, or unregistered by someone
            registered = register(port, agent_id) or registered
        elif status == 200:
            # What it says of cancelled attempts is of no use here: the work takes milliseconds.
            registered = agent_id, answer["next_interval_seconds"]

    if registered:
        goodbye(registered[0])
    say("left")


def goodbye(agent_id: str) -> None:
    """No new tasks, then an end to those at hand. Switchyard may be gone as well; the time to live ends the registration then."""
    with contextlib.suppress(OSError):
        call(f"/agents/{agent_id}/heartbeat", {"status": "draining", "running": attempts()})
    deadline = time.monotonic() + DRAIN_SECONDS
    while attempts() and time.monotonic() < deadline:
        time.sleep(0.02)
    with contextlib.suppress(OSError):
        call(f"/agents/{agent_id}/unregister", {})


if __name__ == "__main__":
    main()
