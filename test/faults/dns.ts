/** A DNS server in the trial itself, on port 53 of a loopback address of its own, and the command that makes a process ask it (both need root); or on a port of its own. */
import { createSocket } from 'node:dgram'
import { isIPv4, type AddressInfo } from 'node:net'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** What a name resolves to: an address or several, `null` when there is no such name; after so long. `nth`: from 1, how often it has been asked. */
export type Zone = (name: string, nth: number) => { address: string | readonly string[] | null; afterMs?: number }

const ADDRESS = `127.53.${(process.pid >> 8) & 255}.${(process.pid & 255) || 1}`
const A = 1
const AAAA = 28
const NXDOMAIN = 3

const bytesOf = (address: string): number[] => {
  if (isIPv4(address)) return address.split('.').map(Number)
  const [head, tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::') as [string, string | undefined]
  const groups = (text: string | undefined) => (text ? text.split(':') : [])
  const gap = tail === undefined ? 0 : 8 - groups(head).length - groups(tail).length
  return [...groups(head), ...new Array<string>(gap).fill('0'), ...groups(tail)].flatMap((group) => [parseInt(group, 16) >> 8, parseInt(group, 16) & 255])
}

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

/** @param at another place than port 53, for resolvers that are told where */
export const startDns = async (zone: Zone, at = { address: ADDRESS, port: 53 }) => {
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
    const answers = [address ?? []].flat().filter((one) => type === (isIPv4(one) ? A : AAAA))
    const head = Buffer.alloc(12)
    query.copy(head, 0, 0, 2)
    head.writeUInt16BE(0x8180 | (address === null ? NXDOMAIN : 0), 2)
    head.writeUInt16BE(1, 4)
    head.writeUInt16BE(answers.length, 6)
    // A pointer to the name in the question, its type, IN, kept for 0 s, the address.
    const records = answers.map(bytesOf).map((bytes) => Buffer.from([0xc0, 0x0c, 0, type, 0, 1, 0, 0, 0, 0, 0, bytes.length, ...bytes]))
    const timer = setTimeout(() => {
      timers.delete(timer)
      socket.send(Buffer.concat([head, question, ...records]), from.port, from.address)
    }, afterMs)
    timers.add(timer)
  })
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(at.port, at.address, resolve)
  })
  return {
    asked,
    port: (socket.address() as AddressInfo).port,
    close: () => {
      for (const timer of timers) clearTimeout(timer)
      socket.close()
    },
  }
}
