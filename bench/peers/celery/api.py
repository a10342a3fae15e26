"""The HTTP API in front of Celery: submit a task, read one, and how many results there are. Env: as tasks.py."""
from celery.result import AsyncResult
from flask import Flask, jsonify, request

from tasks import app as celery
from tasks import echo

app = Flask(__name__)
app.json.sort_keys = False


@app.post("/tasks")
def submit():
    body = request.get_json()
    result = echo.delay({"task_type": body["task_type"], "parameters": body["parameters"]})
    return jsonify(task_id=result.id, status="queued"), 201


@app.get("/tasks/<task_id>")
def read(task_id):
    result = AsyncResult(task_id, app=celery)
    return jsonify(status=result.status, result=result.result)


@app.get("/done")
def done():
    # Results have a database of their own.
    return str(celery.backend.client.dbsize())
