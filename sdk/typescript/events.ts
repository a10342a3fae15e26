/** Watching: server-sent events, read on from where they broke off until there are no more. */
import { ConnectionFailed, SwitchyardError, UnexpectedAnswer } from './errors.ts'
import { pause, type Http, type Request } from './http.ts'
import type { TaskEvent } from './wire.ts'

/** Some events were forgotten before they could be sent; the tasks themselves know more. */
export type Gap = { type: 'gap'; detail: string }

export type WatchOptions = {
  /** Goes on behind the event of this id, of an earlier watch. */
  lastEventId?: string | undefined
  /** Ends the watching, which then throws the signal's reason. */
  signal?: AbortSignal | undefined
}

/** A router that is away for so long is given up. */
const LONGEST_OUTAGE_MS = 30_000
const FIRST_PAUSE_MS = 200
const LONGEST_PAUSE_MS = 2_000
/** The router is never silent for more than a third of that. */
const SILENCE_MS = 45_000

const MAX_MESSAGE = 4 * 1024 * 1024

type Message = { id: string | undefined; data: string }

/** The messages of one answer. */
async function* messages(response: Response, heard: () => void): AsyncGenerator<Message> {
  let text = ''
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream()) as unknown as AsyncIterable<string>) {
    heard()
    text += chunk
    if (text.length > MAX_MESSAGE) throw new UnexpectedAnswer(`${response.url} does not send events as a Switchyard router does`, response.status, '')
    const blocks = text.split('\n\n')
    text = blocks.pop()!
    for (const block of blocks) {
      const field = (name: string) => block.split('\n').find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2)
      const data = field('data')
      if (data !== undefined) yield { id: field('id'), data }
    }
  }
}

/** @param isLast whether nothing comes behind this event */
export async function* watchEvents(http: Http, path: string, query: Request['query'], { lastEventId, signal }: WatchOptions, isLast: (event: TaskEvent) => boolean): AsyncGenerator<TaskEvent | Gap, void> {
  let last = lastEventId
  let heardAt = performance.now()
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    signal?.throwIfAborted()
    const cut = new AbortController()
    const both = signal ? AbortSignal.any([signal, cut.signal]) : cut.signal
    let silence = setTimeout(() => cut.abort(), SILENCE_MS)
    try {
      const response = await http.stream(path, { query, lastEventId: last, signal: both })
      if (response.status === 204) return
      const heard = () => {
        heardAt = performance.now()
        clearTimeout(silence)
        silence = setTimeout(() => cut.abort(), SILENCE_MS)
      }
      for await (const { id, data } of messages(response, heard)) {
        pauseMs = FIRST_PAUSE_MS
        last = id ?? last
        const event = JSON.parse(data) as TaskEvent | Gap
        yield event
        if (event.type !== 'gap' && isLast(event)) return
      }
    } catch (error) {
      signal?.throwIfAborted()
      const passes = error instanceof ConnectionFailed || (error instanceof SwitchyardError ? error.status === 429 || error.status === 503 : error instanceof TypeError || cut.signal.aborted)
      if (!passes || performance.now() - heardAt > LONGEST_OUTAGE_MS) throw error
    } finally {
      clearTimeout(silence)
      cut.abort() // whoever stops listening lets the connection go
    }
    await pause(pauseMs * (0.5 + Math.random() / 2), signal)
  }
}
