import { describe, expect, test } from 'vitest'
import { createHostPolicy, isLoopback, parseHost } from '../src/contracts/host.ts'
import { ConfigError, HostNotAllowed, InvalidRequest } from '../src/errors.ts'

const pointers = (host: string, port?: number): string[] => {
  try {
    parseHost(host, port)
    return []
  } catch (error) {
    if (error instanceof InvalidRequest) return error.faults?.map((f) => f.pointer) ?? []
    throw error
  }
}

describe('a host', () => {
  test.each([
    ['localhost', 80, 'localhost', 80],
    ['agent-1.cost.svc.cluster.local', 65535, 'agent-1.cost.svc.cluster.local', 65535],
    ['my_agent', 1, 'my_agent', 1],
    ['Agent.Example.COM', 8080, 'agent.example.com', 8080],
    ['example.com.', 8080, 'example.com.', 8080],
    ['xn--bcher-kva.example', 80, 'xn--bcher-kva.example', 80],
    ['10.0.0.7', 80, '10.0.0.7', 80],
    ['127.0.0.1:9000', undefined, '127.0.0.1', 9000],
    ['agent:9000', 9000, 'agent', 9000],
    ['[::1]:9000', undefined, '::1', 9000],
    ['[fd00::7]', 9000, 'fd00::7', 9000],
    ['::1', 9000, '::1', 9000],
    ['FD00:EC2::254', 80, 'fd00:ec2::254', 80],
    ['1a.example', 80, '1a.example', 80],
  ])('%s with port %s is read as %s port %i', (host, port, readHost, readPort) => {
    expect(parseHost(host, port)).toEqual({ host: readHost, port: readPort })
  })

  test.each([
    '2130706433', '0x7f.1', '0x7f000001', '0177.0.0.1', '127.1', '1.2.3', '127.0.0.01', '256.0.0.1', '1.2.3.4.5', '①②⑦.0.0.1', '127。0。0。1', '127.0.0.1.', '169.254.169.254.', 'a.1', 'a.0x', '0x',
    '[::127.0.0.1]', '::127.0.0.1', '::7f00:1', '::ffff:127.0.0.1', '::ffff:7f00:1', '::ffff:0:7f00:1', '64:ff9b::7f00:1', '64:ff9b:1::7f00:1', '2002:7f00:1::', '2001:0:1::2',
    'fe80::1%lo', '[fe80::1%25lo]', '0:0:0:0:0:0:0:1', '::0:1', '[::1', '::1]', '[]', '[1.2.3.4]', '[localhost]', ':::',
    'u@h', 'u:p@h', 'h#', 'h/', 'h?', 'http://h', 'h\\', 'h\r\nx', 'h\n', ' h', 'h ', 'h\t', 'h\0', 'a b', 'h%2e', '', '.', '..', 'a..b', '.a', '-a', 'a-', 'é.example', 'agent\u212a', `${'a'.repeat(64)}.b`, 'a.'.repeat(130), '*', '${x}', "h'", 'h"', 'h,i',
  ])('%j is refused by its grammar', (host) => {
    expect(pointers(host, 80)).toEqual(['/host'])
  })

  test.each(['h:', 'h:0', 'h:65536', 'h:080', 'h\r\nx: y', 'h:80.5', 'h:-1', 'h:+1', 'h:0x50', 'h: 80', 'h:８０', '[::1]:', '[::1]x', '[::1]:99999', 'h:8\n'])('%j is refused for the port in it', (host) => {
    expect(pointers(host)).toContain('/host')
  })

  test.each([0, 65536, -1, 80.5, NaN])('port %s is refused', (port) => {
    expect(pointers('h', port)).toEqual(['/port'])
  })

  test('that disguises an IPv4 address is told how to write it', () => {
    expect(() => parseHost('0x7f.1', 80)).toThrow('/host an IPv4 address is four decimal numbers')
    expect(() => parseHost('::ffff:7f00:1', 80)).toThrow('/host stands for an IPv4 address')
    expect(() => parseHost('0:0:0:0:0:0:0:1', 80)).toThrow('/host must be written as ::1')
  })

  test('needs a port, here or there, and the same one', () => {
    expect(pointers('h')).toEqual(['/port'])
    expect(pointers('h:80', 81)).toEqual(['/port'])
    expect(pointers('h/')).toEqual(['/host', '/port'])
  })
})

