/** The Python SDK's client, its package, and its agents at a real router. */
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { PROBLEMS } from '../src/api/problem.ts'
import { createOperations } from '../src/api/operations.ts'
import { tempFolder, until } from './processes.ts'
import { SDK, asked, environment, python, start, startAgent, version } from './sdk-python.ts'
import { standIn } from './stand-in.ts'
import { startSystem } from './system.ts'

describe.skipIf(version.status !== 0).concurrent('the Python SDK', { timeout: 60_000 }, () => {
  // --- the client ----------------------------------------------------------------------------------------------------------

  test('the client repeats only what does no harm, waits as long as it is told to, and gives up', async () => {
    const plan: Record<string, unknown[]> = {
      'GET /tasks/lost': [undefined, { code: 503, headers: { 'retry-after': '0' } }, { cut: true }, { task_id: 'lost' }],
      'POST /tasks?lost': [undefined, { cut: true }, { code: 201, status: 'queued', task_id: 'taken', agent_id: null, created_at: '', status_url: '' }],
      'POST /tasks?busy': [{ code: 503, headers: { 'retry-after': '0.05' } }, { code: 429, headers: { 'retry-after': '0' } }, { code: 201, status: 'queued', task_id: 'b', agent_id: null, created_at: '', status_url: '' }],
    }
    await using router = await standIn((path, body, req) => {
      const key = `${req.method} ${path}${body?.task_type ? `?${body.task_type}` : ''}`
      if (key === 'POST /tasks?long') return { code: 503, headers: { 'retry-after': '60' }, type: '/docs/errors#store-unavailable', detail: 'away' }
      if (key === 'POST /tasks?nobody') return { code: 503, headers: { 'retry-after': '0' }, type: '/docs/errors#no-agent', detail: 'nobody' }
      if (key === 'POST /tasks?wrong') return { code: 422, type: '/docs/errors#invalid-request', title: 'T', detail: 'D', errors: [{ pointer: '/a', detail: 'b' }], also: 1 }
      if (key === 'DELETE /tasks/lost') return undefined
      if (key === 'GET /tasks/new') return { code: 418, type: '/docs/errors#brand-new', detail: 'what is that' }
      if (key === 'GET /tasks/page') return { text: '<html>' }
      return plan[key]?.length === 1 ? plan[key][0] : plan[key]?.shift()
    })
    const outcome = await asked(
      `
import json, switchyard
from switchyard import *
client = Client(timeout=5)
def outcome(call):
    try:
        return call()
    except SwitchyardError as error:
        return [type(error).__name__, error.type, error.status, getattr(error, "sent", None), error.retry_after, str(error)[:100]]
def submit(what): return outcome(lambda: client.tasks.submit(what, agent_type="t").task_id)
wrong = None
try: client.tasks.submit("wrong", agent_type="t")
except InvalidRequest as error: wrong = [error.title, error.detail, error.errors, error.extra]
refused = Client("http://127.0.0.1:9", retries=1)
print(json.dumps([outcome(lambda: client.tasks.get("lost"))["task_id"], submit("busy"), submit("lost"), submit("long"), submit("nobody"), outcome(lambda: client.tasks.cancel("lost")),
  wrong, outcome(lambda: client.tasks.get("new")), outcome(lambda: client.tasks.get("page")), outcome(lambda: refused.tasks.get("x"))]))`,
      { SWITCHYARD_URL: router.url, http_proxy: 'http://127.0.0.1:9' },
    )
    expect(outcome).toEqual([
      'lost',
      'b',
      'taken',
      ['StoreUnavailable', 'store-unavailable', 503, null, 60, 'away'],
      ['NoAgent', 'no-agent', 503, null, 0, 'nobody'],
      ['ConnectionFailed', null, null, true, null, expect.any(String)],
      ['T', 'D', [{ pointer: '/a', detail: 'b' }], { also: 1 }],
      ['SwitchyardError', 'brand-new', 418, null, null, 'what is that'],
      ['SwitchyardError', null, 200, null, null, expect.stringContaining('no JSON')],
      ['ConnectionFailed', null, null, false, null, expect.stringContaining('refused')],
    ])
    const count = (what: string) => router.seen.filter((s) => s.body?.task_type === what).length
    expect([count('busy'), count('lost'), count('long'), count('nobody')]).toEqual([3, 3, 1, 1])
    // A submit carries a key of its own, the same each time.
    const keys = (what: string) => new Set(router.seen.filter((s) => s.body?.task_type === what).map((s) => s.headers['idempotency-key']))
    expect([keys('lost').size, keys('busy').size, new Set([...keys('lost'), ...keys('busy')]).size]).toEqual([1, 1, 2])
    expect(router.seen.find((s) => s.body?.task_type === 'lost')!.headers['idempotency-key-seconds']).toBe('160')
    expect(router.seen.every((s) => s.headers['user-agent']?.startsWith('switchyard-python/'))).toBe(true)
  })

  test('an answer that drips, or never comes, holds no call and no wait up beyond its time', async () => {
    const [dripped, waited] = await asked(`
import json, socket, threading, time
from switchyard import Client, ConnectionFailed, WaitTimeout
def serve(answer):
    listening = socket.create_server(("127.0.0.1", 0))
    def take():
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()
    threading.Thread(target=take, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}"
def drip(connection):
    connection.recv(65536)
    try:
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nX: ")
        for _ in range(200):
            connection.sendall(b"x")
            time.sleep(0.05)
    except OSError:
        pass
def took(expected, call):
    began = time.monotonic()
    try:
        call()
    except expected as error:
        return [time.monotonic() - began, str(error)]
print(json.dumps([took(ConnectionFailed, lambda: Client(serve(drip), timeout=0.5, retries=0).live()),
  took(WaitTimeout, lambda: Client(serve(lambda connection: time.sleep(60)), timeout=5).tasks.wait("t", timeout=0.2))]))`)
    expect(dripped).toEqual([expect.any(Number), expect.stringMatching(/ in time$/)])
    expect(dripped[0]).toBeLessThan(3)
    expect(waited[0]).toBeLessThan(4)
  })

  test('there is an error class for each problem type, and a method for each route', async () => {
    const classes = await asked(`import json; from switchyard.errors import CLASSES; import switchyard; print(json.dumps({k: [v.__name__, hasattr(switchyard, v.__name__)] for k, v in CLASSES.items()}))`)
    const pascal = (type: string): string => type.replace(/(?:^|-)(\w)/g, (_match, letter: string) => letter.toUpperCase())
    expect(classes).toEqual(Object.fromEntries(Object.keys(PROBLEMS).map((type) => [type, [pascal(type), true]])))

    await using router = await standIn((path) => path.includes('/events') ? 204 : ({ tasks: [], agents: [], schedules: [], keys: [], next_cursor: null, task_id: 't', status: 'queued', agent_id: null, created_at: '', status_url: '', dispatchers: 1 }))
    await using program = python(
      `
from switchyard import Client
c = Client()
c.tasks.submit("a", agent_type="b"); c.tasks.get("1"); c.tasks.explain("1"); list(c.tasks.list()); c.tasks.cancel("1"); c.tasks.retry("1"); c.tasks.result("1", "a"); c.tasks.redeliver("1"); c.tasks.progress("1", "a", percent=1); c.tasks.submit_batch([]); list(c.tasks.events("1")); list(c.events())
list(c.dead_letters.list(error="x")); c.dead_letters.summary(); c.dead_letters.retry(error="x", limit=5)
c.agents.register("n", "h", 1); c.agents.heartbeat("1"); c.agents.unregister("1"); c.agents.delete("1"); c.agents.rotate_secret("1"); c.agents.get("1"); list(c.agents.list()); list(c.agents.list_type("1")); c.agents.cleanup()
c.schedules.put("1", {}); c.schedules.get("1"); list(c.schedules.list()); c.schedules.delete("1"); c.schedules.pause("1"); c.schedules.resume("1")
c.keys.create("n", ["view"], namespace="acme"); c.keys.list(); c.keys.rotate("1"); c.keys.revoke("1")
c.health(); c.ready(); c.live(); c.metrics(); c.openapi()
for page in ("/", "/docs", "/docs/errors", "/queues"): c.page(page)`,
      { SWITCHYARD_URL: router.url },
    )
    const methods: string[] = []
    expect(await program.ended, program.output()).toBe(0)
    for (const s of router.seen) methods.push(s.path.split('?')[0]!.replace(/^\/(tasks|agents|schedules|keys)\/1/, '/$1/{id}').replace('/agents/type/1', '/agents/type/{type}'))
    expect(new Set(methods)).toEqual(new Set(Object.keys(createOperations(300)).map((route) => route.split(' ')[1])))
    expect(router.seen).toHaveLength(Object.keys(createOperations(300)).length)
    expect(router.seen.find((s) => s.path === '/keys' && s.body)!.body).toEqual({ name: 'n', roles: ['view'], namespace: 'acme' })
  })

  // --- with a real router --------------------------------------------------------------------------------------------------

  test('tasks go through a real router to an agent, and the client sees each to its end', async () => {
    await using system = await startSystem()
    await using agent = await startAgent({ AGENT_REGISTER: '1', SWITCHYARD_URL: system.url(), AGENT_NAME: 'odd-1', AGENT_ID: 'odd.1' })
    await agent.says('registered at')
    const seen = await asked(
      `
import json, time
from datetime import datetime, timedelta
from switchyard import *
client = Client()
def submit(what, parameters=None, **more): return client.tasks.submit(what, agent_type="test", parameters=parameters, max_retries=0, **more)
out = {}
out["echo"] = submit("echo", {"a": 1.5}, priority="high", metadata={"m": 1}).wait(10)
out["later"] = submit("later", {"b": 2}, run_at=datetime.now() + timedelta(seconds=0.1)).wait(10)
out["final"] = submit("raise", {"kind": "final", "message": "no"}).wait(10)
out["value"] = submit("raise", {"kind": "value"}).wait(10)
out["nan"] = client.tasks.submit("return", agent_type="test", parameters={"kind": "nan"}).wait(10)
out["timeout"] = submit("wait", timeout_seconds=0.3).wait(10)
handle = submit("wait", timeout_seconds=20)
try:
    handle.wait(0.3)
except WaitTimeout as error:
    out["unended"] = [isinstance(error, TimeoutError), error.task["task_id"] == handle.task_id]
while handle.get()["status"] != "sent": time.sleep(0.05)
handle.cancel()
out["cancelled"] = handle.wait(10)
out["events"] = [e["type"] for e in client.tasks.events(handle.task_id)]
first = next(client.tasks.events(handle.task_id))
out["rest"] = [e["type"] for e in client.tasks.events(handle.task_id, first["id"])]
out["none"] = list(client.tasks.events(handle.task_id, list(client.tasks.events(handle.task_id))[-1]["id"]))
out["all"] = next(client.events("test", first["id"]))["id"] > first["id"]
again = client.tasks.retry(out["value"]["task_id"])
out["again"] = [again.retry_of == out["value"]["task_id"], again.wait(10)["status"]]
def refused(call):
    try: call()
    except SwitchyardError as error: return [type(error).__name__, error.status, error.extra]
out["refused"] = [refused(lambda: handle.cancel()), refused(lambda: client.tasks.get("test.nothing")), refused(lambda: client.tasks.get("../agents")), refused(lambda: client.tasks.retry(out["value"]["task_id"])),
  refused(lambda: client.tasks.submit("echo", agent_type="nobody", require_agent=True)), refused(lambda: client.agents.register("m", "169.254.169.254", 80)), refused(lambda: client.agents.register("m", "127.0.0.1", 80, type="other", agent_id="odd.1"))]
for i in range(5): client.tasks.submit("never", agent_type="list")
keyed = [client.tasks.submit("never", agent_type="keys", idempotency_key="k").task_id for _ in range(2)]
batch = [client.tasks.submit_batch([{"task_type": "never", "agent_type": "keys", "idempotency_key": "k"}, {"task_type": "never", "agent_type": "keys", "run_at": datetime.now() + timedelta(days=1)}, {"task_type": "never"}]) for _ in range(2)]
out["batch"] = [keyed[0] == keyed[1] == batch[0]["tasks"][0]["task_id"], batch[1]["accepted"], batch[1]["refused"], batch[1]["tasks"][0]["replayed"], batch[1]["tasks"][1]["status"], batch[1]["tasks"][2]["error"]["errors"],
  len(list(client.tasks.list(agent_type="keys"))), refused(lambda: client.tasks.submit("other", agent_type="keys", idempotency_key="k"))]
pages = [t["task_id"] for t in client.tasks.list(agent_type="list", page_size=2)]
out["pages"] = [len(pages), len(set(pages))]
own = client.agents.register("by-hand", "127.0.0.1", 9999, type="other", capabilities=["x"], ttl_seconds=30, metadata={"a": 1})
beat = client.agents.heartbeat(own["agent_id"], status="degraded", running=[])
out["agents"] = [[a["name"] for a in client.agents.list(page_size=1)], [a["status"] for a in client.agents.list_type("other")], [a["name"] for a in client.agents.list(capability="echo", status="healthy")],
  client.agents.get("odd.1")["capabilities"][0], beat["received"], client.agents.unregister(own["agent_id"])["unregistered"], client.agents.delete(own["agent_id"])["unregistered"], client.agents.cleanup()]
out["health"] = [client.health()["status"], client.ready()["dispatchers"], client.live()["status"], client.openapi()["openapi"][:3], "switchyard" in client.metrics(), "<html" in client.page("/docs")]
print(json.dumps(out))`,
      { SWITCHYARD_URL: system.url() },
    )
    expect(seen.batch).toEqual([true, 2, 1, true, 'pending', [{ pointer: '/agent_type', detail: 'is required unless agent_id is given' }], 3, ['IdempotencyKeyReused', 422, { task_id: expect.stringMatching(/^keys\./) }]])
    expect(seen.echo).toMatchObject({ status: 'completed', result: { a: 1.5 }, priority: 10, metadata: { m: 1 }, agent_id: 'odd.1' })
    expect(seen.later).toMatchObject({ status: 'completed', result: { b: 2 } })
    expect(seen.final).toMatchObject({ status: 'failed', error: 'no', attempts: [{ outcome: 'rejected', status_code: 422 }] })
    expect(seen.value).toMatchObject({ status: 'failed', error: 'ValueError: on purpose', attempts: [{ outcome: 'failed', status_code: 500 }] })
    expect(seen.nan).toMatchObject({ status: 'failed', error: expect.stringContaining('the handler returns returned a value that is no JSON'), attempts: [{ outcome: 'rejected' }] })
    expect(seen.timeout.status).toBe('timeout')
    expect([seen.events, seen.rest, seen.none, seen.all]).toEqual([['task.queued', 'task.sent', 'task.cancelled'], ['task.sent', 'task.cancelled'], [], true])
    expect(seen.unended).toEqual([true, true])
    expect(seen.cancelled).toMatchObject({ status: 'cancelled' })
    expect(seen.again).toEqual([true, 'failed'])
    const problem = (name: string, status: number, extra: object = expect.any(Object)) => [name, status, extra]
    expect(seen.refused).toEqual([problem('TaskEnded', 409, { task_id: seen.cancelled.task_id, task_status: 'cancelled' }), problem('NotFound', 404), problem('NotFound', 404), problem('AlreadyRetried', 409), problem('NoAgent', 503), problem('HostNotAllowed', 403), problem('AgentTypeConflict', 409, { agent_type: 'test' })])
    expect(seen.pages).toEqual([5, 5])
    expect(seen.agents).toEqual([['by-hand', 'odd-1'], ['degraded'], ['odd-1'], 'echo', true, true, false, { removed: 0 }])
    expect(seen.health).toEqual(['ready', 1, 'live', '3.1', true, true])

    // Killed and started again under its id: a new instance, and it works.
    agent.child.kill('SIGKILL')
    await agent.ended
    await using next = await startAgent({ AGENT_REGISTER: '1', SWITCHYARD_URL: system.url(), AGENT_ID: 'odd.1' })
    await next.says('registered at')
    expect((await system.get('/agents/odd.1')).json.generation).toBe(2)
    expect(await system.ended(await system.submit({ task_type: 'echo', parameters: { c: 3 } }))).toMatchObject({ status: 'completed', result: { c: 3 } })
    next.child.kill('SIGTERM')
    expect(await next.ended).toBe(0)
    expect((await system.get('/agents/odd.1')).status).toBe(404)
  })

  test('every example of its README runs', async () => {
    await using system = await startSystem()
    await using folder = await tempFolder()
    const blocks = [...readFileSync(join(SDK, 'README.md'), 'utf8').matchAll(/```python\n([^]*?)```/g)].map((match) => match[1]!)
    expect(blocks).toHaveLength(5)
    const [cost, web, long, inside, client] = blocks.map((code) => () => python(code, { SWITCHYARD_URL: system.url() }))
    await using costs = cost!()
    await using titles = web!()
    await using sums = long!()
    await until(`all registered: ${costs.output()}${titles.output()}${sums.output()}`, async () => (await system.get('/agents')).json.count === 3)
    await using site = await standIn(() => ({ headers: { 'content-type': 'text/html' }, text: '<title>Hello</title>' }))
    const ended = async (task: object) => system.ended(await system.submit({ max_retries: 0, ...task }))
    expect(await ended({ agent_type: 'cost', task_type: 'analyze_cost', parameters: { items: [{ amount: 2 }, { amount: 0.5 }] } })).toMatchObject({ result: { total: 2.5 } })
    expect(await ended({ agent_type: 'cost', task_type: 'analyze_cost' })).toMatchObject({ status: 'failed', error: 'items must be a list that is not empty' })
    expect(await ended({ agent_type: 'web', task_type: 'title', parameters: { url: site.url } })).toMatchObject({ result: 'Hello' })
    expect(await ended({ agent_type: 'web', task_type: 'count_up', parameters: { to: 2 } })).toMatchObject({ result: 'done' })
    expect(await ended({ agent_type: 'web', task_type: 'count_down', parameters: { from: 1 } })).toMatchObject({ result: 'done' })
    expect(await ended({ agent_type: 'counting', task_type: 'sum', parameters: { to: 1_000_001 } })).toMatchObject({ result: 500_001_500_001, progress: { message: 'at 1000000' } })
    await using embedded = inside!()
    expect(await embedded.ended, embedded.output()).toBe(0)
    expect(embedded.output()).toMatch(/^True \d+ [0-9a-f-]{36}$/m)
    // The client's asks for what the one before greets: that one, kept up.
    writeFileSync(join(folder.path, 'greeter.py'), blocks[3]!.replace('agent.stop()', 'import time; time.sleep(60)'))
    await using greeter = start([join(folder.path, 'greeter.py')], { cwd: folder.path, env: { ...environment, PYTHONPATH: SDK, SWITCHYARD_URL: system.url() } })
    await until('it registered', () => /^True/m.test(greeter.output()))
    await using program = client!()
    expect(await program.ended, program.output()).toBe(0)
    expect(program.output()).toMatch(/^completed Hello, Ada! None\n[^\n]*nobody[^\n]*\ngreeting\.\S+ Hello, Ada!\n\d{4}-\S+:30:00\.000Z\n$/)
  })

  // --- the package ---------------------------------------------------------------------------------------------------------

  test('a wheel is built and works outside the repository', async () => {
    await using folder = await tempFolder()
    // From a copy, as a build may leave things behind; and without a network.
    cpSync(SDK, join(folder.path, 'source'), { recursive: true, filter: (path) => !path.includes('__pycache__') })
    const done = async (args: string[], env: Record<string, string> = {}): Promise<string> => {
      await using program = start(args, { cwd: folder.path, env: { ...environment, ...env } })
      expect(await program.ended, program.output()).toBe(0)
      return program.output()
    }
    const pip = (...args: string[]) => done(['-m', 'pip', '--disable-pip-version-check', '--no-cache-dir', ...args], { PIP_NO_INDEX: '1' })
    await pip('wheel', '--no-deps', '--no-build-isolation', '-w', 'wheels', './source')
    const [wheel] = readdirSync(join(folder.path, 'wheels'))
    expect(wheel).toBe('switchyard-0.1.0-py3-none-any.whl')
    await pip('install', '--no-deps', '--target', 'site', join('wheels', wheel!))
    expect(readdirSync(join(folder.path, 'site/switchyard')).filter((name) => name !== '__pycache__').sort()).toEqual(readdirSync(join(SDK, 'switchyard')).filter((name) => name !== '__pycache__').sort())
    const code = 'import importlib.metadata as m, json, switchyard; print(json.dumps([switchyard.__file__, switchyard.__version__, m.version("switchyard"), m.metadata("switchyard")["Requires-Python"], m.requires("switchyard")]))'
    expect(JSON.parse(await done(['-c', code], { PYTHONPATH: join(folder.path, 'site') }))).toEqual([join(folder.path, 'site/switchyard/__init__.py'), '0.1.0', '0.1.0', '>=3.9', null])
  })

  test('it is Python 3.9, and imports the standard library alone', async () => {
    const [faults, foreign] = await asked(`
import ast, json, pathlib, sys
faults, foreign = [], []
for path in [*pathlib.Path("sdk/python").rglob("*.py"), *pathlib.Path("examples").glob("*.py"), *pathlib.Path("test/agents").glob("*.py")]:
    try:
        tree = ast.parse(path.read_text(), feature_version=(3, 9))
    except SyntaxError as error:
        faults.append(f"{path}: {error}"); continue
    postponed = any(isinstance(n, ast.ImportFrom) and n.module == "__future__" and n.names[0].name == "annotations" for n in tree.body)
    annotations = {id(sub) for n in ast.walk(tree) for a in (getattr(n, "annotation", None), getattr(n, "returns", None)) if a for sub in ast.walk(a)} if postponed else set()
    for n in ast.walk(tree):
        if isinstance(n, ast.BinOp) and isinstance(n.op, ast.BitOr) and id(n) not in annotations and any(isinstance(s, ast.Constant) and s.value is None for s in (n.left, n.right)):
            faults.append(f"{path}:{n.lineno} | None")
        names = [a.name for a in n.names] if isinstance(n, ast.Import) else [n.module] if isinstance(n, ast.ImportFrom) and n.level == 0 else []
        foreign += [f"{path}: {name}" for name in names if hasattr(sys, "stdlib_module_names") and name.split(".")[0] not in {*sys.stdlib_module_names, "switchyard"}]
print(json.dumps([faults, foreign]))`)
    expect([faults, foreign]).toEqual([[], []])
  })
})
