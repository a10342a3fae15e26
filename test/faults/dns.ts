/** A DNS server in the trial itself, on port 53 of a loopback address of its own, and the command that makes a process ask it (both need root). */
import { createSocket } from 'node:dgram'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** What a name resolves to: an address, `null` when there is no such name; after so long. `nth`: from 1, how often it has been asked. */
export type Zone = (name: string, nth: number) => { address: string | null; afterMs?: number }

const ADDRESS = `127.53.${(process.pid >> 8) & 255}.${(process.pid & 255) || 1}`
const A = 1
const NXDOMAIN = 3

let file: string | undefined
/** A mount namespace in which /etc/resolv.conf names this server. */
export const withDns = (): readonly string[] => {
  if (file === undefined) {
    const dir = mkdtempSync(join(tmpdir(), 'sy-dns-'))
    process.once('exit', () => rmSync(dir, { recursive: true, force: true }))
    file = join(dir, 'resolv.conf')
    writeFileSync(file, `nameserver ${ADDRESS}\n`)
  }
  return ['unshare', '-m', 'sh', '-c', 'mount --bind "$0" /etc/resolv.conf && exec "$@"', file]
}

export const startDns = async (zone: Zone) => {
  const socket = createSocket('udp4')
  /** How often each name was asked for its IPv4 addresses. */
  const asked = new Map<string, number>()
  const timers = new Set<NodeJS.Timeout>()
  socket.on('message', (query, from) => {
    let at = 12
    const labels: string[] = []
    for (let n; (n = query[at]!) > 0; at += n + 1) labels.push(query.toString('latin1', at + 1, at + 1 + n))
    const type = query.readUInt16BE(at + 1)
    const question = query.subarray(12, at + 5)
    const name = labels.join('.').toLowerCase()
    if (type === A) asked.set(name, (asked.get(name) ?? 0) + 1)
    const { address, afterMs = 0 } = zone(name, asked.get(name) ?? 1)
    const answers = type === A && address !== null ? 1 : 0
    const head = Buffer.alloc(12)
    query.copy(head, 0, 0, 2)
    head.writeUInt16BE(0x8180 | (address === null ? NXDOMAIN : 0), 2)
    head.writeUInt16BE(1, 4)
    head.writeUInt16BE(answers, 6)
    // A pointer to the name in the question, A, IN, kept for 0 s, four bytes.
    const record = answers ? Buffer.from([0xc0, 0x0c, 0, A, 0, 1, 0, 0, 0, 0, 0, 4, ...address!.split('.').map(Number)]) : Buffer.alloc(0)
    const timer = setTimeout(() => {
      timers.delete(timer)
      socket.send(Buffer.concat([head, question, record]), from.port, from.address)
    }, afterMs)
    timers.add(timer)
  })
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(53, ADDRESS, resolve)
  })
  return {
    asked,
    close: () => {
      for (const timer of timers) clearTimeout(timer)
      socket.close()
    },
  }
}
