/** Whether tests of what is written in Python can be done here. */
import { spawnSync } from 'node:child_process'

/** There is no python3 of 3.9 or newer. */
export const noPython = spawnSync('python3', ['-c', 'import sys; sys.exit(sys.version_info < (3, 9))']).status !== 0
