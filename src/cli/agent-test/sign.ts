/** Requests signed by Standard Webhooks, as the router signs them (docs/protocol.md, S1). */
import { sign } from '../../../sdk/typescript/signature.ts'

/** What `webhook-id` is on a delivery, and on a DELETE: of an attempt, or of a task where it names none. */
export const deliveryId = (attemptId: string): string => `task_${attemptId}`
export const stopId = (attemptOrTaskId: string): string => `stop_${attemptOrTaskId}`

/** @param ageSeconds how old the request pretends to be */
export const signed = (key: Buffer, id: string, body: Buffer, ageSeconds = 0): Record<string, string> => {
  const timestamp = String(Math.floor(Date.now() / 1000) - ageSeconds)
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': sign([key], { id, timestamp, body }) }
}
