/** A time on the wire: RFC 3339 in UTC, from milliseconds since 1970. */
export const iso = (ms: number): string => new Date(ms).toISOString()
export const isoOrNull = (ms: number | null): string | null => (ms === null ? null : iso(ms))
