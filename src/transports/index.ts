/** Every transport, by the scheme of its agents' addresses. A new one is added here and nowhere else. */
import type { HostPolicy } from '../contracts/host.ts'
import { createHttpTransport } from './http.ts'
import type { Transport } from './transport.ts'

export type Transports = { readonly http: Transport }

/** @param deps.policy which hosts may be posted to */
export const createTransports = (deps: { policy: HostPolicy }): Transports => ({
  http: createHttpTransport({ policy: deps.policy }),
})
