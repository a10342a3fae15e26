/** What the bench knows of a system under test: how it is started, how it is given a task, and where it says what has become of it. */
import type { Command } from './processes.ts'

export type SystemName = 'thin' | 'ours' | 'restate' | 'celery'

/** Where the parts of a trial listen. `admin`, `service` and `node` are Restate's. */
export type Urls = Readonly<Record<'api' | 'worker' | 'agent' | 'redis' | 'admin' | 'service' | 'node', string>>
export type Place = Readonly<{ urls: Urls; /** Of this trial alone, and deleted behind it. */ dir: string }>

/** `server`: the one that is API and store at once. */
export const PARTS = ['api', 'worker', 'server', 'redis', 'agent', 'load'] as const
export type Part = (typeof PARTS)[number]

export type System = Readonly<{
  /** Whether it is given a Redis. */
  redis: boolean
  processes: (place: Place) => readonly (Command & Readonly<{ name: Part }>)[]
  /** Each answers 200 once the process behind it listens. */
  ready: (urls: Urls) => readonly string[]
  /** Run once when all are ready, before any task. */
  prepare: (urls: Urls) => Promise<void>
  submit: Readonly<{ path: string; status: number; /** The member of the answer that holds the task's id. */ id: string }>
  /** Reads a task over HTTP, and says whether it has completed with the agent's result. */
  readBack: Readonly<{ path: (id: string) => string; isRight: (body: string) => boolean }>
  /** Where the count of completed tasks is read, and how. Asked only once the agent has received everything. */
  completed: Readonly<{ from: 'api' | 'worker'; path: string; read: (body: string) => number }>
  /** A GET that is answered when the task ends; null where there is none. */
  wait: null | ((id: string) => string)
  /** Beside those that all share. */
  settings: string
}>
