/** What a new project may be called: one name that npm, Docker, Compose, DNS and the router take as it is. */
import { builtinModules } from 'node:module'
import { ID, ID_IN_WORDS, TYPE, TYPE_IN_WORDS } from '../../../sdk/typescript/names.ts'

const NAME = /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/
const MAX_NAME = 63

/** As the name of a service in the router's Compose network, each of these would take another's place. */
const SERVICES: ReadonlySet<string> = new Set(['api', 'worker', 'valkey', 'redis', 'text-agent', 'cost-agent', 'localhost'])
/** Names of devices, which Windows makes no folder of. */
const DEVICE = /^(con|prn|aux|nul|com\d|lpt\d)$/

const nameFault = (name: string): string | null => {
  if (!NAME.test(name) || name.length > MAX_NAME) return `must be 1 to ${MAX_NAME} of a–z, 0–9 and single hyphens, beginning with a letter and not ending with a hyphen`
  if (name === 'switchyard') return 'is the name of the package that the project depends on, and of the router’s Compose project'
  if (SERVICES.has(name)) return 'is the name of another service in the router’s network'
  if (builtinModules.includes(name)) return 'is the name of a module of Node, which npm takes for no package'
  return DEVICE.test(name) ? 'is a device on Windows' : null
}

/** Every fault, in words; none when the project can be made. */
export const faultsOf = ({ name, type, capability }: { name: string; type: string; capability: string }): string[] => {
  const faults: string[] = []
  const its = nameFault(name)
  if (its !== null) faults.push(`the name ${JSON.stringify(name)} ${its}`)
  // One that is the name's by default has its fault, which was told.
  if (type !== name && !TYPE.test(type)) faults.push(`the type ${JSON.stringify(type)} must be ${TYPE_IN_WORDS}`)
  if (!ID.test(capability)) faults.push(`the capability ${JSON.stringify(capability)} must be ${ID_IN_WORDS}`)
  return faults
}
