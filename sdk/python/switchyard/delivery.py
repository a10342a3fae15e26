"""A delivery as it comes: is it a task at all, and what is wrong with it if not."""

from __future__ import annotations

import json
import math
from typing import Any, Callable, Dict, Tuple, Union

from .answer import Answer, refused


def _text(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 512


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _seconds(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 10**9


def _object(value: Any) -> bool:
    return isinstance(value, dict)


#: A member, whether a task may lack it, what must hold of it, and that in words. Others may stand beside these.
MEMBERS: Tuple[Tuple[str, bool, Callable[[Any], bool], str], ...] = (
    ("task_id", False, _text, "a string"),
    ("task_type", False, _text, "a string"),
    ("parameters", False, _object, "an object"),
    ("attempt_id", True, _text, "a string"),
    ("attempt", True, _count, "a whole number"),
    ("timeout_seconds", True, _seconds, "a number above 0"),
    ("metadata", True, _object, "an object"),
)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _number(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_constant(text)


def read(body: bytes) -> Union[Dict[str, Any], Answer]:
    """The task, or the answer that refuses it."""
    try:
        task = json.loads(body.decode(), parse_constant=_no_constant, parse_float=_number)
    except (ValueError, RecursionError):
        return refused(400, "the body is no JSON in UTF-8")
    if not isinstance(task, dict):
        return refused(400, "the body must be a JSON object: a task")
    # null is what some serialisers write for a member that was left out.
    task = {name: value for name, value in task.items() if value is not None}
    for name, optional, holds, words in MEMBERS:
        if name not in task and optional:
            continue
        if name not in task or not holds(task[name]):
            return refused(422, f"{name} must be {words}")
    return task
