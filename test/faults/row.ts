/** One fault of those in docs/reliability.md: how it is made, what it needs, and what it works with. */
import type { Allowed, TaskRecord, Window } from './checker.ts'
import type { Fleet, FleetOptions } from './fleet.ts'
import type { Load, LoadOptions } from './load.ts'
import type { Random } from './random.ts'

/** What a row has to work with. */
export type Trial = {
  fleet: Fleet
  load: Load
  random: Random
  windows: Window[]
  records: Map<string, TaskRecord>
  /** Marks what it does as a time when something was broken. */
  broken: <T>(during: () => Promise<T>) => Promise<T>
  /** How often to make a fault that is usually made so often: once in the short set. */
  times: (usual: number) => number
  /** The fault was made once more; it has been seen to bite so many times. */
  injected: (times?: number) => void
  bit: (times?: number) => void
  /** It took so long until work went on, or what was lost was sent again. */
  recovered: (ms: number) => void
  /** Something that was promised does not hold. */
  violate: (what: string) => void
  /** Waits until an agent is given something that was sent behind `since`, and says how long it took. */
  goesOn: (since?: number, timeoutMs?: number) => Promise<number>
  note: (what: string) => void
  /** Reads the records of what has ended so far, before they are forgotten by what the row does. */
  readEnded: () => Promise<void>
  /** To be done when the trial has ended, however it did. */
  atEnd: (clean: () => Promise<unknown> | unknown) => void
}

export type Row = Allowed & {
  /** For `--row`. */
  name: string
  /** What is broken, for people. */
  fault: string
  /** The promises that it is about, beside those that are always held. */
  promises: string
  /** Whether it can be one of several in a trial: it heals what it breaks, and needs no system of its own but its links. */
  mixes?: boolean
  /** What this machine must have; a text says what it lacks, and the row is skipped. */
  lacks?: () => Promise<string | null>
  fleet?: FleetOptions
  load?: LoadOptions
  /** No tail: nothing is to go on, or the row looks itself. */
  noTail?: boolean
  /** Breaks, looks, heals. Reports by `trial.injected`, `bit`, `recovered` and `violate`. */
  run: (trial: Trial) => Promise<void>
  /** What else must hold when all has ended. */
  check?: (trial: Trial) => void | Promise<void>
}
