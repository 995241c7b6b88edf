// A stock Helia on loopback, driven by lines of JSON on standard input:
//   {"dial": multiaddr}        connects
//   {"get": cid, "ms": 1000}   fetches a file: {"base64": …} or {"refused": why}
//   {"add": base64}            adds a file: {"cid": …}
// It begins with {"addrs": […]} and ends when its input does.
import { createInterface } from 'node:readline'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { bitswap } from '@helia/block-brokers'
import { unixfs } from '@helia/unixfs'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createHelia } from 'helia'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'

const libp2p = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify() }
})
const helia = await createHelia({ libp2p, blockBrokers: [bitswap()], routers: [] })
const fs = unixfs(helia)

async function read (cid, ms) {
  const parts = []
  for await (const part of fs.cat(CID.parse(cid), { signal: AbortSignal.timeout(ms) })) parts.push(part)
  return Buffer.concat(parts).toString('base64')
}

async function answer (ask) {
  if (ask.dial) {
    await libp2p.dial(multiaddr(ask.dial))
    return { ok: true }
  }
  if (ask.add) return { cid: (await fs.addBytes(Buffer.from(ask.add, 'base64'))).toString() }
  try {
    return { base64: await read(ask.get, ask.ms) }
  } catch (err) {
    return { refused: String(err.name) }
  }
}

console.log(JSON.stringify({ addrs: libp2p.getMultiaddrs().map(String) }))
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))))
}
await helia.stop()
process.exit(0)
