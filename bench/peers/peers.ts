/** The peers that `--peers` takes, and what makes each ready to be started. */
import type { SystemName } from '../system.ts'
import { findCelery } from './celery.ts'
import { fetchPeer } from './fetch.ts'
import { serverFile, versions as restateVersions } from './restate.ts'

export type PeerName = Exclude<SystemName, 'thin' | 'ours'>
export const PEER_NAMES: readonly PeerName[] = ['restate', 'celery']

/** @returns the versions of its parts. */
type Prepare = (say: (line: string) => void) => Promise<Readonly<Record<string, string>>>

const prepare: Readonly<Record<PeerName, Prepare>> = {
  restate: async (say) => {
    await fetchPeer('restate', serverFile, say)
    return restateVersions
  },
  celery: async () => findCelery().versions,
}

export const preparePeers = async (names: readonly PeerName[], say: (line: string) => void): Promise<Record<string, string>> => {
  const versions: Record<string, string> = {}
  for (const name of names) Object.assign(versions, await prepare[name](say))
  return versions
}
