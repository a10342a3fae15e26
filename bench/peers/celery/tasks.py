"""The task of the bench: a POST to the agent. Env: REDIS_URL, AGENT_URL."""
import os

import requests
from celery import Celery

redis_url = os.environ["REDIS_URL"]
app = Celery("bench", broker=f"{redis_url}/0", backend=f"{redis_url}/1")
app.conf.task_acks_late = True

# One connection a process, which is kept: a bare requests.post would make one for each task.
session = requests.Session()
url = os.environ["AGENT_URL"] + "/task"


@app.task(bind=True, name="echo")
def echo(self, task):
    answer = session.post(url, json={"task_id": self.request.id, **task}, timeout=30)
    answer.raise_for_status()
    return answer.json()["result"]
