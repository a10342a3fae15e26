"""The client's schedules: put, read, list, pause, let go on, delete. All of it may be repeated at will."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Optional

from .calls import Calls, members, part
from .shapes import Schedule, ScheduleDeleted


class Schedules:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def put(
        self,
        schedule_id: str,
        task: Dict[str, Any],
        *,
        cron: Optional[str] = None,
        tz: Optional[str] = None,
        every_seconds: Optional[float] = None,
        catch_up_seconds: Optional[float] = None,
        paused: Optional[bool] = None,
    ) -> Schedule:
        """Makes a schedule, or changes the one of this id. Put again as it is, the time of its next run stays.

        ``task`` is what to submit, as the API takes it: ``{"agent_type": …, "task_type": …, "parameters": …}``.
        """
        body = members(cron=cron, tz=tz, every_seconds=every_seconds, catch_up_seconds=catch_up_seconds, paused=paused, task=task)
        schedule: Schedule = self._calls.json("PUT", f"/schedules/{part(schedule_id)}", body, again=True)
        return schedule

    def get(self, schedule_id: str) -> Schedule:
        schedule: Schedule = self._calls.json("GET", f"/schedules/{part(schedule_id)}")
        return schedule

    def list(self, *, agent_type: Optional[str] = None, page_size: int = 50) -> Iterator[Schedule]:
        """All schedules that match, by id; pages are fetched as they are come to."""
        return self._calls.pages("/schedules", "schedules", members(agent_type=agent_type), page_size)

    def delete(self, schedule_id: str) -> ScheduleDeleted:
        """No further task comes of it; those submitted go on."""
        deleted: ScheduleDeleted = self._calls.json("DELETE", f"/schedules/{part(schedule_id)}", again=True)
        return deleted

    def pause(self, schedule_id: str) -> Schedule:
        """What comes due meanwhile is neither made up for nor missed."""
        schedule: Schedule = self._calls.json("POST", f"/schedules/{part(schedule_id)}/pause", {}, again=True)
        return schedule

    def resume(self, schedule_id: str) -> Schedule:
        """As if it were put anew."""
        schedule: Schedule = self._calls.json("POST", f"/schedules/{part(schedule_id)}/resume", {}, again=True)
        return schedule
