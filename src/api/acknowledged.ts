/** `ACK=replica`: the parts that clients and agents change something by, but that they are answered when a replica has it. */
import type { Core, Parts } from '../core.ts'
import type { Acknowledgement } from '../redis/acknowledgement.ts'

const acknowledges =
  ({ begin }: Acknowledgement) =>
  <A extends unknown[], R>(act: (...args: A) => Promise<R>) =>
  async (...args: A): Promise<R> => {
    const onReplica = begin()
    const answer = await act(...args)
    await onReplica()
    return answer
  }

/** What a dispatcher does is told to nobody, and needs none of this. Nor do beats and registrations, which come again. */
const acknowledgedParts = (parts: Parts, acknowledgement: Acknowledgement): Pick<Parts, 'tasks' | 'schedules' | 'webhooks'> => {
  const { begin } = acknowledgement
  const acknowledged = acknowledges(acknowledgement)
  const { tasks, schedules, webhooks } = parts
  const submitMany: typeof tasks.submitMany = async (many) => {
    const onReplica = begin()
    const taken = await tasks.submitMany(many)
    const failure = await onReplica().then(() => null, (error: Error) => error)
    return failure ? taken.map((one) => (one instanceof Error ? one : failure)) : taken
  }
  return {
    tasks: {
      ...tasks,
      submitMany,
      submitOnce: acknowledged(tasks.submitOnce),
      retry: acknowledged(tasks.retry),
      cancel: acknowledged(tasks.cancel),
      callback: acknowledged(tasks.callback),
      deadLetters: { ...tasks.deadLetters, retry: acknowledged(tasks.deadLetters.retry) },
    },
    schedules: { ...schedules, put: acknowledged(schedules.put), delete: acknowledged(schedules.delete), pause: acknowledged(schedules.pause) },
    webhooks: { ...webhooks, redeliver: acknowledged(webhooks.redeliver) },
  }
}

/** The same of every namespace, and of keys. */
export const acknowledgedCore = (core: Core, acknowledgement: Acknowledgement): Core => {
  const acknowledged = acknowledges(acknowledgement)
  const { keyring } = core
  return {
    ...core,
    ...acknowledgedParts(core, acknowledgement),
    of: async (namespace) => {
      const parts = await core.of(namespace)
      return { ...parts, ...acknowledgedParts(parts, acknowledgement) }
    },
    keyring: { ...keyring, create: acknowledged(keyring.create), rotate: acknowledged(keyring.rotate), revoke: acknowledged(keyring.revoke) },
  }
}
