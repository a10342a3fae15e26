"""The protocol of docs/protocol.md in plain Python, without the SDK: to read, or to port to a language that has none.

It compares texts: ``diff_texts`` of ``{before, after}``.

    python3 examples/plain_agent.py

Settings: SWITCHYARD_URL, SWITCHYARD_API_KEY (where keys are in force), AGENT_NAME, AGENT_HOST, AGENT_PORT.
"""

import difflib
import json
import os
import signal
import threading
import urllib.error
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn

SWITCHYARD_API_KEY = os.environ.get("SWITCHYARD_API_KEY")
SWITCHYARD_URL = (os.environ.get("SWITCHYARD_URL") or "http://127.0.0.1:8080").rstrip("/")
NAME = os.environ.get("AGENT_NAME") or "plain-agent-py"
HOST, PORT = os.environ.get("AGENT_HOST") or "127.0.0.1", int(os.environ.get("AGENT_PORT") or 0)
MAX_CONCURRENCY, MAX_BODY_BYTES, DRAIN_SECONDS = 4, 2 * 1024 * 1024, 10

leaving = threading.Event()
running, changed = [], threading.Condition()  # the attempt ids of what is being worked on, and its lock


def diff_texts(parameters):
    """``{before, after}`` → what changed, as ``diff -u`` shows it. ValueError when the parameters are at fault."""
    before, after = parameters.get("before"), parameters.get("after")
    if not isinstance(before, str) or not isinstance(after, str):
        raise ValueError("before and after must be strings")
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm=""))
    signs = [line[0] for line in lines[2:]]
    return {"diff": "\n".join(lines), "added": signs.count("+"), "removed": signs.count("-")}


CAPABILITIES = {"diff_texts": diff_texts}


def perform(task):
    """Rules T: status, body and seconds to Retry-After, if any."""
    work = CAPABILITIES.get(str(task.get("task_type")))
    if work is None or not isinstance(task.get("parameters"), dict):
        return 422, {"error": f"{NAME} has no capability {task.get('task_type')}, or the parameters are no object"}, None
    if leaving.is_set():
        return 503, {"error": f"{NAME} is leaving"}, 5
    attempt_id = str(task.get("attempt_id"))
    with changed:
        if len(running) >= MAX_CONCURRENCY:
            return 429, {"error": f"{NAME} has all the {MAX_CONCURRENCY} tasks it can do at once"}, 1
        running.append(attempt_id)
    try:
        return 200, {"task_id": task.get("task_id"), "status": "completed", "result": work(task["parameters"])}, None
    except ValueError as error:  # 4xx: another attempt would fare no better
        return 422, {"status": "failed", "error": str(error)}, None
    except Exception as error:  # 5xx: Switchyard may try again
        return 500, {"status": "failed", "error": f"{type(error).__name__}: {error}"}, None
    finally:
        with changed:
            running.remove(attempt_id)
            changed.notify_all()


class Handler(BaseHTTPRequestHandler):
    timeout = 10  # of a client that stalls, in seconds

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if self.path != "/task" or not length.isdigit():
            return self.answer(404, {"error": "POST /task, with a Content-Length, and GET /health are all there is"})
        if int(length) > MAX_BODY_BYTES:
            return self.answer(413, {"error": f"at most {MAX_BODY_BYTES} bytes are taken"})
        try:
            task = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            task = None
        self.answer(*(perform(task) if isinstance(task, dict) else (400, {"error": "send a task as a JSON object"})))

    def do_GET(self):
        status = "draining" if leaving.is_set() else "healthy"
        health = {"status": status, "running": len(running), "max_concurrency": MAX_CONCURRENCY, "capabilities": list(CAPABILITIES)}
        self.answer(200, health) if self.path == "/health" else self.answer(404, {"error": "GET /health"})

    def answer(self, status, body, retry_after=None):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if retry_after:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(ThreadingMixIn, TCPServer):  # an HTTPServer would ask DNS for its own name
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128


# Proxies are for the internet; Switchyard is a neighbour.
http = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(path, body):
    """Status and answer of one POST; OSError when there is none."""
    headers = {"Content-Type": "application/json"}
    if SWITCHYARD_API_KEY:
        headers["Authorization"] = f"Bearer {SWITCHYARD_API_KEY}"
    request = urllib.request.Request(SWITCHYARD_URL + path, json.dumps(body).encode(), headers)
    try:
        with http.open(request, timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, {"error": error.read().decode(errors="replace")}


def live(port):
    """Rules R, B and L. One turn of the loop is a registration or a beat; whatever fails is tried again a little later."""
    registration = {"name": NAME, "type": "diff", "host": HOST, "port": port, "capabilities": list(CAPABILITIES)}
    registration.update(max_concurrency=MAX_CONCURRENCY, instance_id=str(uuid.uuid4()))
    agent_id, wait, said = None, 0, ""
    while not leaving.wait(wait):
        wait = 1
        try:
            if agent_id is None:
                status, answer = call("/agents/register", registration)
                if status in (200, 201):
                    agent_id, wait = answer["agent_id"], answer["heartbeat_interval_seconds"]
                    registration["agent_id"] = agent_id
            else:
                status, answer = call(f"/agents/{agent_id}/heartbeat", {"running": list(running)})
                agent_id, wait = None if status == 404 else agent_id, answer.get("next_interval_seconds", wait)
            say = f"registered as {agent_id}" if status < 400 else f"{status} {answer.get('error')}"
        except (OSError, ValueError) as error:
            say = f"no answer from {SWITCHYARD_URL}: {error}"
        if say != said:
            print(f"{NAME}: {say}", flush=True)
            said = say
    if agent_id:
        try:
            call(f"/agents/{agent_id}/heartbeat", {"status": "draining", "running": list(running)})
            with changed:
                changed.wait_for(lambda: not running, DRAIN_SECONDS)
            call(f"/agents/{agent_id}/unregister", {})
        except OSError:
            pass  # it is gone as well; our silence tells it


if __name__ == "__main__":
    for name in (signal.SIGTERM, signal.SIGINT):
        # From a thread: the main one may be just inside the event, whose lock is not reentrant.
        signal.signal(name, lambda *_: threading.Thread(target=leaving.set).start())
    server = Server((HOST, PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    live(server.server_address[1])