describe('the policy of hosts', () => {
  const policy = createHostPolicy({ cidrs: [] })

  test.each([
    '169.254.169.254', '169.254.0.1', '0.0.0.0', '0.1.2.3', '224.0.0.1', '239.255.255.255', '255.255.255.255', '240.0.0.1', '100.100.100.200', '192.0.0.192', '168.63.129.16',
    '::', 'fe80::1', 'febf::1', 'fec0::1', 'ff02::1', 'fd00:ec2::254', 'fd00:ec2::23', 'fd20:ce::254', 'fd00:c1::a9fe:a9fe', 'fd00:100::100:200', 'fd00:a9fe:a9fe::1', 'fd00:42::42',
  ])('forbids %s, as a literal and when a name resolves to it', (address) => {
    expect(() => policy.checkLiteral(address, 80)).toThrow(HostNotAllowed)
    expect(policy.objection(address)).not.toBeNull()
  })

  test.each(['::ffff:169.254.169.254', '::ffff:a9fe:a9fe', '::169.254.169.254', '64:ff9b::a9fe:a9fe', '64:ff9b:1::a9fe:a9fe', '2002:a9fe:a9fe::1', '::ffff:0:a9fe:a9fe', '2001:0:1:2:3:4:5601:5601', '::ffff:0.0.0.0', '64:ff9b::e000:1', 'fd12::5efe:a9fe:a9fe', 'fd12::200:5efe:169.254.169.254', 'fe80::1%lo', '0:0:0:0:0:ffff:a9fe:a9fe'])(
    'forbids %s, which stands for a forbidden address',
    (address) => {
      expect(policy.objection(address)).not.toBeNull()
    },
  )

  test.each(['127.0.0.1', '::1', '10.1.2.3', '172.16.0.1', '192.168.1.1', '100.64.0.1', '8.8.8.8', 'fd00::1', '2606:4700::1111', '::ffff:10.0.0.1', '64:ff9b::808:808'])('allows %s', (address) => {
    expect(policy.objection(address)).toBeNull()
    expect(() => policy.checkLiteral(address, 80)).not.toThrow()
  })

  test.each(['', 'localhost', '127.0.0.1.', '2130706433', '127.1'])('does not take %j for an address', (address) => {
    expect(policy.objection(address)).not.toBeNull()
  })

  test.each(['metadata.google.internal', 'METADATA.google.internal', 'metadata.google.internal.', 'metadata', 'instance-data', 'instance-data.ec2.internal', 'metadata.tencentyun.com'])('forbids the metadata service %s by name', (name) => {
    expect(() => policy.checkLiteral(name, 80)).toThrow(HostNotAllowed)
  })

  test.each(['localhost', 'metadata-store', 'agent.metadata.example'])('allows the name %s', (name) => {
    expect(() => policy.checkLiteral(name, 80)).not.toThrow()
  })

  test('is narrowed by ranges, which never open what is forbidden', () => {
    const narrow = createHostPolicy({ cidrs: ['10.0.0.0/8', 'fd00::/8', '192.168.1.1', '169.254.0.0/16'] })
    const allowed = ['10.9.9.9', '::ffff:10.0.0.1', 'fd12::1', '192.168.1.1']
    const refused = ['127.0.0.1', '11.0.0.1', '192.168.1.2', '::1', '169.254.169.254', 'fd00:ec2::254']
    expect(allowed.filter((a) => narrow.objection(a) !== null)).toEqual([])
    expect(refused.filter((a) => narrow.objection(a) === null)).toEqual([])
    expect(() => narrow.checkLiteral('127.0.0.1', 80)).toThrow(/AGENT_CIDRS/)
    expect(() => narrow.checkLiteral('agent.example', 80)).not.toThrow()
  })

  describe('where others reach this Switchyard', () => {
    const open = createHostPolicy({ cidrs: [], loopback: false })

    test.each(['127.0.0.1', '127.9.9.9', '::1', 'localhost', 'LOCALHOST.', 'a.localhost'])('refuses %s, and says what to set', (host) => {
      expect(() => open.checkLiteral(host, 80)).toThrow(/of this machine alone.*HOST.*AGENT_CIDRS.*127\.0\.0\.0\/8 and ::1/)
    })

    test.each(['127.0.0.1', '::1', '::ffff:127.0.0.1', '::7f00:1', '64:ff9b::7f00:1', '2002:7f00:1::', '::ffff:0:7f00:1', 'fd12::5efe:7f00:1'])('does not connect to %s, whatever name led there', (address) => {
      expect(open.objection(address, 80)).toMatch(/AGENT_CIDRS/)
    })

    test.each([['10.0.0.1'], ['192.168.1.1'], ['fd00::1'], ['8.8.8.8']])('still allows %s', (host) => {
      expect(() => open.checkLiteral(host, 80)).not.toThrow()
      expect(open.objection(host, 80)).toBeNull()
    })

    test('allows loopback where AGENT_CIDRS names it', () => {
      for (const cidrs of [['127.0.0.0/8', '::1', '10.0.0.0/8'], ['0.0.0.0/0', '::/0']]) {
        const chosen = createHostPolicy({ cidrs, loopback: false })
        for (const host of ['127.0.0.1', '::1', 'localhost', '10.0.0.1']) expect(() => chosen.checkLiteral(host, 80)).not.toThrow()
        for (const address of ['127.0.0.1', '::1', '10.0.0.1']) expect(chosen.objection(address, 80)).toBeNull()
        expect(chosen.objection('169.254.169.254')).not.toBeNull()
      }
      const v4 = createHostPolicy({ cidrs: ['127.0.0.1'], loopback: false })
      expect(() => v4.checkLiteral('localhost', 80)).not.toThrow()
      expect(v4.objection('::1')).toMatch(/outside the ranges/)
      expect(() => createHostPolicy({ cidrs: ['10.0.0.0/8'] }).checkLiteral('localhost', 80)).toThrow(/outside the ranges/)
    })

    test.each([['127.0.0.1', true], ['127.0.0.2', true], ['::1', true], ['localhost', true], ['::ffff:127.0.0.1', true], ['0.0.0.0', false], ['::', false], ['192.168.1.5', false], ['my-host', false], ['127.example', false]])('HOST=%s counts as loopback: %s', (host, is) => {
      expect(isLoopback(host)).toBe(is)
    })
  })

  test.each(['10.0.0.0/33', '10.0.0.0/', '10.0.0/8', 'fd00::/129', 'x/8', '10.0.0.0/8/8', 'localhost', '10.0.0.0/-1'])('refuses the range %s', (cidr) => {
    expect(() => createHostPolicy({ cidrs: [cidr] })).toThrow(ConfigError)
  })

  test('never posts to ourselves, under whichever name', () => {
    const loopback = createHostPolicy({ cidrs: [], own: () => [{ host: '127.0.0.1', port: 8080 }] })
    for (const host of ['127.0.0.1', 'localhost', 'LOCALHOST.', '::1', 'a.localhost', '127.0.0.2']) expect(() => loopback.checkLiteral(host, 8080)).toThrow(HostNotAllowed)
    expect(() => loopback.checkLiteral('127.0.0.1', 8081)).not.toThrow()
    expect(() => loopback.checkLiteral('10.0.0.1', 8080)).not.toThrow()
    expect(loopback.objection('127.0.0.1', 8080)).not.toBeNull()
    expect(loopback.objection('127.0.0.1', 8081)).toBeNull()
    const everywhere = createHostPolicy({ cidrs: [], own: () => [{ host: '0.0.0.0', port: 8080 }, { host: 'redis', port: 6379 }] })
    expect(() => everywhere.checkLiteral('localhost', 8080)).toThrow(HostNotAllowed)
    expect(() => everywhere.checkLiteral('redis', 6379)).toThrow(HostNotAllowed)
    expect(() => everywhere.checkLiteral('redis', 6380)).not.toThrow()
  })
})
