"""The client's dead letters: tasks that failed or timed out, until they are retried."""

from __future__ import annotations

from typing import Iterator, Optional

from .calls import Calls, members
from .shapes import DeadLettersRetried, DeadLetterSummary, Task


class DeadLetters:
    """``error`` matches anywhere in a task's error; a-z and A-Z are the same."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def list(self, *, agent_type: Optional[str] = None, task_type: Optional[str] = None, error: Optional[str] = None, include_retried: bool = False, page_size: int = 50) -> Iterator[Task]:
        """All that match, newest first; pages are fetched as they are come to."""
        query = members(agent_type=agent_type, task_type=task_type, error=error, include_retried=True if include_retried else None)
        return self._calls.pages("/dead-letters", "tasks", query, page_size)

    def summary(self, *, agent_type: Optional[str] = None, task_type: Optional[str] = None, error: Optional[str] = None, include_retried: bool = False) -> DeadLetterSummary:
        """How many there are, by type and kind of error."""
        query = members(agent_type=agent_type, task_type=task_type, error=error, include_retried=True if include_retried else None)
        summary: DeadLetterSummary = self._calls.json("GET", "/dead-letters/summary", query=query)
        return summary

    def retry(self, *, agent_type: Optional[str] = None, task_type: Optional[str] = None, error: Optional[str] = None, limit: Optional[int] = None, cursor: Optional[str] = None) -> DeadLettersRetried:
        """Retries those that match, each as a new task, at most 1,000 a call: again with ``cursor=next_cursor`` while it says ``more``.

        May be repeated at will. It is sent again when the connection broke, and then does not tell of those that the lost answer told of.
        """
        which = members(agent_type=agent_type, task_type=task_type, error=error, limit=limit, cursor=cursor)
        retried: DeadLettersRetried = self._calls.json("POST", "/dead-letters/retry", which, again=True)
        return retried
