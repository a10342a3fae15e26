/** The frame of our pages: no script, no font, no picture, and nothing from anywhere else. */
const STYLE = `
:root { color-scheme: light dark; --ink: #1d2530; --soft: #5b6675; --line: #dfe4ea; --paper: #fff; --shade: #f5f7f9; --link: #0b5cad; --get: #0a6e4f; --post: #8a4b00; --delete: #a61b2b }
@media (prefers-color-scheme: dark) { :root { --ink: #dde3ea; --soft: #94a0ae; --line: #2c343e; --paper: #14181d; --shade: #1c2229; --link: #6db3f2; --get: #4cc79e; --post: #e0a458; --delete: #f0788a } }
* { box-sizing: border-box }
html { scroll-padding-top: 1rem }
body { margin: 0; color: var(--ink); background: var(--paper); font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', sans-serif; display: flex; justify-content: center }
a { color: var(--link); text-decoration: none } a:hover { text-decoration: underline }
nav { width: 19rem; flex: none; height: 100vh; position: sticky; top: 0; overflow-y: auto; padding: 1.5rem 1rem 2rem; border-right: 1px solid var(--line); font-size: .85rem }
nav ul { list-style: none; margin: .25rem 0 1rem; padding: 0 } nav li { padding: .12rem 0; white-space: nowrap; overflow: hidden; text-overflow: ellipsis } nav strong { color: var(--soft); font-weight: 600 } nav .method { width: 3.6rem; display: inline-block }
main { flex: 1; min-width: 0; max-width: 58rem; padding: 1.5rem 2.5rem 6rem }
h1 { font-size: 1.7rem; margin: .2rem 0 .6rem } h2 { margin: 3rem 0 .5rem; font-size: 1.3rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem } h3 { margin: 2.2rem 0 .3rem; font-size: 1.02rem } h4 { margin: 1.1rem 0 .2rem; font-size: .82rem; color: var(--soft); font-weight: 600 }
code, pre { font: .86em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace } code { overflow-wrap: anywhere } pre { background: var(--shade); border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem; overflow-x: auto; margin: .6rem 0 }
table { border-collapse: collapse; width: 100%; font-size: .9rem; margin: .3rem 0 } th { text-align: left; font-weight: 600; color: var(--soft) } td, th { vertical-align: top; padding: .38rem .8rem .38rem 0; border-bottom: 1px solid var(--line) } td:first-child { width: 13rem }
.method { font: 700 .8em ui-monospace, Menlo, Consolas, monospace } .get { color: var(--get) } .post, .put { color: var(--post) } .delete { color: var(--delete) } .soft, .type { color: var(--soft) } .type { font-size: .86em } .must { color: var(--delete); font-size: .8em }
.fault { color: var(--delete) } .inline { display: inline } button { font: inherit; padding: .25rem .8rem; color: var(--ink); background: var(--shade); border: 1px solid var(--line); border-radius: 6px; cursor: pointer } .login { margin: 1rem 0 } .login input { display: block; width: 100%; max-width: 40rem; font: inherit; padding: .4rem .6rem; margin: .3rem 0; color: var(--ink); background: var(--paper); border: 1px solid var(--soft); border-radius: 6px }
@media (max-width: 60rem) { body { display: block } nav { position: static; width: auto; height: auto; border: 0; border-bottom: 1px solid var(--line) } main { padding: 1rem } }
`

/** Text as HTML shows it. */
export const escapeHtml = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')

/** A whole page. `nav` and `main` are HTML; an empty `nav` is left out. */
export const page = (title: string, nav: string, main: string): string =>
  `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${escapeHtml(title)}</title><link rel="icon" href="data:,"><style>${STYLE}</style></head><body>${nav === '' ? '' : `<nav>${nav}</nav>`}<main>${main}</main></body></html>`
