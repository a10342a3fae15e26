/** What is no task, is too big, or comes too slowly. */
import { randomUUID } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { experiment } from '../check.ts'
import { came, did, refused, type Exchange } from '../exchange.ts'
import { seconds } from '../shown.ts'
import { newAttemptId, newTaskId, QUICK_MS, taskBody, type Subject } from '../subject.ts'
import { pause } from '../waiting.ts'

type Case = { what: string; body: Buffer | undefined; headers?: Record<string, string>; /** An agent may make sense of it as well. */ mayDo?: boolean }

const casesOf = (agent: Subject): Case[] => {
  const whole = taskBody(agent.task, { taskId: newTaskId(), attemptId: newAttemptId(), attempt: 1 }, agent.timeoutMs)
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))
  const without = (name: string): Buffer => json(Object.fromEntries(Object.entries(whole).filter(([key]) => key !== name)))
  return [
    { what: 'no JSON ({"task_id":)', body: Buffer.from('{"task_id":') },
    { what: 'no body', body: undefined },
    { what: 'bytes that are no UTF-8', body: Buffer.concat([Buffer.from('{"task_id":"'), Buffer.from([0xff, 0xfe]), Buffer.from(`","task_type":"${randomUUID()}"}`)]) },
    { what: 'an array', body: json([whole]) },
    { what: 'null', body: json(null) },
    { what: 'no task_type', body: without('task_type') },
    { what: 'a task_type that is a number', body: json({ ...whole, task_type: 7 }) },
    { what: 'parameters that are a string', body: json({ ...whole, parameters: 'text' }), mayDo: true },
    { what: 'parameters that are an array', body: json({ ...whole, parameters: [1] }), mayDo: true },
    { what: 'no parameters', body: without('parameters'), mayDo: true },
    { what: 'no task_id', body: without('task_id'), mayDo: true },
    { what: 'a task_id that is an object', body: json({ ...whole, task_id: {} }), mayDo: true },
    { what: 'no JSON, as text/plain', body: Buffer.from('hello'), headers: { 'content-type': 'text/plain' } },
    { what: 'a task as application/octet-stream', body: json(whole), headers: { 'content-type': 'application/octet-stream' }, mayDo: true },
  ]
}

/** Null when it still does a task. */
const hurt = async (agent: Subject): Promise<Exchange | null> => {
  const x = await agent.deliver()
  return did(x) ? null : x
}

export const malformed = experiment({
  checks: { malformed: { level: 'MUST', rule: 'T7', title: 'refuses what is no task with a 4xx, and is not hurt by it' } },
  limitMs: 15_000,
  run: async (agent, judge) => {
    const todo = 'check that the body is a JSON object with the members you need, of the right types, before anything else; answer 400 or 422 if it is not'
    for (const { what, body, headers, mayDo } of casesOf(agent)) {
      const x = await agent.post(body, what, headers)
      if (!refused(x) && !(mayDo && x.status !== null && x.status < 400)) return judge.broken('malformed', { sent: x.sent, came: came(x), todo })
    }
    const after = await hurt(agent)
    if (after) judge.broken('malformed', { sent: `${after.sent}, after requests that are no task`, came: came(after), todo })
    else judge.passed('malformed')
  },
})

const TOO_BIG_BYTES = 3 * 1024 * 1024

export const oversized = experiment({
  checks: {
    'oversized-survived': { level: 'MUST', rule: 'T8', title: 'goes on serving after a body of 3 MiB' },
    'oversized-refused': { level: 'SHOULD', rule: 'T8', title: 'refuses a body over 2 MiB with 413' },
  },
  limitMs: 20_000,
  run: async (agent, judge) => {
    const whole = taskBody(agent.task, { taskId: newTaskId(), attemptId: newAttemptId(), attempt: 1 }, agent.timeoutMs)
    const body = Buffer.from(JSON.stringify({ ...whole, parameters: { ...agent.task.parameters, padding: 'x'.repeat(TOO_BIG_BYTES) } }))
    const bad: Exchange[] = []
    for (const [what, sent] of [['3 MiB and a Content-Length', body], ['3 MiB in chunks', [body]]] as const) {
      let x = await agent.post(sent, what)
      // An agent may hang up in the midst of it; its 413 can be lost on the way then, and once more is fair.
      if (x.status === null) x = await agent.post(sent, what)
      if (x.status !== 413) bad.push(x)
    }
    const after = await hurt(agent)
    if (after) return judge.broken('oversized-survived', { sent: `${after.sent}, after bodies of 3 MiB`, came: came(after), todo: 'bound what you read of a body, and let no error of one request end the others' })
    judge.passed('oversized-survived')
    if (bad[0]) judge.broken('oversized-refused', { sent: bad[0].sent, came: came(bad[0]), todo: 'stop reading at 2 MiB, count the bytes when there is no Content-Length, answer 413 and close the connection' })
    else judge.passed('oversized-refused')
  },
})

export const slowRequests = experiment({
  checks: { 'slow-requests': { level: 'MUST', rule: 'T11', title: 'serves others while connections idle or send slowly' } },
  limitMs: 15_000,
  run: async (agent, judge) => {
    const { hostname, port } = new URL(agent.url)
    const begun = ['', 'POST /task HTTP/1.1\r\nHost: agent\r\n', 'POST /task HTTP/1.1\r\nHost: agent\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"task_id":']
    const sockets = begun.map((text): Socket => {
      const socket = connect(Number(port || 80), hostname.replace(/^\[|\]$/g, ''))
      socket.on('error', () => {})
      socket.resume()
      if (text !== '') socket.write(text)
      return socket
    })
    const drip = setInterval(() => {
      const last = sockets.at(-1)!
      if (last.writable) last.write(' ')
    }, 100)
    try {
      await pause(200)
      const x = await agent.deliver({ timeoutMs: Math.max(agent.timeoutMs / 2, Math.min(QUICK_MS, agent.timeoutMs)) })
      if (did(x)) return judge.passed('slow-requests')
      const todo = `serve each connection by itself (a thread each, or asynchronously), and bound how long a request may take to come; a task waited ${seconds(x.endedAt - x.startedAt)} behind them`
      judge.broken('slow-requests', { sent: `${x.sent}, while one connection says nothing, one sent half of its headers and one sends its body a byte at a time`, came: came(x), todo })
    } finally {
      clearInterval(drip)
      for (const socket of sockets) socket.destroy()
    }
  },
})
