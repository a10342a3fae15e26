/** A dispatcher process. */
import { createProcess } from '../process.ts'
import { worker } from './worker.ts'

await createProcess(worker).run()
