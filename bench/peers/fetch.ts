/** Brings the npm packages of a peer into a folder of node_modules that only the bench uses: exact versions, digests from the lockfile beside them, no install scripts. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, readFile, rm } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'

const MANIFESTS = ['package.json', 'package-lock.json'] as const
const manifest = (peer: string, name: string) => fileURLToPath(new URL(`./${peer}/${name}`, import.meta.url))

export const cacheOf = (peer: string): string => fileURLToPath(new URL(`../../node_modules/.cache/switchyard-bench/${peer}`, import.meta.url))

/** npm writes `.package-lock.json` last, so what is there is whole; and it is ours when it was made from the same lockfile. */
const isFetched = async (peer: string, folder: string): Promise<boolean> => {
  if (!existsSync(`${folder}/node_modules/.package-lock.json`)) return false
  const [made, wanted] = await Promise.all([readFile(`${folder}/package-lock.json`, 'utf8'), readFile(manifest(peer, 'package-lock.json'), 'utf8')])
  return made === wanted
}

const npmCi = (folder: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const child = spawn('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: folder, stdio: ['ignore', 2, 2] })
    const end = () => child.kill()
    process.once('exit', end)
    child.once('error', (error) => reject(new Error(`npm could not be started: ${error.message}`)))
    child.once('close', (code) => {
      process.off('exit', end)
      if (code === 0) resolve()
      else reject(new Error(`npm ci in ${folder} ended with ${code ?? 'a signal'}; see above`))
    })
  })

/** @param file what must be there afterwards: npm leaves out what it does not have for this platform, and says nothing */
export const fetchPeer = async (peer: string, file: string, say: (line: string) => void): Promise<void> => {
  const folder = cacheOf(peer)
  if (!(await isFetched(peer, folder))) {
    say(`fetching ${peer} into ${folder} …`)
    await rm(folder, { recursive: true, force: true }) // so that nothing of another version is taken for this one's, should npm be interrupted
    await mkdir(folder, { recursive: true })
    await Promise.all(MANIFESTS.map((name) => copyFile(manifest(peer, name), `${folder}/${name}`)))
    await npmCi(folder)
  }
  if (!existsSync(file)) throw new Error(`${peer} is not published for ${process.platform} on ${process.arch}`)
}
