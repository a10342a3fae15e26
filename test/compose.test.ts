import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { readConfig } from '../src/config.ts'

type Service = {
  image?: string
  command: string[]
  volumes?: string[]
  environment?: Record<string, string>
  depends_on?: Record<string, { condition: string }>
  healthcheck?: { test: string[] }
  deploy?: { replicas: number }
}

const root = fileURLToPath(new URL('..', import.meta.url))
const { services } = parse(readFileSync(`${root}/docker-compose.yml`, 'utf8'), { merge: true }) as { services: Record<string, Service> }

test('what docker-compose.yml runs is there, and each service says when it is healthy', () => {
  expect(Object.keys(services)).toEqual(['valkey', 'api', 'worker', 'text-agent', 'cost-agent'])
  for (const [name, service] of Object.entries(services)) {
    expect(service.healthcheck?.test.length, name).toBeGreaterThan(1)
    const script = service.command.find((word) => /\.(ts|py)$/.test(word))
    if (script) expect(existsSync(`${root}/${script}`), script).toBe(true)
    for (const [on, { condition }] of Object.entries(service.depends_on ?? {})) {
      expect(services[on]?.healthcheck, `${name} waits for ${on}`).toBeDefined()
      expect(condition).toBe('service_healthy')
    }
  }
})

test('every folder and file that it mounts is there: Docker would make an empty folder of one that is not', () => {
  for (const { volumes = [] } of Object.values(services)) {
    for (const place of volumes.map((volume) => volume.split(':')[0]!).filter((p) => p.startsWith('.'))) expect(existsSync(`${root}/${place}`), place).toBe(true)
  }
  expect(services['text-agent']?.volumes?.length).toBeGreaterThan(0)
})

test('its store forgets nothing: AOF on, nothing evicted', () => {
  const { command } = services['valkey'] ?? { command: [] }
  expect(command.join(' ')).toContain('--appendonly yes')
  expect(command.join(' ')).toContain('--maxmemory-policy noeviction')
  expect(command.join(' ')).toMatch(/--maxmemory \$\{STORE_MAXMEMORY:-\d+gb\}$/) // without one it never counts as full
})

test('the settings of api and workers are ones that they accept, and there are two workers', () => {
  for (const name of ['api', 'worker']) {
    const env = Object.fromEntries(Object.entries(services[name]?.environment ?? {}).map(([k, v]) => [k, v.replace(/^\$\{\w+:-(.*)\}$/, '$1').replace(/^\$\{\w+:\?.*\}$/, 'k'.repeat(64))]))
    expect(readConfig(env).redisUrl).toBe('redis://valkey:6379')
  }
  expect(services['worker']?.deploy?.replicas).toBe(2)
  // Where it listens nobody comes in without a key: there is one, and who needs one has it.
  expect(services['api']?.environment?.['ADMIN_KEY']).toMatch(/^\$\{ADMIN_KEY:\?/)
  expect(services['worker']?.environment).not.toHaveProperty('ADMIN_KEY')
  for (const agent of ['text-agent', 'cost-agent']) expect(services[agent]?.environment?.['SWITCHYARD_API_KEY']).toBe('${AGENT_KEY:-${ADMIN_KEY}}')
})
