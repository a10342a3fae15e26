/** Signatures: an agent need not look at them; one that does must not be deceived. */
import { sign } from '../../../../sdk/typescript/signature.ts'
import { experiment } from '../check.ts'
import { came, did, type Exchange } from '../exchange.ts'
import { deliveryId, signed, stopId } from '../sign.ts'
import { newAttemptId, newTaskId, taskBody } from '../subject.ts'

const UNSIGNED = { 'webhook-id': '', 'webhook-timestamp': '', 'webhook-signature': '' }
const ADVICE = 'check HMAC-SHA256 over id.timestamp.body, with the bytes as they came, against each signature in the header, in constant time, and that the timestamp is within 5 minutes'
const BOUND = 'take as a task only what has a webhook-id that begins with task_, and as a cancel what has stop_ and what Switchyard-Attempt holds (without that header: the task_id)'

export const signatures = experiment({
  checks: {
    signature: { level: 'MUST', rule: 'S2', title: 'answers 401 to a task that is not rightly signed, if it verifies, and takes one that is', needs: ['secret'] },
    'signature-bound': { level: 'MUST', rule: 'S3', title: 'takes no signature of a task for a cancel, nor the other way round, if it verifies', needs: ['secret'] },
  },
  limitMs: 20_000,
  run: async (agent, judge) => {
    const { key } = agent
    if (!key) return
    const skip = (because: string): void => (['signature', 'signature-bound'] as const).forEach((name) => judge.skipped(name, because))
    const task = () => {
      const attemptId = newAttemptId()
      return { id: deliveryId(attemptId), body: Buffer.from(JSON.stringify(taskBody(agent.task, { taskId: newTaskId(), attemptId, attempt: 1 }, agent.timeoutMs))) }
    }
    const { id, body } = task()
    const right = signed(key, id, body)
    const json = { 'content-type': 'application/json' }
    const post = (what: string, headers: Record<string, string>): Promise<Exchange> => agent.post(body, what, { ...json, ...headers })
    const broken = (x: Exchange): void => judge.broken('signature', { sent: x.sent, came: came(x), todo: ADVICE })

    const unsigned = await post('no signature', UNSIGNED)
    if (unsigned.status !== 401 && !agent.verifies) return skip('it takes what is not signed, which is allowed (S2)')
    if (unsigned.status !== 401) return broken({ ...unsigned, sent: `${unsigned.sent} (401 is due)` })
    const bad: [string, Record<string, string>][] = [
      ['the signature of another key', { ...right, 'webhook-signature': sign([Buffer.from('another')], { id, timestamp: right['webhook-timestamp']!, body }) }],
      ['the signature of another body', signed(key, id, task().body)],
      ['a signature that is cut short', { ...right, 'webhook-signature': right['webhook-signature']!.slice(0, 20) }],
      ['another webhook-id than was signed', { ...right, 'webhook-id': deliveryId(newAttemptId()) }],
      ['another webhook-timestamp than was signed', { ...right, 'webhook-timestamp': String(Number(right['webhook-timestamp']) - 1) }],
      ['a right signature that is 10 minutes old', signed(key, id, body, 600)],
    ]
    for (const [what, headers] of bad) {
      const x = await post(what, headers)
      if (x.status !== 401) return broken({ ...x, sent: `${x.sent} (401 is due)` })
    }
    const several = { ...right, 'webhook-signature': `v1,${Buffer.alloc(32).toString('base64')} v2,abc ${right['webhook-signature']}` }
    const x = await post('several signatures, of which one is right', several)
    if (!did(x)) return broken(x)
    judge.passed('signature')

    const other = await post('the signature of a cancel', signed(key, stopId(newAttemptId()), body))
    if (other.status !== 401) return judge.broken('signature-bound', { sent: `${other.sent} (401 is due)`, came: came(other), todo: BOUND })
    const stops: [string, Record<string, string>][] = [
      ['no signature', UNSIGNED],
      ['the signature of a task', signed(key, id, Buffer.alloc(0))],
      ['the signature of the cancel of another attempt', signed(key, stopId(newAttemptId()), Buffer.alloc(0))],
    ]
    for (const [what, headers] of stops) {
      const stop = await agent.ask('DELETE', `/task/${newTaskId()}`, { 'Switchyard-Attempt': newAttemptId(), ...headers })
      if (stop.status === 405 || (stop.status === 404 && what === 'no signature')) return judge.skipped('signature-bound', 'DELETE /task/{id} is not served, or says 404 before it verifies')
      if (stop.status !== 401) return judge.broken('signature-bound', { sent: `${stop.sent} with ${what} (401 is due)`, came: came(stop), todo: BOUND })
    }
    judge.passed('signature-bound')
  },
})
