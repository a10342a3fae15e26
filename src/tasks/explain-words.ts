/** An explanation in words. They may be worded differently tomorrow; the codes are what programs read. */
import type { AgentReason, ExplainReason, Explanation } from '../contracts/explain.ts'
import type { Attempt } from '../contracts/task.ts'
import { oneLine } from '../contracts/words.ts'
import type { Spec } from './record.ts'

type Facts = Omit<Explanation, 'summary'>
type More = Spec & {
  agentType: string
  retries: number
  error: string
  isPoison: boolean
  /** What its agents alone would be the reason for, of a task that stands in line. */
  agentsReason: ExplainReason | null
}

const UNITS = [[86_400, 'd'], [3600, 'h'], [60, 'min']] as const
/** 5 s, 12 min, 3 h: rounded up, so that what is to come is not said to be there. */
const span = (ms: number): string => {
  const seconds = Math.max(1, Math.ceil(ms / 1000))
  for (const [size, unit] of UNITS) if (seconds >= size * 2) return `${Math.floor(seconds / size)} ${unit}`
  return `${seconds} s`
}
const counted = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`

const MAX_WORDS = 200
/** What an agent said, on one line. */
const quoted = (text: string): string => oneLine(text, MAX_WORDS)

/** How an attempt ended: `attempt 2 at a (failed, HTTP 500: boom)`. */
const howItWent = (a: Attempt): string => `attempt ${a.attempt} at ${a.agent_name} (${a.outcome}${a.status_code === null ? '' : `, HTTP ${a.status_code}`}${a.error ? `: ${quoted(a.error)}` : ''})`

/** What more there is to an agent's reason. */
export const agentDetail = (reason: AgentReason, a: { spec: Spec; status: string; restMs: number; avoided: boolean; onTrial: boolean; wasSick: boolean; isSuspect: boolean }): string | null => {
  const said: string[] = []
  if (reason === 'resting') said.push(a.restMs > 0 ? `it answered 429 or 503 and rests for ${span(a.restMs)}` : 'its rest is over; it gets work again within a second')
  if (reason === 'sick') said.push(a.restMs > 0 ? `task after task failed there; it is tried again in ${span(a.restMs)}` : 'task after task failed there; it is tried again within a second')
  if (reason === 'draining') said.push('it said that it takes nothing new')
  if (reason === 'unhealthy') said.push('it says so itself')
  if (reason === 'refused') said.push('it refused a connection, and gets nothing until its next heartbeat')
  if (reason === 'unreachable') said.push('it has been silent for more than three quarters of its TTL')
  if (reason === 'dead') said.push('it has been silent for longer than its TTL; a heartbeat brings it back')
  if (reason === 'lacks_capability') said.push(`it does not offer ${a.spec.taskType}`)
  if (reason === 'not_the_pinned_agent') said.push(`the task is pinned to ${a.spec.pinnedTo}`)
  if (a.wasSick && (reason === 'eligible' || reason === 'at_capacity')) said.push('task after task failed there, and it gets one at a time until it completes one')
  else if (a.isSuspect && (reason === 'eligible' || reason === 'at_capacity')) said.push('it fell silent together with most agents, which may be our fault: it is tried last, with one task at a time')
  else if (a.onTrial && (reason === 'eligible' || reason === 'at_capacity')) said.push('it refused connections before and gets one task at first')
  if (a.status === 'degraded' && reason === 'eligible') said.push('it is degraded: healthy agents with room go before it')
  if (reason === 'failed_here_before') said.push('it failed this task before; another agent that has room goes first')
  else if (a.avoided) said.push(reason === 'eligible' ? 'it failed this task before, and no other agent has room' : 'it failed this task before')
  return said.length === 0 ? null : said.join('; ')
}

/** `3 draining, 1 resting`: agents that are there and get nothing now. */
const unusable = (n: Partial<Record<AgentReason, number>>): string =>
  (['resting', 'sick', 'draining', 'unhealthy', 'refused', 'unreachable'] as const).flatMap((reason) => (n[reason] ? [`${n[reason]} ${reason === 'refused' ? 'refused a connection' : reason}`] : [])).join(', ')

const others = ({ position }: Facts): string => {
  const { before, elsewhere } = position!
  const parts = [...(before > 0 ? [`${counted(before, 'task')} of its queue`] : []), ...(elsewhere > 0 ? [`${counted(elsewhere, 'task')} of other queues with a higher priority`] : [])]
  return parts.length === 0 ? 'it is next' : `before it ${before + elsewhere === 1 ? 'goes' : 'go'} ${parts.join(' and ')}`
}

const ENDED: Record<string, string> = { completed: 'Completed', failed: 'Failed for good', timeout: 'Timed out for good', cancelled: 'Cancelled' }

const AGAIN = 'It can be submitted again (POST /tasks/{id}/retry).'

const howItEnded = (e: Facts, more: More): string => {
  const began = `${ENDED[e.status]} ${span(Date.parse(e.at) - Date.parse(e.since))} ago`
  if (e.status === 'completed') return `${began}, by ${e.last_attempt?.agent_name ?? 'its agent'} at attempt ${e.last_attempt?.attempt ?? 1}.`
  if (e.status === 'cancelled') return `${began}, ${e.last_attempt === null ? 'before it was sent to any agent' : `after attempt ${e.last_attempt.attempt} at ${e.last_attempt.agent_name}`}.`
  // The last attempt of one that was given up was lost; why it failed is our own word then.
  if (e.last_attempt === null || e.last_attempt.outcome === 'lost') return `${began}: ${quoted(more.error)}. ${AGAIN}`
  const retries = `${more.retries} of ${more.maxRetries} retries are used up`
  const after = e.last_attempt.outcome === 'rejected' ? 'it is not worth another try' : more.isPoison ? `it failed on too many agents to be tried again (poison); ${retries}` : retries
  return `${began}: ${howItWent(e.last_attempt)}; ${after}. ${AGAIN}`
}

/** What it waited for when it expired. */
const inVain = (reason: ExplainReason | null, { taskType, pinnedTo }: More): string => {
  switch (reason) {
    case 'no_dispatcher': return 'no dispatcher was alive'
    case 'no_agent_alive': return `no agent was alive that offers ${taskType}`
    case 'pinned_agent_absent': return `agent ${pinnedTo}, which it is pinned to, was not there`
    case 'no_agent_usable': return 'no agent that could do it was to be used'
    case 'waiting_for_slot': return 'all agents that could do it were full'
    case 'behind_others': return 'other tasks went before it'
    case 'not_due': case 'retry_delay': return 'the time of its next attempt had not come'
    default: return 'no attempt could begin in time'
  }
}

/** A task that is pinned, and could go. */
const waitingForOne = (reason: ExplainReason, e: Facts, { pinnedTo }: More): string => {
  const who = `agent ${pinnedTo}, which it is pinned to,`
  switch (reason) {
    case 'pinned_agent_absent': return `It is pinned to agent ${pinnedTo}, which is ${e.agents_considered!.by_reason.dead ? 'dead' : 'not registered'}: start that agent, or cancel the task and submit it without agent_id.`
    case 'no_agent_usable': return `There is ${who} but it takes no work now (${unusable(e.agents_considered!.by_reason)}): see to it.`
    case 'agents_resting': return `There is ${who} but it asked for a rest (429 or 503)${restsFor(e)}.`
    case 'agents_sick': return `There is ${who} but task after task failed there${triedAgain(e)}: see to it.`
    case 'waiting_for_slot': return `There is ${who} but it is full; ${others(e)}. It goes when a slot comes free.`
    case 'behind_others': return `There is room at ${who} and ${others(e)}.`
    default: return `There is room at ${who} and it goes in a moment.`
  }
}

const restsFor = (e: Facts): string => (e.may_go_at === null ? '' : `, for ${span(Date.parse(e.may_go_at) - Date.parse(e.at))}`)

/** When those that are sick get one task to be tried with; it costs that task no retry. */
const triedAgain = (e: Facts): string => `; it is tried with one task ${e.may_go_at === null ? 'in a moment' : `in ${span(Date.parse(e.may_go_at) - Date.parse(e.at))} at the latest`}, and nothing is lost by waiting`

/** One that may go to any agent that offers it. */
const waitingForAny = (reason: ExplainReason, e: Facts, { agentType, taskType }: More): string => {
  const { total, by_reason: n } = e.agents_considered!
  const who = `of type ${agentType} that offer ${taskType}`
  switch (reason) {
    case 'no_agent_registered': return `No agent of type ${agentType} is registered: start one that offers ${taskType}.`
    case 'no_agent_capable': return `No agent of type ${agentType} offers ${taskType} (${total} ${total === 1 ? 'is' : 'are'} known): check task_type, or start an agent that offers it.`
    case 'no_agent_alive': return `No agent of type ${agentType} that offers ${taskType} is alive (${n.dead ?? 0} dead): start one.`
    case 'no_agent_usable': return `There are agents ${who}, but none takes work now (${unusable(n)}): see to them, or start another.`
    case 'agents_resting': return `Agents ${who} asked for a rest (429 or 503)${e.may_go_at === null ? '' : `${restsFor(e)} at least`}; no other takes work.`
    case 'agents_sick': return `Agents ${who} are sick: task after task failed there (${unusable(n)})${triedAgain(e)}. See to them: GET /agents/{id} says why.`
    case 'waiting_for_slot': return `No agent of type ${agentType} that offers ${taskType} has a free slot (${n.at_capacity} full); ${others(e)}. It goes when a slot comes free: wait, start another agent, or raise max_concurrency.`
    case 'behind_others': return `Agents ${who} have room; ${others(e)}.`
    default: return `${e.agents[0]?.name ?? 'An agent'} has room and gets it next, in a moment.`
  }
}
/** A task that could go, and waits for an agent. */
const waiting = (reason: ExplainReason, e: Facts, more: More): string => (more.pinnedTo === null ? waitingForAny : waitingForOne)(reason, e, more)

export const summaryOf = (e: Facts, more: More): string => {
  const nowMs = Date.parse(e.at)
  const inTime = (time: string | null): string => span(Date.parse(time!) - nowMs)
  const nobody = e.dispatchers === 0 ? 'No dispatcher is alive, so nothing is sent: start a worker. ' : ''
  const at = e.attempt && `attempt ${e.attempt.attempt} at ${e.attempt.agent_name}`
  const isLate = e.attempt !== null && Date.parse(e.attempt.deadline_at) <= nowMs
  const left = (to: string): string => (isLate ? 'whose time is over: it is being ended' : `which has ${inTime(e.attempt!.deadline_at)} left to ${to}`)
  const sent = e.attempt && span(nowMs - Date.parse(e.attempt.sent_at))
  switch (e.reason) {
    case 'not_due': return `${nobody}Its time comes in ${inTime(e.may_go_at)}; until then it waits.`
    case 'retry_delay': return `${nobody}Its ${howItWent(e.last_attempt!)} did not succeed; retry ${more.retries} of ${more.maxRetries} goes in ${inTime(e.may_go_at)}${e.avoids.length > 0 ? ', to another agent if one has room' : ''}.`
    case 'retry_postponed': return `${nobody}Its ${howItWent(e.last_attempt!)} did not succeed, and so much of type ${more.agentType} fails that retries wait for their turn; it goes again in ${inTime(e.may_go_at)}.`
    case 'redelivery_delay': return `${nobody}A dispatcher stopped answering while it delivered the task; it is sent again in ${inTime(e.may_go_at)}, which costs it no retry.`
    case 'stepped_aside': return `${nobody}Agents had no room for it again and again (the last was ${e.last_attempt!.agent_name}), so it lets others go first; it goes again in ${inTime(e.may_go_at)}.`
    case 'no_dispatcher': return `${nobody}${more.agentsReason?.startsWith('no_agent') || more.agentsReason === 'pinned_agent_absent' ? waiting(more.agentsReason, e, more) : ''}`.trim()
    case 'being_queued': return 'It is being put into line: a moment, or some seconds if the process that had it has died.'
    case 'being_sent': return 'A dispatcher has it in hand and sends it now; should that one have died, another sends it within 20 s.'
    case 'at_agent': return `It has been ${at} for ${sent}, ${left('answer')}.`
    case 'result_pending': return `It has been ${at} for ${sent}, which said that the result comes later, and ${left('send it')}.`
    case 'dispatcher_lost': return `${nobody}Nobody waits for ${at} any more: its dispatcher does not answer. The task is sent again soon${e.dispatchers === 0 ? ' after there is one' : ', within 20 s'}, which costs it no retry.`
    case 'cancelling': return `Its cancellation was asked for; it ends cancelled when ${at} is over, 10 s after the asking at the latest.`
    case 'expired': return `It expired ${span(nowMs - Date.parse(e.since))} ago: ${inVain(e.waited_for, more)}. ${AGAIN}`
    case 'ended': return howItEnded(e, more)
    default: return waiting(e.reason, e, more)
  }
}
