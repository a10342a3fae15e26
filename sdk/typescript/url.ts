/** Where the router is: unless said, and what its URL may be. */

export const DEFAULT_URL = 'http://127.0.0.1:8080'

/** What is wrong with a router's URL, in words that hold no password; null when it will do. */
export const urlFault = (text: string): string | null => {
  const url = URL.parse(text)
  if (url === null || !/^https?:$/.test(url.protocol)) return `must begin with http:// or https://, and is ${JSON.stringify(text)}`
  if (url.username !== '' || url.password !== '') return 'must hold no user or password; give an apiKey'
  return url.search !== '' || url.hash !== '' ? `must hold no query, and is ${JSON.stringify(text)}` : null
}
