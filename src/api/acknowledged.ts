/** `ACK=replica`: the parts that clients and agents change something by, but that they are answered when a replica has it. */
import type { Core } from '../core.ts'
import type { Acknowledgement } from '../redis/acknowledgement.ts'

/** What a dispatcher does is told to nobody, and needs none of this. Nor do beats and registrations, which come again. */
export const acknowledgedCore = (core: Core, { begin }: Acknowledgement): Core => {
  const acknowledged =
    <A extends unknown[], R>(act: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      const onReplica = begin()
      const answer = await act(...args)
      await onReplica()
      return answer
    }
  const { tasks, schedules, webhooks, keyring } = core
  const submitMany: typeof tasks.submitMany = async (many) => {
    const onReplica = begin()
    const taken = await tasks.submitMany(many)
    const failure = await onReplica().then(() => null, (error: Error) => error)
    return failure ? taken.map((one) => (one instanceof Error ? one : failure)) : taken
  }
  return {
    ...core,
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
    keyring: { ...keyring, create: acknowledged(keyring.create), rotate: acknowledged(keyring.rotate), revoke: acknowledged(keyring.revoke) },
    webhooks: { ...webhooks, redeliver: acknowledged(webhooks.redeliver) },
  }
}
