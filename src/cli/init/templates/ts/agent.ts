import { createAgent } from 'switchyard/agent'
import { handle } from './handler.ts'

{{registry}}
const agent = createAgent({ name: '{{name}}', type: '{{type}}', capabilities: { '{{capability}}': handle } })
{{no-registry}}
const agent = createAgent({ name: '{{name}}', type: '{{type}}', register: false, capabilities: { '{{capability}}': handle } })
{{end}}
await agent.start()
