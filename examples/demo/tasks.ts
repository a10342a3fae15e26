/** The demo's twenty tasks, and each one's result in a few words. */
import { readFileSync } from 'node:fs'

export type Plan = {
  /** What the task is about, for people. */
  label: string
  /** The body of POST /tasks. */
  body: { task_type: string; agent_type: 'text' | 'cost'; parameters: object; priority: 'low' | 'normal' | 'high' | 'critical' | number; [more: string]: unknown }
  ends: 'completed' | 'timeout' | 'cancelled'
  /** We cancel it that long after it was submitted. */
  cancelAfterMs?: number
}

type Text = { title: string; text: string }
type Account = { account: string; period_hours: number; items: object[]; daily: number[] }

const read = <T>(name: string): T => JSON.parse(readFileSync(new URL(`../data/${name}`, import.meta.url), 'utf8')) as T

export const planTasks = (): Plan[] => {
  const texts = read<[Text, Text, Text, Text]>('texts.json')
  const accounts = read<[Account, Account, Account, Account]>('cloud-bill.json')
  const ends = 'completed'
  const summarize = ({ title, text }: Text, priority: Plan['body']['priority'], more = {}): Plan => ({ label: title, ends, body: { task_type: 'summarize', agent_type: 'text', parameters: { text, sentences: 1 }, priority, ...more } })
  const count = ({ title, text }: Text, priority: Plan['body']['priority'], more = {}): Plan => ({ label: title, ends, body: { task_type: 'word_count', agent_type: 'text', parameters: { text, top: 2 }, priority, ...more } })
  const analyze = ({ account, period_hours, items }: Account, priority: Plan['body']['priority']): Plan => ({ label: account, ends, body: { task_type: 'analyze_cost', agent_type: 'cost', parameters: { period_hours, items }, priority } })
  const forecast = ({ account, daily }: Account, priority: Plan['body']['priority']): Plan => ({ label: account, ends, body: { task_type: 'forecast_cost', agent_type: 'cost', parameters: { daily, days: 7 }, priority } })

  return [
    forecast(accounts[0], 'low'),
    count(texts[0], 'low'),
    { label: 'goes wrong once, on purpose', ends, body: { task_type: 'fail_first_attempt', agent_type: 'text', parameters: {}, priority: 'high', max_retries: 2, retry_delay_seconds: 1.5, backoff: 'fixed' } },
    { label: 'goes wrong for good, on purpose', ends: 'timeout', body: { task_type: 'never_answer', agent_type: 'text', parameters: {}, priority: 'normal', timeout_seconds: 2.5, max_retries: 0 } },
    { ...count(texts[1], 'normal', { delay_seconds: 60 }), label: 'due in a minute; to be cancelled', ends: 'cancelled', cancelAfterMs: 1800 },
    summarize(texts[0], 'high', { delay_seconds: 1 }),
    count(texts[1], 3),
    forecast(accounts[1], 'normal'),
    analyze(accounts[0], 'critical'),
    summarize(texts[0], 'normal'),
    summarize(texts[1], 'low'),
    analyze(accounts[1], 'high'),
    count(texts[2], 'normal'),
    summarize(texts[2], 'critical'),
    forecast(accounts[2], 12),
    analyze(accounts[2], 'normal'),
    count(texts[3], 'critical'),
    summarize(texts[3], 'high'),
    forecast(accounts[3], 'low'),
    analyze(accounts[3], 7),
  ]
}

const dollars = (amount: number): string => amount.toLocaleString('en-US', { style: 'currency', currency: 'USD' })
const many = (count: number, one: string, more: string): string => `${count} ${count === 1 ? one : more}`

/** A result as its capability gives it. */
const BRIEFS: Record<string, (result: any) => string> = {
  summarize: (r) => `“${r.summary}”`,
  word_count: (r) => `${r.words} words, ${r.different_words} different; mostly ${r.top_words.map((t: { word: string; count: number }) => `${t.word} (${t.count})`).join(', ')}`,
  analyze_cost: (r) => `${dollars(r.total)}, ${Math.round(r.by_service[0].share * 100)} % ${r.by_service[0].service}; ${many(r.anomalies.length, 'anomaly', 'anomalies')}; ${r.idle_suspects.length} idle (${dollars(r.idle_amount)})`,
  forecast_cost: (r) => `${dollars(r.forecast_total)} in the next ${r.forecast.length} days, ${r.slope_per_day < 0 ? '' : '+'}${dollars(r.slope_per_day)} a day`,
  fail_first_attempt: (r) => `completed at attempt ${r.completed_at_attempt}`,
}

export const briefly = (capability: string, result: unknown): string => BRIEFS[capability]?.(result) ?? JSON.stringify(result)
