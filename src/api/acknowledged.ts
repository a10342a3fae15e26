/** `ACK=replica`: the parts that clients and agents change something by, but that they are answered when a replica has it. */
import type { Core, Parts } from '../core.ts'
import type { Acknowledgement } from '../redis/acknowledgement.ts'
import { typeOfTask, type Keys } from '../redis/keys.ts'

/** Takes an act and the agent types under which it writes, '' for what is of none; null: any. */
const acknowledges =
  ({ begin }: Acknowledgement, keys: Keys) =>
  <A extends unknown[], R>(act: (...args: A) => Promise<R>, under: (...args: A) => readonly string[] | null) =>
  async (...args: A): Promise<R> => {
    const onReplica = begin()
    const answer = await act(...args)
    await onReplica(under(...args)?.map(keys.base) ?? null)
    return answer
  }
const ofTask = (id: string) => [typeOfTask(id)!]
const ofNone = () => ['']
const ofAny = () => null

/** What a dispatcher does is told to nobody, and needs none of this. Nor do beats and registrations, which come again. */
const acknowledgedParts = (parts: Parts, acknowledgement: Acknowledgement): Pick<Parts, 'tasks' | 'schedules' | 'webhooks'> => {
  const { begin } = acknowledgement
  const { tasks, schedules, webhooks, keys } = parts
  const acknowledged = acknowledges(acknowledgement, keys)
  const submitMany: typeof tasks.submitMany = async (many) => {
    const onReplica = begin()
    const taken = await tasks.submitMany(many)
    const failure = await onReplica([...new Set(many.map(({ type }) => keys.base(type)))]).then(() => null, (error: Error) => error)
    return failure ? taken.map((one) => (one instanceof Error ? one : failure)) : taken
  }
  return {
    tasks: {
      ...tasks,
      submitMany,
      submitOnce: acknowledged(tasks.submitOnce, (_task, type) => [type]),
      retry: acknowledged(tasks.retry, ofTask),
      cancel: acknowledged(tasks.cancel, ofTask),
      callback: acknowledged(tasks.callback, ofTask),
      deadLetters: { ...tasks.deadLetters, retry: acknowledged(tasks.deadLetters.retry, ofAny) },
    },
    schedules: { ...schedules, put: acknowledged(schedules.put, ofAny), delete: acknowledged(schedules.delete, ofAny), pause: acknowledged(schedules.pause, ofAny) },
    webhooks: { ...webhooks, redeliver: acknowledged(webhooks.redeliver, ofTask) },
  }
}

/** The same of every namespace, and of keys. */
export const acknowledgedCore = (core: Core, acknowledgement: Acknowledgement): Core => {
  const acknowledged = acknowledges(acknowledgement, core.keys)
  const { keyring } = core
  return {
    ...core,
    ...acknowledgedParts(core, acknowledgement),
    of: async (namespace) => {
      const parts = await core.of(namespace)
      return { ...parts, ...acknowledgedParts(parts, acknowledgement) }
    },
    keyring: { ...keyring, create: acknowledged(keyring.create, ofNone), rotate: acknowledged(keyring.rotate, ofNone), revoke: acknowledged(keyring.revoke, ofNone) },
  }
}
