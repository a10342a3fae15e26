/** What was measured at a size, by the name of the measure; null where it cannot be read here. */
export type Values = Readonly<Record<string, number | null>>
