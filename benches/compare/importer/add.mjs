// node add.mjs INPUT STORE: adds a file or a folder under the profile unixfs-v1-2025, with Helia's importer and its store of files.
import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { FsBlockstore } from 'blockstore-fs'
import { importer } from 'ipfs-unixfs-importer'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced } from 'ipfs-unixfs-importer/layout'

const [input, store] = process.argv.slice(2)

async function * files (place, path) {
  if (!(await stat(place)).isDirectory()) {
    yield { path, content: createReadStream(place, { highWaterMark: 1 << 20 }) }
    return
  }
  for (const name of (await readdir(place)).sort()) {
    yield * files(join(place, name), path === '' ? name : `${path}/${name}`)
  }
}

const single = !(await stat(input)).isDirectory()
const blocks = new FsBlockstore(store)
await blocks.open()
let root
const options = {
  cidVersion: 1,
  rawLeaves: true,
  chunker: fixedSize({ chunkSize: 1 << 20 }),
  layout: balanced({ maxChildrenPerNode: 1024 }),
  wrapWithDirectory: !single
}
for await (const entry of importer(files(input, single ? 'file' : ''), blocks, options)) root = entry.cid
await blocks.close()
console.log(String(root))
