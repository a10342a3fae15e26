"""HTTP/1.1 as far as an agent needs it: requests read from a stream under bounds, answers written to it."""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

from .answer import Answer

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 2 * 1024 * 1024
#: For a whole request, once its first byte has come.
REQUEST_SECONDS = 10.0
#: Between requests. Switchyard lets go of a connection after 1.5 s; a client of another kind may keep it longer.
IDLE_SECONDS = 60.0
#: For an answer to be taken.
ANSWER_SECONDS = 10.0

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Request(NamedTuple):
    method: str
    path: str
    #: Names in lower case; of several of one name, the last, but for lengths, which may not differ.
    headers: Dict[str, str]
    body: bytes
    keep_alive: bool


class Refused(Exception):
    """A request that could not be read to its end: after the answer the connection is closed."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


class Reader(asyncio.StreamReader):
    """A StreamReader that says at once when the other side has closed, also while nobody reads."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=MAX_HEAD_BYTES, loop=loop)
        self.gone = False
        self.when_gone: Optional[Callable[[], None]] = None

    def feed_eof(self) -> None:
        super().feed_eof()
        self._left()

    def set_exception(self, exc: BaseException) -> None:
        super().set_exception(exc)  # type: ignore[arg-type]
        self._left()

    def _left(self) -> None:
        self.gone = True
        if self.when_gone is not None:
            self.when_gone()


async def read_request(reader: Reader, writer: asyncio.StreamWriter) -> Optional[Request]:
    """The next request, or None when the other side has closed or said nothing for long. Raises Refused."""
    try:
        first = await asyncio.wait_for(reader.readexactly(1), IDLE_SECONDS)
    except (asyncio.IncompleteReadError, asyncio.TimeoutError):
        return None
    try:
        return await asyncio.wait_for(_rest(first, reader, writer), REQUEST_SECONDS)
    except asyncio.TimeoutError:
        raise Refused(408, f"the request did not arrive within {REQUEST_SECONDS:g} s") from None
    except asyncio.IncompleteReadError:
        return None


async def _rest(first: bytes, reader: Reader, writer: asyncio.StreamWriter) -> Request:
    try:
        while first in (b"\r", b"\n"):  # empty lines before a request are to be skipped
            first = await reader.readexactly(1)
        head = first + await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise Refused(431, f"the request line and the headers are larger than {MAX_HEAD_BYTES} bytes") from None
    method, path, version, headers = parse_head(head)
    connection = [word.strip().lower() for word in headers.get("connection", "").split(",")]
    keep_alive = "close" not in connection and (version == "HTTP/1.1" or "keep-alive" in connection)
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "the body must not be compressed")
    if headers.get("expect", "").lower() == "100-continue" and int(headers.get("content-length", "0")) <= MAX_BODY_BYTES:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return Request(method, path, headers, await _body(reader, headers), keep_alive)


def parse_head(head: bytes) -> Tuple[str, str, str, Dict[str, str]]:
    """Method, path, version and headers. Raises Refused."""
    lines = head.decode("latin-1")[:-4].split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not TOKEN.fullmatch(words[0]) or not words[1] or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise Refused(400, "this is no HTTP/1.1 request")
    headers: Dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        # Of a bare line end or a second length another server might make another request than we do.
        if not colon or not TOKEN.fullmatch(name) or "\n" in value or "\r" in value or "\0" in value:
            raise Refused(400, "a header is malformed")
        if name in ("content-length", "transfer-encoding") and headers.get(name, value) != value:
            raise Refused(400, f"{name} is given twice")
        headers[name] = value
    length = headers.get("content-length")
    if length is not None and (not (length.isascii() and length.isdigit()) or len(length) > 15 or "transfer-encoding" in headers):
        raise Refused(400, "Content-Length is malformed, or beside a Transfer-Encoding")
    return words[0], words[1], words[2], headers


async def _body(reader: Reader, headers: Dict[str, str]) -> bytes:
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if coding.lower() != "chunked":
            raise Refused(501, "of the transfer encodings only chunked is known")
        return await _chunks(reader)
    length = int(headers.get("content-length", "0"))
    if length > MAX_BODY_BYTES:
        raise Refused(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    return await reader.readexactly(length)


async def _chunks(reader: Reader) -> bytes:
    chunks: List[bytes] = []
    total = 0
    while True:
        size_text = (await _line(reader)).split(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size_text):
            raise Refused(400, "a chunk's size is malformed")
        size = int(size_text, 16)
        total += size
        if total > MAX_BODY_BYTES:
            raise Refused(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        if size == 0:
            break
        chunks.append(await reader.readexactly(size))
        if await reader.readexactly(2) != b"\r\n":
            raise Refused(400, "a chunk is longer than it says")
    for _ in range(100):  # trailers, which tell nothing
        if not await _line(reader):
            return b"".join(chunks)
    raise Refused(431, "too many trailers")


async def _line(reader: Reader) -> bytes:
    try:
        return (await reader.readuntil(b"\r\n"))[:-2]
    except asyncio.LimitOverrunError:
        raise Refused(400, "a line of a chunked body is too long") from None


async def write_answer(writer: asyncio.StreamWriter, given: Answer, *, keep_alive: bool, head_only: bool = False) -> None:
    """Raises OSError (asyncio.TimeoutError is none in old Pythons) when it is not taken."""
    lines = [f"HTTP/1.1 {given.status} {phrase(given.status)}", "Content-Type: application/json", f"Content-Length: {len(given.body)}"]
    lines += [f"{name}: {value}" for name, value in given.headers]
    lines.append(f"Connection: {'keep-alive' if keep_alive else 'close'}")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    writer.write(head if head_only else head + given.body)
    await asyncio.wait_for(writer.drain(), ANSWER_SECONDS)


def phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"
