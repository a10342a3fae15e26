"""Watching: server-sent events, read on from where they broke off until there are no more."""

from __future__ import annotations

import json
import random
import time
from typing import Callable, Dict, Iterator, Optional
from urllib.parse import urlencode

from .calls import Calls
from .errors import ConnectionFailed, SwitchyardError, error_of
from .shapes import TaskEvent
from .wire import Unreachable, stream

#: A Switchyard that is away for so long is given up.
LONGEST_OUTAGE = 30.0
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
#: Switchyard is never silent for more than a third of that.
SILENCE = 45.0


def watch(calls: Calls, path: str, query: Dict[str, str], last_event_id: Optional[str], is_last: Callable[[TaskEvent], bool]) -> Iterator[TaskEvent]:
    """Events as they happen, without a gap or a repeat. Closing the generator lets the connection go."""
    full = f"{path}?{urlencode(query)}" if query else path
    last, heard, pause = last_event_id, time.monotonic(), FIRST_PAUSE
    while True:
        error: SwitchyardError
        try:
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
            with stream(calls.target, full, timeout=SILENCE, headers=headers) as (reply, lines):
                if reply.status == 204:
                    return
                if reply.status != 200:
                    raise error_of(reply, f"GET {path}")
                event_id: Optional[str] = None
                for line in lines:
                    heard = time.monotonic()
                    if line.startswith(b"id: "):
                        event_id = line[4:].decode()
                    elif line.startswith(b"data: "):
                        event: TaskEvent = json.loads(line[6:])
                        last, event_id, pause = event_id or last, None, FIRST_PAUSE
                        yield event
                        if event["type"] != "gap" and is_last(event):
                            return
            error = ConnectionFailed(f"Switchyard at {calls.target.url} ended the stream", True)
        except Unreachable as unreachable:
            error = ConnectionFailed(f"no answer from Switchyard at {calls.target.url}: {unreachable}", unreachable.sent)
        except SwitchyardError as refused:
            if refused.status not in (429, 503):
                raise
            error = refused
        if time.monotonic() - heard > LONGEST_OUTAGE:
            raise error
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(pause * 2, LONGEST_PAUSE)
