/** Lists that come in pages, read as one. */

/** `for await` goes through all pages, fetching each when it is come to; `page` fetches one. */
export type List<Item, Page> = AsyncIterable<Item> & {
  /** @param cursor `next_cursor` of the page before; the first page without */
  page(cursor?: string | null): Promise<Page>
}

export const createList = <Item, Page extends { next_cursor: string | null }>(page: (cursor: string | undefined) => Promise<Page>, items: (page: Page) => Item[]): List<Item, Page> => ({
  page: (cursor) => page(cursor ?? undefined),
  async *[Symbol.asyncIterator]() {
    let cursor: string | undefined
    for (;;) {
      const one = await page(cursor)
      yield* items(one)
      // A page that leads to itself would have no end.
      const next = one.next_cursor ?? undefined
      if (next === undefined || next === cursor) return
      cursor = next
    }
  },
})
