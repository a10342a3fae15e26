"""One HTTP exchange with Switchyard, under a deadline. Nothing here repeats anything."""

from __future__ import annotations

import base64
import http.client
import io
import ipaddress
import json
import socket
import time
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional, Tuple, Union
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from .version import __version__

USER_AGENT = f"switchyard-python/{__version__}"
CHUNK = 64 * 1024
#: Of a stream of events.
MAX_LINE = 4 * 1024 * 1024


class Target(NamedTuple):
    """Where Switchyard is. ``path`` is what stands before each route's, and does not end in a slash."""

    scheme: str
    host: str
    port: int
    path: str
    api_key: Optional[str]

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


class Reply(NamedTuple):
    status: int
    headers: Dict[str, str]
    body: bytes

    def json(self) -> Any:
        """None when the body is no JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def words(self) -> str:
        """Of one that is no success."""
        answer = self.json()
        error = answer.get("error") if isinstance(answer, dict) else None
        return f"{self.status} {error}" if isinstance(error, str) else f"it answered {self.status}"


class Unreachable(OSError):
    """There was no answer. ``sent`` is False when the request cannot have been begun: no connection was made."""

    def __init__(self, words: str, sent: bool) -> None:
        super().__init__(words)
        self.sent = sent


def parse_url(url: str, api_key: Optional[str]) -> Target:
    """Raises ValueError."""
    parts = urlsplit(url.strip())
    port = parts.port  # a ValueError when it is none
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"the url of Switchyard (SWITCHYARD_URL) must be like http://host:8080; it is {url!r}")
    if parts.username is not None:
        raise ValueError("the url of Switchyard must hold no user; a key goes into SWITCHYARD_API_KEY")
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise ValueError("the API key (SWITCHYARD_API_KEY) holds characters that no key has")
    return Target(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), parts.path.rstrip("/"), api_key)


#: A body, or what makes one of the local address of the connection; bytes are JSON already.
Body = Union[None, bytes, Dict[str, Any], Callable[[str], Dict[str, Any]]]


def exchange(target: Target, method: str, path: str, body: Body = None, *, timeout: float, max_bytes: int, headers: Optional[Dict[str, str]] = None) -> Reply:
    """One request and its answer; redirects are not followed. Raises Unreachable."""
    with _asked(target, method, path, body, timeout, time.monotonic() + timeout, headers) as response:
        return Reply(response.status, _headers(response), _read(response, max_bytes))


@contextmanager
def stream(target: Target, path: str, *, timeout: float, headers: Dict[str, str]) -> Iterator[Tuple[Reply, Iterator[bytes]]]:
    """The head of an answer that goes on, and its lines as they come; each is waited for ``timeout`` at most. Reading raises Unreachable."""
    with _asked(target, "GET", path, None, timeout, None, headers) as response:
        if response.status != 200:
            yield Reply(response.status, _headers(response), _read(response, MAX_LINE)), iter(())
            return
        yield Reply(response.status, _headers(response), b""), _lines(response)


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while True:
            line = response.readline(MAX_LINE)
            if not line:
                return
            yield line.rstrip(b"\r\n")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Unreachable(words_of(error), True) from error


def _headers(response: http.client.HTTPResponse) -> Dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}


@contextmanager
def _asked(target: Target, method: str, path: str, body: Body, timeout: float, deadline: Optional[float], headers: Optional[Dict[str, str]]) -> Iterator[http.client.HTTPResponse]:
    """A request that was sent and the head of its answer. With a deadline all of the answer is read until then. Raises Unreachable."""
    connection, prefix, extra = _connection(target, timeout)
    if deadline is not None:
        connection.response_class = _timed(deadline)  # type: ignore[assignment]
    sent = False
    try:
        connection.connect()
        # The answer to a small request is waited for, so nothing is gained by holding it back.
        sock = connection.sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        value = body(_address(sock.getsockname()[0])) if callable(body) else body
        data = value if value is None or isinstance(value, bytes) else json.dumps(value, allow_nan=False).encode()
        all_headers = {"Accept": "application/json", "User-Agent": USER_AGENT, "Connection": "close", **extra, **(headers or {})}
        if data is not None:
            all_headers["Content-Type"] = "application/json"
        if target.api_key:
            all_headers["Authorization"] = f"Bearer {target.api_key}"
        sent = True
        connection.request(method, prefix + target.path + path, data, all_headers)
        yield connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, Unreachable):
            raise
        raise Unreachable(words_of(error), sent) from error
    finally:
        connection.close()


class _Timed(io.RawIOBase):
    """What comes over a socket until a deadline, in however small pieces."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, deadline: float) -> None:
        self._sock, self._raw, self._deadline = sock, raw, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> Optional[int]:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("the answer was not finished in time")
        self._sock.settimeout(left)
        return self._raw.readinto(into)  # type: ignore[attr-defined, no-any-return]

    def close(self) -> None:
        self._raw.close()
        super().close()


def _timed(deadline: float) -> Callable[..., http.client.HTTPResponse]:
    """Answers of which the head, too, is read until the deadline: http.client bounds each piece of it only."""

    def response(sock: socket.socket, *args: Any, **more: Any) -> http.client.HTTPResponse:
        made = http.client.HTTPResponse(sock, *args, **more)
        made.fp = io.BufferedReader(_Timed(sock, made.fp.detach(), deadline))  # type: ignore[attr-defined]
        return made

    return response


def _read(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    chunks, length = [], 0
    while not response.isclosed():  # some versions close it, and the socket, with the last byte
        chunk = response.read1(CHUNK)
        if not chunk:
            break
        chunks.append(chunk)
        length += len(chunk)
        if length > max_bytes:
            raise OSError(f"the answer is larger than {max_bytes} bytes")
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(chunks)


def _connection(target: Target, timeout: float) -> Tuple[http.client.HTTPConnection, str, Dict[str, str]]:
    """A connection to be made, what stands before the path, and headers for a proxy."""
    proxy = None if is_loopback(target.host) or proxy_bypass(f"{target.host}:{target.port}") else getproxies().get(target.scheme)
    if not proxy:
        if target.scheme == "https":
            return http.client.HTTPSConnection(target.host, target.port, timeout=timeout, context=_tls()), "", {}
        return http.client.HTTPConnection(target.host, target.port, timeout=timeout), "", {}
    at = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    pass_on = {}
    if at.username is not None:
        pair = f"{unquote(at.username)}:{unquote(at.password or '')}"
        pass_on["Proxy-Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    host, port = at.hostname or "", at.port or 80
    if target.scheme == "https":
        tunnel = http.client.HTTPSConnection(host, port, timeout=timeout, context=_tls())
        tunnel.set_tunnel(target.host, target.port, pass_on)
        return tunnel, "", {}
    return http.client.HTTPConnection(host, port, timeout=timeout), target._replace(path="").url, pass_on


def _tls() -> Any:
    import ssl  # not every Python has it, and few need it here

    return ssl.create_default_context()


def is_loopback(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _address(local: str) -> str:
    """A local address as others can use it: an IPv4 one not in IPv6's clothes, and no zone."""
    return local[7:] if local.startswith("::ffff:") and "." in local else local.split("%")[0]


def words_of(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(error, socket.timeout):
        return str(error) if "answer" in str(error) else "no answer in time"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    if isinstance(error, http.client.HTTPException):
        return f"the answer is not whole, or not HTTP ({type(error).__name__})"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
