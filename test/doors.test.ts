/** How connections come into an API process. */
import { createServer } from 'node:http'
import { connect, type Socket } from 'node:net'
import { expect, test } from 'vitest'
import { createDoors } from '../src/api/doors.ts'
import { ConfigError } from '../src/errors.ts'
import { listen } from '../src/process.ts'

const open = async (port = 0) => {
  const server = createServer((req, res) => void req.resume().once('end', () => res.end('here')))
  const doors = createDoors(server)
  const url = await listen(server, { host: '127.0.0.1', port, setting: 'PORT', shared: doors.shared })
  await doors.open('127.0.0.1')
  const close = async () => {
    const closed = doors.close()
    server.closeAllConnections()
    await closed
  }
  return { server, url, port: Number(new URL(url).port), close }
}

test.runIf(process.platform === 'linux')('many that come at once are taken many in a turn of the loop, and each is served', async () => {
  const { server, url, port, close } = await open()
  let taken = 0
  server.on('connection', () => taken++)
  const clients: Socket[] = Array.from({ length: 400 }, () => connect(port, '127.0.0.1'))
  let turns = 0
  while (taken < clients.length) {
    turns++
    await new Promise((resolve) => setImmediate(resolve))
  }
  expect(turns).toBeLessThan(200) // one in a turn, without further doors
  const answers = await Promise.all(clients.map((client) => new Promise<string>((resolve) => client.once('data', (data) => resolve(String(data))).write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'))))
  expect(new Set(answers.map((a) => a.split('\r\n')[0]))).toEqual(new Set(['HTTP/1.1 200 OK']))
  await close()
  await expect(fetch(url)).rejects.toThrow('fetch failed')
})

test('a port is one process’s own, though several sockets listen there', async () => {
  const { port, close } = await open()
  await expect(open(port)).rejects.toThrow(new ConfigError(`Port ${port} is taken: set PORT to another one, or to 0 for a free one.`))
  await close()
  const again = await open(port)
  await again.close()
})
