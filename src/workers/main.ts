/** A dispatcher process. */

// Agents' names are looked up by getaddrinfo, which takes a thread each, and gets half of those there are: of the usual four, two names whose servers do
// not answer would take all, and hold up every other. Said before anything else is loaded: the first use of a thread makes them all.
// oxlint-disable-next-line node/no-process-env -- written, for Node alone
process.env.UV_THREADPOOL_SIZE ??= '64'

const { createProcess } = await import('../process.ts')
const { worker } = await import('./worker.ts')

await createProcess(worker).run()
