/** What a member's process shows of itself from outside: CPU, memory, what it logged. */
import { readFileSync } from 'node:fs'
import type { Member } from './fleet.ts'

/** Linux counts in hundredths of a second for programs, whatever the kernel does. */
const TICKS_PER_SECOND = 100

/** Seconds of CPU that a process has used. */
export const cpuSeconds = (pid: number): number => {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
  const [user, system] = text.slice(text.lastIndexOf(')') + 2).split(' ').slice(11, 13)
  return (Number(user) + Number(system)) / TICKS_PER_SECOND
}

/** Lines of its log, as objects; what is none is left out. */
export const logged = (m: Member): Record<string, any>[] =>
  m.proc.log.join('').split('\n').flatMap((line) => {
    try {
      return [JSON.parse(line) as Record<string, any>]
    } catch {
      return []
    }
  })

/** How often it has logged it. */
export const says = (m: Member, what: string | RegExp): number => logged(m).filter((l) => (typeof what === 'string' ? String(l.msg).includes(what) : what.test(String(l.msg)))).length
