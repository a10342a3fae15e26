/** Cancelling what is at an agent: it is told, and the task ends, whoever is dead or stands still. */
import { describe, expect, test } from 'vitest'
import { accepts, startSystem, until, type AgentOptions, type System } from './system.ts'

/** Promised. */
const WITHIN_MS = 10_000
const holds: AgentOptions['handle'] = () => new Promise(() => {})
const cancel = async (system: System, id: string): Promise<number> => (await system.call('DELETE', `/tasks/${id}`)).status

describe.concurrent('a cancelled task', () => {
  test('whose agent does not listen has ended at once; the agent is told which attempt to stop, and its slot is taken until it has', async () => {
    await using system = await startSystem({ workers: 2 })
    const answers: [string, AgentOptions['stop']][] = [
      ['is a 404', undefined],
      ['never comes', () => {}],
      ['is a redirect', (res) => void res.writeHead(307, { location: '/task/elsewhere' }).end()],
      ['has no end', (res) => void res.writeHead(200).write('x')],
      ['is a broken connection', (res) => void res.destroy()],
      ['is that it has', (res) => void res.writeHead(204).end()],
    ]
    await Promise.all(
      answers.flatMap(([what, stop], i) =>
        [holds, accepts].map(async (handle, j) => {
          const type = `stop${i}${j}`
          const agent = await system.agent({ type, handle, maxConcurrency: 2, beats: false, ...(stop ? { stop } : {}) })
          const id = await system.submit({ agent_type: type })
          const run = await agent.delivery()
          if (handle === accepts) await system.becomes(id, 'running')
          expect(await cancel(system, id)).toBe(handle === accepts ? 200 : 202)
          expect(await system.ended(id), what).toMatchObject({ status: 'cancelled', error: 'cancelled', attempts: [{ outcome: 'cancelled' }] })
          await until(() => agent.stops.length > 0, { what: `the agent whose answer ${what} being told` })
          expect(agent.stops).toEqual([{ taskId: id, attemptId: run.attemptId }])
          expect(await agent.slots(), what).toBe(1)
          // It goes on with others meanwhile.
          agent.state.handle = () => 'next'
          expect(await system.ended(await system.submit({ agent_type: type })), what).toMatchObject({ status: 'completed' })
          expect((await agent.beat({ running: [run.attemptId] })).json.cancel).toEqual([run.attemptId])
          await agent.beat({ running: [] })
          await agent.beat({ running: [] })
          expect(await agent.slots(), what).toBe(0)
          expect(agent.stops).toHaveLength(1)
        }),
      ),
    )
  })

  test('ends within seconds though its dispatcher stands still, and stays so when that one goes on', async () => {
    await using system = await startSystem()
    const frozen = system.worker[0]!
    const answer = Promise.withResolvers<string>()
    const agent = await system.agent({ handle: () => answer.promise, maxConcurrency: 2, beats: false })
    const id = await system.submit()
    const run = await agent.delivery()
    await system.addWorker()
    frozen.child.kill('SIGSTOP')
    const asked = Date.now()
    expect(await cancel(system, id)).toBe(202)
    const ended = await system.ended(id)
    expect(ended).toMatchObject({ status: 'cancelled', attempts: [{ outcome: 'cancelled' }] })
    expect(Date.parse(ended.completed_at) - asked).toBeLessThan(WITHIN_MS)
    await until(() => agent.stops.length > 0, { what: 'the agent being told by the other dispatcher' })
    expect(agent.stops).toEqual([{ taskId: id, attemptId: run.attemptId }])
    expect(await agent.slots()).toBe(1)
    expect((await agent.beat({ running: [run.attemptId] })).json.cancel).toEqual([run.attemptId])
    answer.resolve('too late')
    frozen.child.kill('SIGCONT')
    // It reads that the task was cancelled, and the answer; whichever comes first, it is too late.
    await until(() => frozen.log.join('').includes('came too late and changed nothing'), { timeoutMs: 20_000, what: 'its outcome' })
    expect({ ...(await system.task(id)), late_results: [] }).toEqual(ended)
    expect(agent.runs).toHaveLength(1)
  })

  test('ends within seconds though its dispatcher was killed, and no other lives', async () => {
    await using system = await startSystem()
    const agent = await system.agent({ handle: holds, maxConcurrency: 2, beats: false })
    const [before, behind] = [await system.submit(), await system.submit()]
    await agent.delivery(2)
    const asked = Date.now()
    await system.worker[0]!.kill('SIGKILL')
    expect(await cancel(system, before)).toBe(202)
    const ended = await system.ended(before)
    expect(ended).toMatchObject({ status: 'cancelled', attempts: [{ outcome: 'cancelled' }] })
    expect(Date.parse(ended.completed_at) - asked).toBeLessThan(WITHIN_MS)
    // Of one that nobody asks for, and whose API died as well, the next dispatcher takes care; the agent is told by its beats.
    expect(await cancel(system, behind)).toBe(202)
    await system.api.pop()!.kill('SIGKILL')
    await system.addWorker()
    await until(async () => (await system.redis.hget(system.keys.task('test', behind), 'status')) === 'cancelled')
    await system.addApi()
    expect(await system.task(behind)).toMatchObject({ attempts: [{ outcome: 'cancelled', error: 'its dispatcher did not end it in time' }] })
    expect((await agent.beat({ running: agent.runs.map((r) => r.attemptId) })).json.cancel.toSorted()).toEqual(agent.runs.map((r) => r.attemptId).toSorted())
    expect(await agent.slots()).toBe(2)
  })
})
