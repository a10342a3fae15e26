/**
 * Who comes in while no keys are in force: whoever reaches us, but no page of somebody else's in a browser that does. Such a page can send what a form can, to any address
 * of the machine or network it is opened in; and under a name whose DNS answer changes to one of these (DNS rebinding) it is, for the browser, a page of ours. So the
 * name must be one that nobody outside can give an address, and what a browser says of where a request comes from is believed: a page cannot change that.
 */
import type { IncomingMessage } from 'node:http'
import { isIP } from 'node:net'
import { Forbidden } from '../errors.ts'

const KEY = 'or make a key (`switchyard keys create --role admin`), which whoever asks then sends'
const BY_NAME = `no keys are in force here, and the name by which this was asked (Host) may be somebody else’s: ask by http://127.0.0.1 or http://localhost and the port, let ALLOWED_HOSTS have that name, ${KEY}`
const BY_SITE = `no keys are in force here, and this comes from a page of another site (Origin, Sec-Fetch-Site), which may do nothing but lead here: send it from elsewhere, ${KEY}`

/** `name:8080`, `10.0.0.5`, `[::1]:8080` without the port; a name in lower case and without the dot that may end it. */
const nameIn = (host: string): string => host.toLowerCase().replace(/:\d*$/, '').replace(/\.$/, '').replace(/^\[(.*)\]$/, '$1')

export type VisitorDeps = {
  /** Where we listen, as it is set. */
  host: string
  /** Only this machine reaches us. */
  loopback: boolean
  /** Names that are ours too; `.example` is every name that ends so. */
  allowed: readonly string[]
}

/** Why a request is refused; null when it is not. */
export type CheckVisitor = (req: Pick<IncomingMessage, 'method' | 'headers'>) => Forbidden | null

/** Refuses what comes by a name that may be somebody else's, or from another site's page. */
export const createVisitorCheck = ({ host, loopback, allowed }: VisitorDeps): CheckVisitor => {
  const own = host.toLowerCase()
  const isOurs = (name: string): boolean =>
    isIP(name) !== 0 ||
    (/^[\w.-]+$/.test(name) &&
      (name === 'localhost' ||
        name.endsWith('.localhost') ||
        name === own ||
        // One without a dot is nobody's outside: that of a container, a service, a machine of this network. Who could give it another address there reaches us anyhow.
        (!loopback && !name.includes('.')) ||
        allowed.some((one) => (one.startsWith('.') ? name.endsWith(one) : name === one))))

  const isOfAnotherSite = ({ method, headers }: Parameters<CheckVisitor>[0]): boolean => {
    const site = headers['sec-fetch-site']
    if (site === 'same-origin' || site === 'none') return false
    // Browsers tell the site only to addresses they trust (https, localhost), but with everything but a plain GET the origin.
    const { origin } = headers
    if (origin !== undefined && origin !== `http://${headers.host}` && origin !== `https://${headers.host}`) return true
    // To be led here by a link is no harm; what is answered, another site's page may not read.
    return site !== undefined && method !== 'GET' && method !== 'HEAD'
  }

  /** The last name that was ours: most come by the same. */
  let good: string | undefined
  return (req) => {
    const { host: name } = req.headers
    if (name !== undefined && name !== good) {
      if (!isOurs(nameIn(name))) return new Forbidden(BY_NAME)
      good = name
    }
    return isOfAnotherSite(req) ? new Forbidden(BY_SITE) : null
  }
}
