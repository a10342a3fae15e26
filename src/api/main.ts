/** An API process. */
import { createProcess } from '../process.ts'
import { api } from './server.ts'

await createProcess(api).run()
