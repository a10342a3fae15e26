/** Where webhooks may go: the grammar of callback_url, the policy of addresses, and how one is posted. */
import { readFile } from 'node:fs/promises'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { afterAll, describe, expect, test } from 'vitest'
import { verifyWebhook, WebhookVerificationError } from '../sdk/typescript/client.ts'
import { CallbackUrl, createCallbackPolicy, readReceiver } from '../src/contracts/callback.ts'
import { newSecret, readSecret, signedHeaders } from '../src/contracts/signature.ts'
import { HostNotAllowed } from '../src/errors.ts'
import { createWebhookSender } from '../src/transports/webhook.ts'
import { startReceiver, type Answering } from './receiver.ts'
import { until } from './system.ts'

const faultOf = (url: unknown): string | undefined => CallbackUrl.safeParse(url).error?.issues[0]?.message
const refusal = (url: string, cidrs: string[] = [], own: { host: string; port: number }[] = []): string | null => {
  try {
    createCallbackPolicy({ cidrs, own: () => own }).check(url)
    return null
  } catch (error) {
    if (!(error instanceof HostNotAllowed)) throw error
    return error.message
  }
}

describe('a callback_url', () => {
  test('may be any http or https URL in its usual spelling', () => {
    for (const url of ['https://app.example/hooks', 'https://APP.example:8443/a/b?x=1&y=%20', 'http://10.0.0.7:3000', 'https://[2606:4700::1111]/', 'https://xn--bcher-kva.example/', 'HTTPS://a.example', 'https://app.example:443/', `https://a.example/${'x'.repeat(2000)}`]) {
      expect(faultOf(url), url).toBeUndefined()
    }
    expect(readReceiver('https://APP.example:443/a?b=1')).toEqual({ origin: 'https://app.example', secure: true, host: 'app.example', port: 443, path: '/a?b=1' })
    expect(readReceiver('http://[::1]:8080')).toEqual({ origin: 'http://[::1]:8080', secure: false, host: '::1', port: 8080, path: '/' })
  })

  test('is refused with words where it is none, holds a password, or disguises its host', () => {
    const form = /^must be a URL such as/
    for (const url of ['', 'app.example', '/hooks', '//a.example', 'ftp://a.example', 'javascript:alert(1)', 'https:/a.example', 'https://', 'https://a.example/ä', 'https://a b', 'https://a.example/\n', ' https://a.example', 'https://a.example:99999', `https://a.example/${'x'.repeat(2048)}`, 5, null, {}]) {
      expect(faultOf(url), String(url)).toMatch(form)
    }
    for (const url of ['https://me:secret@a.example', 'https://me@a.example/']) expect(faultOf(url)).toMatch(/^must hold no user and no password/)
    expect(faultOf('https://a.example/#x')).toMatch(/fragment/)
    for (const [url, host] of [['http://2130706433/', '127.0.0.1'], ['http://0x7f.1/', '127.0.0.1'], ['http://0177.0.0.1/', '127.0.0.1'], ['http://127.1/', '127.0.0.1'], ['http://127.0.0.1./', '127.0.0.1'], ['https://%61.example/', 'a.example'], ['https:\\\\a.example', null], ['https:///a.example', 'a.example'], ['https://[::0001]/', '[::1]']] as const) {
      expect(faultOf(url), url).toMatch(host === null ? form : `must have its host in the usual spelling, as ${host}`)
    }
    for (const url of ['https://[::ffff:7f00:1]/', 'https://[64:ff9b::7f00:1]/', 'https://[2002:7f00:1::]/', 'https://[::7f00:1]/']) expect(faultOf(url), url).toMatch(/stands for an IPv4 address/)
    expect(faultOf('https://a.example:0/')).toMatch(/^must have a host and a port/)
  })
})

