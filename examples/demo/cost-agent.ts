/** Stands in for `cost_agent.py` in the demo where there is no Python. The same capabilities, on the same terms; see there. */
import { createAgent, NonRetryableError, type Handler } from '../../sdk/typescript/agent.ts'

type Item = { index: number; service: string; resource: unknown; amount: number; usage_hours: number | null }

const number = (value: unknown, what: string, least = 0): number => {
  if (typeof value !== 'number' || value < least) throw new NonRetryableError(`${what} must be a number of at least ${least}`)
  return value
}
const sum = (numbers: number[]): number => numbers.reduce((a, b) => a + b, 0)
const mean = (numbers: number[]): number => sum(numbers) / numbers.length
const round = (value: number, digits = 2): number => Number(value.toFixed(digits))
const median = (numbers: number[]): number => {
  const sorted = numbers.toSorted((a, b) => a - b)
  const half = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2
}

const itemsOf = (items: unknown): Item[] => {
  if (!Array.isArray(items) || items.length === 0) throw new NonRetryableError('items must be a list that is not empty')
  return items.map((item, index) => {
    if (typeof item?.service !== 'string') throw new NonRetryableError(`items[${index}] must be an object with a service`)
    const hours = item.usage_hours ?? null
    return {
      index,
      service: item.service as string,
      resource: item.resource ?? null,
      amount: number(item.amount, `items[${index}].amount`),
      usage_hours: hours === null ? null : number(hours, `items[${index}].usage_hours`),
    }
  })
}

const anomaliesOf = (items: Item[]) => {
  if (items.length < 4) return []
  const usual = median(items.map((item) => item.amount))
  const distances = items.map((item) => Math.abs(item.amount - usual))
  const unit = median(distances) / 0.6745 || mean(distances) * 1.253314
  return items.flatMap(({ index, service, resource, amount }, at) => {
    const distance = distances[at]!
    return unit > 0 && distance / unit > 3.5 && distance > 0.25 * usual ? [{ index, service, resource, amount, usual: round(usual), score: round(distance / unit) }] : []
  })
}

const analyzeCost: Handler = (parameters) => {
  const items = itemsOf(parameters['items'])
  const period = number(parameters['period_hours'] ?? 720, 'period_hours', 1)
  const services = Map.groupBy(items, (item) => item.service)
  const total = sum(items.map((item) => item.amount))
  const byService = [...services].map(([service, its]) => {
    const amount = sum(its.map((item) => item.amount))
    return { service, amount: round(amount), share: total > 0 ? round(amount / total, 4) : 0, items: its.length }
  })
  const idle = items.filter((item) => item.amount > 0 && item.usage_hours !== null && item.usage_hours < 0.05 * period)
  return {
    total: round(total),
    items: items.length,
    by_service: byService.sort((a, b) => b.amount - a.amount || (a.service < b.service ? -1 : 1)),
    anomalies: [...services.values()].flatMap(anomaliesOf).sort((a, b) => a.index - b.index),
    idle_suspects: idle,
    idle_amount: round(sum(idle.map((item) => item.amount))),
  }
}

const forecastCost: Handler = ({ daily, days = 7 }) => {
  if (!Array.isArray(daily) || daily.length < 2) throw new NonRetryableError('daily must be a list of at least two amounts')
  const amounts = daily.map((amount, index) => number(amount, `daily[${index}]`))
  if (!Number.isInteger(days) || (days as number) < 1 || (days as number) > 366) throw new NonRetryableError('days must be a whole number from 1 to 366')
  const meanX = (amounts.length - 1) / 2
  const meanY = mean(amounts)
  const slope = sum(amounts.map((y, x) => (x - meanX) * (y - meanY))) / sum(amounts.map((_, x) => (x - meanX) ** 2))
  const start = meanY - slope * meanX
  const variation = sum(amounts.map((y) => (y - meanY) ** 2))
  const missed = sum(amounts.map((y, x) => (y - start - slope * x) ** 2))
  const forecast = Array.from({ length: days as number }, (_, day) => Math.max(0, start + slope * (amounts.length + day)))
  return {
    slope_per_day: round(slope, 4),
    r_squared: variation > 0 ? round(1 - missed / variation, 4) : null,
    forecast: forecast.map((amount) => round(amount)),
    forecast_total: round(sum(forecast)),
  }
}

await createAgent({ type: 'cost', version: '1.0.0', maxConcurrency: 4, capabilities: { analyze_cost: analyzeCost, forecast_cost: forecastCost } }).start()
