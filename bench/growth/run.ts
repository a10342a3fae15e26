/** `npm run bench -- --growth`: how cost grows with the work, curve by curve. See docs/scale.md. */
import { mkdtemp, rm } from 'node:fs/promises'
import os, { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Processes } from '../processes.ts'
import { measureCurve, type Curve } from './curve.ts'
import { CURVES } from './curves.ts'
import { runModel } from './model.ts'
import { load, save, show, type Environment } from './report.ts'
import { createStart } from './system.ts'

export type GrowthOptions = Readonly<{ names: readonly string[]; /** Instead of each curve's own. */ rounds: number | null; /** Only as much as shows that it works. */ quick: boolean; /** To the largest sizes. */ full: boolean; /** Draws what was measured before. */ plot: boolean; /** Folder of `scale.md` and `growth/`. */ out: string }>

export const GROWTH_NAMES: readonly string[] = CURVES.map((curve) => curve.name)

const chosen = ({ names }: GrowthOptions): readonly Curve[] => {
  const unknown = names.find((name) => !GROWTH_NAMES.includes(name))
  if (unknown !== undefined) throw new Error(`there is no curve ${unknown}; there are ${GROWTH_NAMES.join(', ')}`)
  return names.length === 0 ? CURVES : CURVES.filter((curve) => names.includes(curve.name))
}

const QUICK = 0.1

const measure = async (curve: Curve, o: GrowthOptions, redis: string, processes: Processes, say: (line: string) => void) => {
  const dir = await mkdtemp(join(tmpdir(), 'switchyard-bench-'))
  const start = createStart(redis, processes, dir)
  const factor = o.quick ? QUICK : 1
  const context = { start, say, tasks: (usual: number) => Math.ceil(usual * factor), seconds: (usual: number) => Math.max(1, usual * factor) }
  const sizes = o.quick ? curve.sizes.quick : o.full ? (curve.sizes.full ?? curve.sizes.usual) : curve.sizes.usual
  try {
    return await Promise.race([measureCurve(curve, sizes, o.rounds ?? (o.quick ? 1 : curve.rounds), context), processes.failed])
  } finally {
    await start.end().catch(() => {})
    await processes.stop()
    await rm(dir, { recursive: true, force: true })
  }
}

export const runGrowth = async (o: GrowthOptions, redis: string, environment: Pick<Environment, 'machine' | 'versions'>, processes: Processes, say: (line: string) => void): Promise<string> => {
  const tables: string[] = []
  const began = performance.now()
  for (const curve of chosen(o)) {
    const known = o.plot ? await load(o.out, curve) : null
    if (o.plot && known === null) {
      say(`${curve.name}: not measured yet`)
      continue
    }
    let measured = known
    if (measured === null) {
      say(`${curve.name}, ${curve.x.words}`)
      const startedAt = new Date().toISOString()
      const command = `npm run bench -- --growth ${curve.name}${o.quick ? ' --quick' : ''}${o.full ? ' --full' : ''}${o.rounds === null ? '' : ` --rounds ${o.rounds}`}`
      const points = await measure(curve, o, redis, processes, say)
      measured = { curve: curve.name, environment: { ...environment, command, startedAt, loadAtEnd: os.loadavg()[0]! }, points }
      await save(o.out, measured)
      say(`  ${Math.round((performance.now() - began) / 1000)} s so far`)
    }
    tables.push(`### ${curve.name}\n\n${await show(o.out, curve, measured)}\n`)
  }
  // What is reckoned from curves stays true to them.
  await runModel(o.out).catch((error: Error) => say(`the model is not reckoned anew: ${error.message}`))
  return tables.join('\n')
}