describe('the policy', () => {
  test('is https to public addresses, unless ranges are named', () => {
    for (const url of ['https://app.example', 'https://93.184.216.34', 'https://[2606:4700::1111]']) expect(refusal(url), url).toBeNull()
    for (const url of ['https://10.0.0.1', 'https://127.0.0.1', 'https://192.168.1.1', 'https://172.31.0.1', 'https://100.64.0.1', 'https://198.18.0.1', 'https://[::1]', 'https://[fd00::1]', 'https://[2001:db8::1]', 'https://localhost', 'https://a.localhost']) {
      expect(refusal(url), url).toMatch(/is not a public address.*WEBHOOK_CIDRS/)
    }
    for (const url of ['http://app.example', 'http://93.184.216.34']) expect(refusal(url), url).toMatch(/https/)
    for (const url of ['http://10.0.0.1', 'https://10.9.9.9', 'http://app.example', 'https://93.184.216.34', 'http://localhost']) expect(refusal(url, ['10.0.0.0/8']), url).toBeNull()
    for (const url of ['http://10.0.0.1', 'http://93.184.216.34']) expect(refusal(url, ['192.168.0.0/16']), url).not.toBeNull()
  })

  test('never opens metadata, link-local, multicast and unspecified addresses, nor ourselves', () => {
    const any = ['0.0.0.0/0', '::/0']
    for (const host of ['169.254.169.254', '0.0.0.0', '224.0.0.1', '255.255.255.255', '100.100.100.200', '[::]', '[fe80::1]', '[ff02::1]', '[fd00:ec2::254]', 'metadata.google.internal', 'METADATA.google.internal.']) {
      for (const cidrs of [[], any]) expect(refusal(`https://${host}/`, cidrs), host).not.toBeNull()
    }
    const own = [{ host: '0.0.0.0', port: 8080 }, { host: 'redis', port: 6379 }]
    expect(refusal('http://127.0.0.1:8080/agents/cleanup', any, own)).toMatch(/this Switchyard/)
    expect(refusal('http://redis:6379/', any, own)).toMatch(/this Switchyard/)
    expect(refusal('http://127.0.0.1:8081/', any, own)).toBeNull()
  })

  test('is asked of every address that a name turns out to have', () => {
    const { https, http } = createCallbackPolicy({ cidrs: ['10.0.0.0/8'] })
    const all = ['93.184.216.34', '10.0.0.1', '127.0.0.1', '169.254.169.254', '::ffff:127.0.0.1', '::ffff:10.0.0.1', '64:ff9b::5db8:d822', '64:ff9b::7f00:1', '2002:7f00:1::', '::1', 'fe80::1%eth0', '2606:4700::1111', 'x']
    expect(all.filter((a) => https.objection(a, 443) === null)).toEqual(['93.184.216.34', '10.0.0.1', '::ffff:10.0.0.1', '64:ff9b::5db8:d822', '2606:4700::1111'])
    expect(all.filter((a) => http.objection(a, 80) === null)).toEqual(['10.0.0.1', '::ffff:10.0.0.1'])
  })
})

