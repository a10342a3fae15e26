/** What is never posted to, whoever asks and whatever the settings say. */
import { BlockList } from 'node:net'

/** Cloud metadata services hand credentials to whoever asks from this machine. */
const METADATA_NAMES = new Set([
  'metadata',
  'metadata.internal',
  'metadata.goog',
  'metadata.google.internal',
  'instance-data',
  'instance-data.ec2.internal',
  'metadata.azure.internal',
  'metadata.azure.com',
  'metadata.tencentyun.com',
  'metadata.platformequinix.com',
])
/** @param name in lower case, without a dot at its end */
export const isMetadataName = (name: string): boolean => METADATA_NAMES.has(name)

const NEVER = {
  ipv4: [
    '0.0.0.0/8',
    '169.254.0.0/16', // link-local: the metadata of AWS, Google, Azure, Oracle, DigitalOcean, Hetzner, OpenStack; of AWS containers, Tencent, Scaleway
    '224.0.0.0/4', // multicast
    '240.0.0.0/4', // reserved, and broadcast
    '100.100.100.200/32', // metadata: Alibaba
    '192.0.0.192/32', // metadata: Oracle, of old
    '168.63.129.16/32', // the host's agent: Azure
  ],
  ipv6: [
    '::/128',
    'fe80::/10', // link-local
    'fec0::/10', // site-local, deprecated
    'ff00::/8', // multicast
    'fd00:ec2::/32', // AWS: metadata, credentials of pods, DNS, time
    'fd20:ce::254/128', // metadata: Google
    'fd00:c1::a9fe:a9fe/128', // metadata: Oracle
    'fd00:100::100:200/128', // metadata: Alibaba
    'fd00:a9fe:a9fe::1/128', // metadata: Akamai
    'fd00:42::42/128', // metadata: Scaleway
  ],
} as const

export const neverPostedTo = (): BlockList => {
  const list = new BlockList()
  for (const family of ['ipv4', 'ipv6'] as const) {
    for (const range of NEVER[family]) {
      const slash = range.indexOf('/')
      list.addSubnet(range.slice(0, slash), Number(range.slice(slash + 1)), family)
    }
  }
  return list
}
