/**
 * Names that clients choose, resolved without getaddrinfo: that has four threads for the whole process, and names whose servers never
 * answer would keep those of agents waiting.
 */
import dns from 'node:dns/promises'
import type { Resolve } from './connections.ts'

const TIMEOUT_MS = 2_000
/** getaddrinfo under way at once, where it must be asked. */
const MAX_SYSTEM = 1
const MAX_WAITING = 100

/** @param o.system whether names that DNS does not know are asked of the system (/etc/hosts and the like): for receivers that are not public */
export const createClientResolve = ({ system }: { system: boolean }): Resolve => {
  const resolver = new dns.Resolver({ timeout: TIMEOUT_MS, tries: 2 })
  let running = 0
  const waiting: (() => void)[] = []

  const askSystem: Resolve = async (hostname) => {
    if (waiting.length >= MAX_WAITING) throw new Error(`${hostname} could not be resolved: too many other names are being looked up`)
    if (running >= MAX_SYSTEM) await new Promise<void>((resolve) => waiting.push(resolve))
    else running++
    try {
      return await dns.lookup(hostname, { all: true })
    } finally {
      const next = waiting.shift()
      if (next) next()
      else running--
    }
  }

  return async (hostname) => {
    const found = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)])
    const all = found.flatMap((answer, i) => (answer.status === 'fulfilled' ? answer.value.map((address) => ({ address, family: i === 0 ? 4 : 6 })) : []))
    if (all.length > 0) return all
    if (system) return askSystem(hostname)
    throw (found.find((answer) => answer.status === 'rejected') as PromiseRejectedResult).reason
  }
}