describe('the sender', () => {
  const closing: (() => unknown)[] = []
  afterAll(() => Promise.all(closing.map((close) => close())))
  const receiving = async (answer: Answering) => {
    const made = await startReceiver(answer)
    closing.push(made.close)
    return made
  }
  const sending = (cidrs: string[] = ['127.0.0.0/8'], addresses: string[] = []) => {
    const sender = createWebhookSender({ policy: createCallbackPolicy({ cidrs }), system: false, resolve: async () => addresses.map((address) => ({ address, family: 4 })) })
    closing.push(sender.close)
    return (url: string, timeoutMs = 5000) => sender.send(url, { a: 'b' }, Buffer.from('{}'), timeoutMs).outcome
  }

  test('says the status and no more: redirects are not followed, bodies neither shown nor read to their end', async () => {
    const { url, came } = await receiving(({ path }, res) => {
      if (path === '/moved') return void res.writeHead(307, { location: '/secret' }).end()
      if (path === '/busy') return void res.writeHead(503, { 'retry-after': '7' }).end('so busy')
      if (path === '/down') return void res.writeHead(500, { 'retry-after': '7' }).end('secret')
      res.writeHead(200)
      // For ever, and far more than anybody wants.
      const more = setInterval(() => res.write('x'.repeat(4096)), 1)
      res.once('close', () => (clearInterval(more), closed()))
    })
    let closed = () => {}
    const cut = new Promise<void>((resolve) => (closed = resolve))
    const send = sending()
    expect(await send(`${url}/moved`)).toEqual({ statusCode: 307, error: 'the receiver answered 307: redirects are never followed', retryAfterMs: undefined })
    expect(await send(`${url}/busy`)).toEqual({ statusCode: 503, error: 'the receiver answered 503', retryAfterMs: 7000 })
    expect(await send(`${url}/down`)).toEqual({ statusCode: 500, error: 'the receiver answered 500', retryAfterMs: undefined })
    expect(await send(`${url}/endless`)).toEqual({ statusCode: 200, error: '', retryAfterMs: undefined })
    await cut
    expect(came.map((c) => c.path)).toEqual(['/moved', '/busy', '/down', '/endless'])
  })

  test('gives up at its deadline, whatever comes by then, and says what broke', async () => {
    const sockets: Socket[] = []
    const server = createServer((socket) => {
      sockets.push(socket)
      socket.on('error', () => {})
      const drip = setInterval(() => socket.write('HTTP/1.1 103 Early Hints\r\n\r\n'), 10)
      socket.once('close', () => clearInterval(drip))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    closing.push(() => server.close())
    const { port } = server.address() as AddressInfo
    const send = sending()
    expect(await send(`http://127.0.0.1:${port}`, 200)).toMatchObject({ statusCode: null, error: 'no answer from the receiver within 0.2 s' })
    await until(() => sockets[0]!.destroyed)
    const { url, close } = await startReceiver()
    await close()
    expect(await send(url)).toMatchObject({ statusCode: null, error: 'no connection to the receiver: ECONNREFUSED' })
  })

  test('connects to no address that is not allowed, however it is come to, and does not say which that was', async () => {
    const { port, came } = await receiving(() => 200)
    expect((await sending([], ['127.0.0.1', '10.0.0.1'])(`https://app.example:${port}/`)).error).toBe('its host has no address that webhooks may go to')
    expect((await sending(['10.0.0.0/8'], ['127.0.0.1'])(`http://app.example:${port}/`)).error).toBe('its host has no address that webhooks may go to')
    expect((await sending(['10.0.0.0/8'], ['127.0.0.1'])(`http://127.0.0.1:${port}/`)).error).toMatch(/is not a public address/)
    expect((await sending([])(`http://93.184.216.34:${port}/`)).error).toMatch(/https only/)
    expect(came).toEqual([])
    expect(await sending(['127.0.0.0/8'], ['10.0.0.1', '127.0.0.1'])(`http://app.example:${port}/`)).toMatchObject({ statusCode: 200 })
  })
})

describe('verifyWebhook', () => {
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
  const other = `whsec_${Buffer.alloc(24).toString('base64')}`

  test('takes the test vector that docs/webhooks.md tells', async () => {
    const text = await readFile(new URL('../docs/webhooks.md', import.meta.url), 'utf8')
    const vector = Object.fromEntries([...text.matchAll(/^(secret|webhook-id|webhook-timestamp|webhook-signature|body): (.*)$/gm)].map(([, name, value]) => [name, value]))
    expect(vector.secret).toBe(secret)
    const { secret: _, body, ...headers } = vector
    const event = { test: 2432232314 }
    const at = Number(headers['webhook-timestamp'])
    expect(verifyWebhook(secret, headers, body!, at)).toEqual(event)
    expect(verifyWebhook(`${other} ${secret}`, new Headers(headers), Buffer.from(body!), at + 299)).toEqual(event)
    expect(verifyWebhook([other, secret], { ...headers, 'webhook-id': undefined, 'Webhook-Id': headers['webhook-id'] }, new TextEncoder().encode(body), at - 299)).toEqual(event)
    const wrong: [string | string[], Record<string, string | undefined>, string, number][] = [
      [other, headers, body!, at], [secret, headers, `${body} `, at], [secret, headers, body!, at + 301], [secret, headers, body!, at - 301],
      [secret, { ...headers, 'webhook-id': 'x' }, body!, at], [secret, { ...headers, 'webhook-signature': undefined }, body!, at], [secret, {}, body!, at],
    ]
    for (const [by, with_, what, now] of wrong) expect(() => verifyWebhook(by, with_, what, now)).toThrow(WebhookVerificationError)
    expect(() => verifyWebhook(secret, headers, body!)).toThrow(/5 minutes/)
    for (const none of ['', [], 'whsec_', 'secret']) expect(() => verifyWebhook(none, headers, body!, at)).toThrow(TypeError)
  })

  test('takes what is signed here, by each of several keys', () => {
    const keys = [other, secret].map((one) => readSecret(one)!)
    const body = Buffer.from('{"type":"task.completed"}')
    const headers = signedHeaders(keys, { id: 'msg_1', timestamp: Math.floor(Date.now() / 1000), body })
    expect(headers['webhook-signature']!.split(' ')).toHaveLength(2)
    for (const one of [other, secret]) expect(verifyWebhook(one, headers, body)).toEqual({ type: 'task.completed' })
    expect(readSecret(newSecret())).toHaveLength(32)
    for (const bad of ['', 'whsec_', 'whsec_!', other.slice(6), 'whsec_AAAA', `whsec_${Buffer.alloc(65).toString('base64')}`]) expect(readSecret(bad), bad).toBeNull()
  })
})
