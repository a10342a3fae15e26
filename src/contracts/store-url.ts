/** The URL of a store: of one Redis, or of a cluster as some of its nodes, apart by commas. Scheme, user and password are said with the first. */

const START = /^[a-z]+:\/\/(?:[^@/]*@)?/

/** The nodes that it names, each by a URL of its own; one when it is no cluster's. A comma may stand in a password. */
export const nodesIn = (url: string): string[] => {
  if (url.startsWith('unix:')) return [url]
  const start = START.exec(url)?.[0] ?? ''
  return url.slice(start.length).split(',').map((one) => start + one.trim().replace(START, ''))
}

/** Whether a Redis client can make sense of it; whether anyone answers there is seen later. */
export const isStoreUrl = (url: string): boolean => {
  if (/^rediss?:\/\//.test(url)) {
    const nodes = nodesIn(url)
    const others = [...url.matchAll(/,\s*([a-z]+):\/\//g)].map(([, scheme]) => scheme)
    return nodes.every((node) => URL.canParse(node) && (nodes.length === 1 || new URL(node).hostname !== '')) && others.every((scheme) => url.startsWith(`${scheme}://`))
  }
  try {
    return url.startsWith('unix://') && decodeURIComponent(url.slice('unix://'.length)).startsWith('/')
  } catch {
    return false
  }
}
