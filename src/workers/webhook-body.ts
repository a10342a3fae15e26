/** What is sent to a callback_url: the task as it ended. */
import { stringify, rawJson } from '../contracts/json.ts'
import { iso } from '../contracts/time.ts'
import type { TaskView } from '../tasks/record.ts'
import { wire } from '../tasks/wire.ts'

/** A larger body is made smaller by leaving out members of the task, in this order, until it is not. */
const MAX_BYTES = 1024 * 1024
const LEFT_OUT = [['parameters', rawJson('{}')], ['attempts', []], ['metadata', rawJson('{}')], ['result', null]] as const

/** The same at every try, but for `retried_as`. */
export const webhookBody = (t: TaskView): Buffer => {
  const data = wire({ ...t, webhook: null })
  const omitted: string[] = []
  const write = () => Buffer.from(stringify({ type: `task.${t.status}`, timestamp: iso(t.endedMs!), data: rawJson(stringify(data)), ...(omitted.length === 0 ? {} : { omitted }) }))
  let body = write()
  for (const [member, nothing] of LEFT_OUT) {
    if (body.length <= MAX_BYTES) break
    data[member] = nothing
    omitted.push(member)
    body = write()
  }
  return body
}
