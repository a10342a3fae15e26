/**
 * An agent that reads English: `word_count` and `summarize`.
 *
 *   node examples/text-agent.ts
 *
 * Settings: those of the SDK (SWITCHYARD_URL, AGENT_NAME, AGENT_HOST, AGENT_PORT, …; see sdk/typescript/README.md), and
 * AGENT_FAULTS=1, which adds two capabilities that go wrong on purpose.
 */
import { createAgent, NonRetryableError, type Handler, type Parameters } from '../sdk/typescript/agent.ts'
import { faults } from './demo/faults.ts'

/** Words that say nothing of what a text is about. */
const STOP_WORDS = new Set(
  ('a about after again against all also an and any are as at be because been before being between both but by can could did do does down each even every few for from ' +
    'had has have he her here him his how i if in into is it its itself just like made many may more most much must no nor not now of off on once one only or other our out over own ' +
    'same she should so some still such than that the their them then there these they this those through to too two under until up upon very was we were what when where which while ' +
    'who whom whose why will with without would you your').split(' '),
)

const words = new Intl.Segmenter('en', { granularity: 'word' })
const sentences = new Intl.Segmenter('en', { granularity: 'sentence' })

const wordsOf = (text: string): string[] => Array.from(words.segment(text)).flatMap((s) => (s.isWordLike ? [s.segment.toLowerCase()] : []))
const sentencesOf = (text: string): string[] => Array.from(sentences.segment(text), (s) => s.segment.trim().replace(/\s+/g, ' ')).filter((s) => s !== '')
const telling = (list: string[]): string[] => list.filter((word) => word.length > 2 && !STOP_WORDS.has(word))

const countOf = (list: string[]): Map<string, number> => {
  const counts = new Map<string, number>()
  for (const word of list) counts.set(word, (counts.get(word) ?? 0) + 1)
  return counts
}

const textOf = ({ text }: Parameters): string => {
  if (typeof text !== 'string' || text.trim() === '') throw new NonRetryableError('text must be a string that is not empty')
  return text
}

const wholeNumber = (parameters: Parameters, name: string, otherwise: number): number => {
  const value = parameters[name] ?? otherwise
  if (!Number.isInteger(value) || (value as number) < 1 || (value as number) > 50) throw new NonRetryableError(`${name} must be a whole number from 1 to 50`)
  return value as number
}

/** `{text, top = 5}` → how much of what there is, and the words that tell most. */
const wordCount: Handler = (parameters) => {
  const text = textOf(parameters)
  const top = wholeNumber(parameters, 'top', 5)
  const all = wordsOf(text)
  const counts = [...countOf(telling(all))].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
  return {
    words: all.length,
    different_words: new Set(all).size,
    sentences: sentencesOf(text).length,
    characters: text.length,
    top_words: counts.slice(0, top).map(([word, count]) => ({ word, count })),
  }
}

/**
 * `{text, sentences = 2}` → the sentences that say most of what the text says, in their order. A sentence scores by how often
 * the text uses its telling words, over the square root of its length: else the longest would always win.
 */
const summarize: Handler = (parameters) => {
  const text = textOf(parameters)
  const wanted = wholeNumber(parameters, 'sentences', 2)
  const counts = countOf(telling(wordsOf(text)))
  const all = sentencesOf(text)
  const scored = all.map((sentence, at) => {
    const its = wordsOf(sentence)
    const score = [...new Set(telling(its))].reduce((sum, word) => sum + counts.get(word)!, 0) / Math.sqrt(Math.max(its.length, 1))
    return { sentence, at, score }
  })
  const best = scored.sort((a, b) => b.score - a.score || a.at - b.at).slice(0, wanted)
  return { summary: best.sort((a, b) => a.at - b.at).map((s) => s.sentence).join(' '), sentences: best.length, of_sentences: all.length }
}

const capabilities = { word_count: wordCount, summarize, ...(process.env['AGENT_FAULTS'] === '1' ? faults : {}) }

await createAgent({ type: 'text', version: '1.0.0', maxConcurrency: 4, capabilities }).start()
