"""The agent's server: one thread with an event loop holds every connection, so that a full agent still answers 429 and its health."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
from typing import Any, Callable, Dict, List, Optional, Sequence
from urllib.parse import unquote

from . import answer, delivery, http1
from .answer import Answer
from .attempt import Attempt
from .trust import Trust
from .work import Work

#: Beside those of the attempts: idle ones, health checks, and those that are told 429.
SPARE_CONNECTIONS = 128
#: After a refusal, what was still being sent is read away for so long: else the refusal itself would be lost.
LINGER_SECONDS = 1.0
LINGER_BYTES = 16 * 1024 * 1024
#: For answers on their way when the server closes.
CLOSE_SECONDS = 2.0
#: How long a task that has timed out is left for the router to hang up on.
TIMEOUT_ANSWER_SECONDS = 0.5

Health = Callable[[], Dict[str, Any]]


class Connection:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.busy = False


class Server:
    def __init__(self, work: Work, trust: Trust, health: Health, ready: Callable[[], bool], max_concurrency: int, logger: logging.Logger, later_after: Optional[float] = None) -> None:
        self._later_after = later_after
        self._work = work
        self._trust = trust
        self._health = health
        self._ready = ready
        self._max_connections = max_concurrency + SPARE_CONNECTIONS
        self._logger = logger
        self._loop = asyncio.new_event_loop()
        self._connections: Dict[Connection, "asyncio.Task[None]"] = {}
        self._listening: List[asyncio.AbstractServer] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="switchyard-server", daemon=True)

    def start(self, sockets: Sequence[socket.socket]) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(sockets), self._loop).result()

    async def _listen(self, sockets: Sequence[socket.socket]) -> None:
        def protocol() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(http1.Reader(self._loop), self._connected, loop=self._loop)

        self._listening = [await self._loop.create_server(protocol, sock=sock, backlog=256) for sock in sockets]

    def close(self) -> None:
        """Stops listening, lets answers on their way be sent, and ends the thread."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        for listening in self._listening:
            listening.close()
        busy = [task for connection, task in self._connections.items() if connection.busy]
        if busy:
            await asyncio.wait(busy, timeout=CLOSE_SECONDS)
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, http1.Reader)
        connection = Connection(writer)
        task = asyncio.current_task()
        assert task is not None
        self._connections[connection] = task
        try:
            if len(self._connections) > self._max_connections and not self._make_room(connection):
                await http1.write_answer(writer, answer.refused(503, "this agent has too many connections", Retry_After="1"), keep_alive=False)
                return
            await self._serve(connection, reader, writer)
        except (OSError, asyncio.TimeoutError, asyncio.CancelledError):
            pass  # the other side has gone, or we leave
        except Exception:
            self._logger.exception("a connection failed")
        finally:
            del self._connections[connection]
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()  # of an answer that nobody takes
            else:
                writer.close()

    def _make_room(self, newest: Connection) -> bool:
        """Closes, if need be, the oldest connection on which no whole request has come yet."""
        # Those that were closed are still among them, until their task has noticed.
        open_ones = [one for one in self._connections if not one.writer.transport.is_closing()]
        if len(open_ones) <= self._max_connections:
            return True
        idle = next((one for one in open_ones if not one.busy and one is not newest), None)
        if idle is None:
            return False
        idle.writer.transport.abort()
        return True

    async def _serve(self, connection: Connection, reader: http1.Reader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                request = await http1.read_request(reader, writer)
            except http1.Refused as refusal:
                await http1.write_answer(writer, answer.refused(refusal.status, refusal.error), keep_alive=False)
                return await self._linger(reader, writer)
            if request is None:
                return
            connection.busy = True
            given = await self._answer(request, reader)
            keep_alive = request.keep_alive and not self._work.leaving
            await http1.write_answer(writer, given, keep_alive=keep_alive, head_only=request.method == "HEAD")
            if not keep_alive:
                return
            connection.busy = False

    async def _linger(self, reader: http1.Reader, writer: asyncio.StreamWriter) -> None:
        if writer.can_write_eof():
            writer.write_eof()

        async def read_away() -> None:
            left = LINGER_BYTES
            while left > 0:
                chunk = await reader.read(65536)
                if not chunk:
                    return
                left -= len(chunk)

        await asyncio.wait_for(read_away(), LINGER_SECONDS)

    async def _answer(self, request: http1.Request, reader: http1.Reader) -> Answer:
        path = request.path.split("?")[0]
        if path == "/task":
            return await self._task(request, reader) if request.method == "POST" else not_allowed("POST")
        if path.startswith("/task/") and len(path) > 6:
            return self._cancel(request, path[6:]) if request.method == "DELETE" else not_allowed("DELETE")
        shown = self._shown(path)
        if shown is None:
            return answer.refused(404, "there is nothing here: POST /task, DELETE /task/{id}, GET /health, /health/live and /health/ready are all there is")
        return shown if request.method in ("GET", "HEAD") else not_allowed("GET, HEAD")

    def _shown(self, path: str) -> Optional[Answer]:
        if path == "/health":
            return answer.of(200, self._health())
        if path == "/health/live":
            return answer.of(200, {"status": "live"})
        if path == "/health/ready":
            return answer.of(200, {"status": "ready"}) if self._ready() else answer.of(503, {"status": "not ready"}, Retry_After="1")
        return None

    def _cancel(self, request: http1.Request, task_id: str) -> Answer:
        task_id = unquote(task_id)
        # Here it is the attempt's id; in a delivery it counts them.
        attempt_id = request.headers.get("switchyard-attempt")
        signed_as = f"stop_{task_id if attempt_id is None else attempt_id}"
        refused = self._trust.refusal(request.headers, request.body, lambda webhook_id: webhook_id == signed_as)
        if refused:
            return refused
        count = self._work.abort_task(task_id, attempt_id)
        return answer.of(200, {"task_id": task_id, "status": "cancelled"}) if count else answer.refused(404, "this agent runs nothing of that task")

    async def _task(self, request: http1.Request, reader: http1.Reader) -> Answer:
        refused = self._trust.refusal(request.headers, request.body, lambda webhook_id: webhook_id.startswith("task_"))
        if refused:
            return refused
        task = delivery.read(request.body)
        if isinstance(task, Answer):
            return task
        taken = self._work.take(task, request.headers.get("traceparent"))
        return taken if isinstance(taken, Answer) else await self._outcome(taken, reader)

    async def _outcome(self, attempt: Attempt, reader: http1.Reader) -> Answer:
        """The attempt's answer, for as long as this connection is open and the attempt has time."""
        told: "asyncio.Future[Answer]" = self._loop.create_future()

        def resolve(given: Answer) -> None:
            if not told.done():
                told.set_result(given)

        def tell(given: Answer) -> None:
            self._loop.call_soon_threadsafe(resolve, given)

        def leave() -> None:
            attempt.unlisten(tell)
            told.cancel()

        attempt.listen(tell)
        reader.when_gone = leave
        if reader.gone:
            leave()
        watch = Watch(self._loop, attempt)
        later = None if self._later_after is None else self._loop.call_later(self._later_after, attempt.later)
        try:
            given = await told
            if attempt.context.reason == "timeout" and not attempt.is_later:
                # It is for the router to say that a task has timed out; who has not hung up by then is answered.
                await asyncio.sleep(TIMEOUT_ANSWER_SECONDS)
            return given
        finally:
            reader.when_gone = None
            if later is not None:
                later.cancel()
            if attempt.is_later:
                attempt.when_over(watch.end_soon)
            else:
                watch.end()


class Watch:
    """Aborts an attempt when its time is over, which may have been moved meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop, attempt: Attempt) -> None:
        self._loop = loop
        self._attempt = attempt
        self._timer: Optional[asyncio.TimerHandle] = None
        self._look()

    def _look(self) -> None:
        remaining = self._attempt.context.remaining
        if remaining is None:
            return
        if remaining > 0:
            self._timer = self._loop.call_later(remaining, self._look)
        else:
            self._attempt.abort("timeout")

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def end_soon(self) -> None:
        """From any thread."""
        try:
            self._loop.call_soon_threadsafe(self.end)
        except RuntimeError:
            pass  # the server has ended, and its timers with it


def not_allowed(allow: str) -> Answer:
    return answer.refused(405, f"use {allow} here", Allow=allow)


def listen(bind: Sequence[str], port: int) -> List[socket.socket]:
    """Sockets at one port: of the addresses named, those that this machine has; an empty one means every interface. Raises OSError."""
    sockets: List[socket.socket] = []
    for address in bind:
        try:
            sockets.append(_listen_at(address, sockets[0].getsockname()[1] if sockets else port))
        except OSError as error:
            # A machine without IPv6 has no ::1, and one where that port is taken at ::1 only is still reached at 127.0.0.1.
            if not sockets or error.errno == errno.EMFILE:
                for sock in sockets:
                    sock.close()
                raise
    return sockets


def _listen_at(address: str, port: int) -> socket.socket:
    if address == "":
        if socket.has_dualstack_ipv6():
            try:
                return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=256)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise
        return socket.create_server(("0.0.0.0", port), backlog=256)
    family, _, _, _, at = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(at[:2], family=family, backlog=256)
