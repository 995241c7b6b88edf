// Runs again what `mman replay RECEIPT --export DIR` wrote, on the WebAssembly of
// Node.js (18 or later), and says whether the result and the fuel are the same:
//
//     node replay.mjs DIR
//
// The module is instrumented: it counts its fuel itself, so that two engines that
// agree on WebAssembly agree on the bill. What is left to the host is a world that
// is the same everywhere, WASI preview 1 with a clock and randomness of its own.
// This is the whole of it, written apart from the node's.

import { createHash } from "node:crypto";
import { readFileSync, writeSync } from "node:fs";
import { join } from "node:path";

// ---- What the guest sees of time, chance and limits.

const CLOCK_STEP = 1000n;
const CLOCK_END = (1n << 63n) - 1n;
const CHUNK = 64 << 10; // the most that one read returns
const MAX_FILES = 256;
const MAX_VECTORS = 1024;
const MAX_POLL = 4096;
const RANGE_UNIT = 64; // bytes in and out for one unit of fuel

// What a run ends with, by the codes of a receipt.
const OUT_OF_FUEL = 311;
const TRAPPED = 307;
const TOO_MUCH_OUTPUT = 304;

// Errors of WASI preview 1.
const E = {
  BADF: 8, EXIST: 20, FAULT: 21, FBIG: 22, ILSEQ: 25, INVAL: 28, ISDIR: 31, MFILE: 33, NAMETOOLONG: 37, NOENT: 44,
  NOSPC: 51, NOSYS: 52, NOTDIR: 54, NOTEMPTY: 55, NOTSOCK: 57, NOTSUP: 58, ROFS: 69, SPIPE: 70, NOTCAPABLE: 76,
};
class Errno extends Error {
  constructor(code) {
    super(`errno ${code}`);
    this.code = code;
  }
}
const fail = (code) => {
  throw new Errno(code);
};
const check = (ok, code) => ok || fail(code);

// Ends the guest from inside a host call.
class Stop extends Error {
  constructor(code, exitCode = 0) {
    super("the run is over");
    Object.assign(this, { code, exitCode });
  }
}

// ---- Randomness: ChaCha8Rand (c2sp.org/chacha8rand), keyed with a hash of the seed.

class Random {
  constructor(seed) {
    this.seed = new Uint32Array(8);
    const key = createHash("sha256").update("mman/wasm/random/1\0").update(seed).digest();
    for (let i = 0; i < 8; i++) this.seed[i] = key.readUInt32LE(4 * i);
    this.bytes = new Uint8Array(0);
  }
  // block makes the next 992 bytes, and the seed of those after them.
  block() {
    const out = new DataView(new ArrayBuffer(1024));
    for (let counter = 0; counter < 16; counter++) {
      const b = new Uint32Array(16);
      b.set([0x61707865, 0x3320646e, 0x79622d32, 0x6b206574]);
      b.set(this.seed, 4);
      b[12] = counter;
      const turn = (x, n) => (x << n) | (x >>> (32 - n));
      const quarter = (i, j, k, l) => {
        b[i] += b[j]; b[l] = turn(b[l] ^ b[i], 16);
        b[k] += b[l]; b[j] = turn(b[j] ^ b[k], 12);
        b[i] += b[j]; b[l] = turn(b[l] ^ b[i], 8);
        b[k] += b[l]; b[j] = turn(b[j] ^ b[k], 7);
      };
      for (let round = 0; round < 4; round++) {
        for (let i = 0; i < 4; i++) quarter(i, 4 + i, 8 + i, 12 + i);
        for (let i = 0; i < 4; i++) quarter(i, 4 + ((i + 1) % 4), 8 + ((i + 2) % 4), 12 + ((i + 3) % 4));
      }
      for (let i = 0; i < 8; i++) b[4 + i] += this.seed[i];
      // Four blocks are interlaced, word by word.
      for (let i = 0; i < 16; i++) out.setUint32(256 * (counter >> 2) + 16 * i + 4 * (counter & 3), b[i], true);
    }
    for (let i = 0; i < 8; i++) this.seed[i] = out.getUint32(992 + 4 * i, true);
    this.bytes = new Uint8Array(out.buffer, 0, 992);
  }
  fill(to) {
    for (let done = 0; done < to.length; ) {
      if (this.bytes.length === 0) this.block();
      const piece = this.bytes.subarray(0, to.length - done);
      to.set(piece, done);
      done += piece.length;
      this.bytes = this.bytes.subarray(piece.length);
    }
  }
}

// ---- Files: what was given, read-only, and a scratch folder with a bound.

const FOLDER = 3;
const REGULAR = 4;
const STREAM = 2;
const PAGE = 4096;
const ENTRY_BYTES = 1024;
const SLOT_BYTES = 48;

class Node {
  constructor(inode, kind, scratch, time) {
    Object.assign(this, { inode, kind, scratch, accessed: time, changed: time, parent: null, open: 0, removed: false });
    if (kind === FOLDER) Object.assign(this, { names: new Map(), next: 2 });
    else Object.assign(this, { data: null, pages: new Map(), length: 0 });
  }
  get size() {
    return this.kind !== REGULAR ? 0 : this.data ? this.data.length : this.length;
  }
  add(name, child) {
    this.names.set(name, { name, child, number: this.next++ });
    child.parent = this;
  }
  drop(name) {
    this.names.get(name).child.parent = null;
    this.names.delete(name);
  }
  create(name, kind, now) {
    check(this.scratch, E.ROFS);
    check(!this.removed, E.NOENT);
    check(Buffer.byteLength(name) <= 255, E.NAMETOOLONG);
    check(this.scratch.take(ENTRY_BYTES), E.NOSPC);
    const child = new Node(this.scratch.inodes++, kind, this.scratch, now);
    this.changed = now;
    this.add(name, child);
    return child;
  }
  remove(name, now) {
    const { child } = this.names.get(name);
    this.drop(name);
    this.changed = now;
    child.removed = true;
    this.scratch.used -= ENTRY_BYTES;
    child.release();
  }
  release() {
    if (this.removed && this.open === 0 && this.kind === REGULAR) this.resize(0);
  }
  holds(other) {
    for (; other; other = other.parent) if (other === this) return true;
    return false;
  }
  resize(size) {
    check(size <= this.scratch.limit, E.FBIG);
    const slots = Math.ceil(size / PAGE);
    const have = Math.ceil(this.length / PAGE);
    if (slots > have) check(this.scratch.take((slots - have) * SLOT_BYTES), E.NOSPC);
    for (let i = slots; i < have; i++) this.scratch.used -= SLOT_BYTES + (this.pages.delete(i) ? PAGE : 0);
    if (size < this.length) this.pages.get(slots - 1)?.fill(0, size % PAGE || PAGE);
    this.length = size;
  }
  // write returns how much of bytes there was room for, and the error that ended it.
  write(bytes, offset) {
    if (offset + bytes.length > this.scratch.limit) return [0, E.FBIG];
    let done = 0;
    while (done < bytes.length) {
      const at = offset + done;
      const piece = bytes.subarray(done, done + PAGE - (at % PAGE));
      const before = this.length;
      try {
        if (at + piece.length > this.length) this.resize(at + piece.length);
      } catch (error) {
        return [done, error.code];
      }
      const index = Math.floor(at / PAGE);
      if (!this.pages.has(index)) {
        if (!this.scratch.take(PAGE)) {
          this.resize(before);
          return [done, E.NOSPC];
        }
        this.pages.set(index, new Uint8Array(PAGE));
      }
      this.pages.get(index).set(piece, at % PAGE);
      done += piece.length;
    }
    return [done, 0];
  }
  read(offset, want) {
    if (this.data) return this.data.subarray(Math.min(offset, this.data.length), Math.min(offset + want, this.data.length));
    const out = new Uint8Array(Math.min(want, this.length - Math.min(offset, this.length)));
    for (let done = 0; done < out.length; ) {
      const at = offset + done;
      const n = Math.min(out.length - done, PAGE - (at % PAGE));
      const page = this.pages.get(Math.floor(at / PAGE));
      if (page) out.set(page.subarray(at % PAGE, (at % PAGE) + n), done);
      done += n;
    }
    return out;
  }
}

// ---- The guest's world.

const RIGHT = { read: 1n << 1n, tell: 1n << 5n, write: 1n << 6n };
const RIGHTS_READ = RIGHT.read | RIGHT.tell | (1n << 2n) | (1n << 21n);
const RIGHTS_WRITE = RIGHT.write | (1n << 0n) | (1n << 4n) | (1n << 8n) | (1n << 22n) | (1n << 23n);
const RIGHTS_FOLDER = (1n << 13n) | (1n << 14n) | (1n << 18n) | (1n << 21n);
const RIGHTS_CHANGE = (1n << 9n) | (1n << 10n) | (1n << 16n) | (1n << 17n) | (1n << 20n) | (1n << 25n) | (1n << 26n);

class World {
  constructor(run, open) {
    this.run = run;
    this.epoch = BigInt(run.clock_epoch_ns);
    this.elapsed = 0n;
    this.random = new Random(Buffer.from(run.seed, "hex"));
    this.stdout = createHash("sha256");
    this.stdoutBytes = 0;
    this.outBytes = 0;
    const stdin = new Node(0, REGULAR, null, this.epoch);
    stdin.data = run.stdin ? open(run.stdin) : new Uint8Array(0);
    this.files = [{ stream: 0, source: stdin, offset: 0n }, { stream: 1, out: 1, offset: 0n }, { stream: 2, out: 2, offset: 0n }];
    const world = this;
    for (const mount of run.mounts) {
      const scratch = mount.max_bytes && {
        limit: mount.max_bytes, used: 0, inodes: 1024,
        take(n) {
          if (n > this.limit - this.used || world.memory.buffer.byteLength + this.used + n > run.limits.memory_bytes) return false;
          this.used += n;
          return true;
        },
      };
      const root = new Node(mount.inode, FOLDER, scratch, this.epoch);
      for (const file of mount.files ?? []) {
        const node = new Node(file.inode, REGULAR, null, this.epoch);
        node.data = open(file.content);
        root.add(file.name, node);
      }
      root.open++;
      this.files.push({ node: root, mount: Buffer.from(mount.path), offset: 0n });
    }
  }

  // Memory of the guest. Addresses and lengths are unsigned 32 bits.
  bytes(address, length) {
    check((address >>> 0) + (length >>> 0) <= this.memory.buffer.byteLength, E.FAULT);
    return new Uint8Array(this.memory.buffer, address >>> 0, length >>> 0);
  }
  view(address, length) {
    const b = this.bytes(address, length);
    return new DataView(b.buffer, b.byteOffset, b.length);
  }
  put(address, bytes) {
    this.bytes(address, bytes.length).set(bytes);
  }
  put32(address, v) {
    this.view(address, 4).setUint32(0, v, true);
  }
  put64(address, v) {
    this.view(address, 8).setBigUint64(0, BigInt.asUintN(64, v), true);
  }
  vectors(address, count) {
    check(count >>> 0 <= MAX_VECTORS, E.INVAL);
    const list = this.view(address, 8 * (count >>> 0));
    const out = [];
    for (let i = 0; i < list.byteLength; i += 8) out.push(this.bytes(list.getUint32(i, true), list.getUint32(i + 4, true)));
    return out;
  }

  charge(bytes) {
    this.used.value += BigInt(Math.ceil(bytes / RANGE_UNIT));
  }
  advance(ns) {
    const top = CLOCK_END - this.epoch;
    this.elapsed = this.elapsed + ns > top ? top : this.elapsed + ns;
  }
  now() {
    return this.epoch + this.elapsed;
  }

  file(fd) {
    return this.files[fd >>> 0] ?? fail(E.BADF);
  }
  kind(f) {
    return f.node ? f.node.kind : STREAM;
  }
  regular(fd) {
    const f = this.file(fd);
    check(this.kind(f) !== FOLDER, E.ISDIR);
    check(this.kind(f) === REGULAR, E.SPIPE);
    return f;
  }
  own(fd) {
    const f = this.file(fd);
    check(f.node, E.SPIPE);
    check(f.node.scratch, E.ROFS);
    check(this.kind(f) !== FOLDER, E.ISDIR);
    check(f.write, E.BADF);
    return f;
  }
  close(fd) {
    const f = this.file(fd);
    this.files[fd >>> 0] = null;
    if (f.node) {
      f.node.open--;
      f.node.release();
    }
  }
  rights(f) {
    if (this.kind(f) === FOLDER) return RIGHTS_FOLDER | (f.node.scratch ? RIGHTS_CHANGE : 0n);
    let rights = 0n;
    if (f.read || f.source) rights |= RIGHTS_READ;
    if (f.write) rights |= (RIGHTS_READ & ~RIGHT.read) | RIGHTS_WRITE;
    if (f.out) rights |= RIGHT.write | RIGHT.tell;
    return rights;
  }
  filestat(address, inode, kind, size, accessed, changed) {
    const b = new DataView(new ArrayBuffer(64));
    b.setBigUint64(8, BigInt(inode), true);
    b.setUint8(16, kind);
    b.setBigUint64(24, 1n, true);
    b.setBigUint64(32, BigInt(size), true);
    [accessed, changed, changed].forEach((t, i) => b.setBigUint64(40 + 8 * i, t, true));
    this.put(address, new Uint8Array(b.buffer));
  }
  nodeStat(address, n) {
    this.filestat(address, n.inode, n.kind, n.size, n.accessed, n.changed);
  }

  readFile(address, count, f, offset) {
    check(this.kind(f) !== FOLDER, E.ISDIR);
    check(f.node ? f.read : f.source, E.BADF);
    const buffers = this.vectors(address, count);
    const want = buffers.reduce((sum, b) => Math.min(CHUNK, sum + b.length), 0);
    const got = (f.node ?? f.source).read(offset, want);
    this.charge(got.length);
    let done = 0;
    for (const b of buffers) {
      const piece = got.subarray(done, done + b.length);
      b.set(piece);
      done += piece.length;
    }
    return done;
  }
  writeOut(stream, bytes) {
    this.charge(bytes.length);
    while (bytes.length > 0) {
      const room = this.run.limits.output_bytes - this.outBytes;
      if (room === 0) throw new Stop(TOO_MUCH_OUTPUT);
      const piece = bytes.slice(0, Math.min(room, CHUNK));
      if (stream === 1) {
        this.stdout.update(piece);
        this.stdoutBytes += piece.length;
      }
      this.show?.(stream, piece);
      this.outBytes += piece.length;
      bytes = bytes.subarray(piece.length);
    }
  }
  writeNode(n, buffers, offset) {
    let total = 0;
    for (const b of buffers) {
      const [done, code] = n.write(b, offset + total);
      this.charge(done);
      total += done;
      if (code && total === 0) fail(code);
      if (code) break;
    }
    n.changed = this.now();
    return total;
  }

  // lookup follows a path below an open folder; nothing leads above it.
  lookup(fd, address, length) {
    const f = this.file(fd);
    check(this.kind(f) === FOLDER, E.NOTDIR);
    check(length >>> 0 <= 4096, E.NAMETOOLONG);
    const bytes = Buffer.from(this.bytes(address, length));
    const path = bytes.toString();
    check(Buffer.from(path).equals(bytes) && !path.includes("\0"), E.ILSEQ);
    check(path !== "", E.NOENT);
    check(!path.startsWith("/"), E.NOTCAPABLE);
    const steps = path.split("/");
    let at = { dir: null, name: "", node: f.node, folder: false };
    let depth = 0;
    for (let i = 0; i < steps.length; i++) {
      const step = steps[i];
      if (!at.node) {
        check(steps.slice(i).every((s) => s === "" || s === "."), E.NOENT);
        at.folder = true;
        return at;
      }
      check(at.node.kind === FOLDER, E.NOTDIR);
      if (step === "" || step === ".") at.folder = true;
      else if (step === "..") {
        check(depth-- > 0, E.NOTCAPABLE);
        at = { dir: null, name: "", node: at.node.parent, folder: true };
      } else {
        depth++;
        at = { dir: at.node, name: step, node: at.node.names.get(step)?.child ?? null, folder: false };
      }
    }
    return at;
  }
  existing(fd, address, length) {
    const at = this.lookup(fd, address, length);
    check(at.node, E.NOENT);
    check(!at.folder || at.node.kind === FOLDER, E.NOTDIR);
    return at;
  }
  changeable(fd, address, length) {
    const at = this.existing(fd, address, length);
    check(at.node.scratch, E.ROFS);
    check(at.dir, E.INVAL);
    return at;
  }
  setTimes(n, accessed, changed, flags) {
    check(n.scratch, E.ROFS);
    check((flags & 3) !== 3, E.INVAL);
    if (flags & 1) n.accessed = BigInt.asUintN(64, accessed);
    if (flags & 2) n.accessed = this.now();
    check((flags & 12) !== 12, E.INVAL);
    if (flags & 4) n.changed = BigInt.asUintN(64, changed);
    if (flags & 8) n.changed = this.now();
  }
  noLink(fd) {
    const f = this.file(fd);
    check(f.node?.scratch, E.ROFS);
    fail(E.NOTSUP);
  }

  // What imports are answered with: 0, or the error that was thrown.
  imports() {
    const w = this;
    const ready = (fd) => void w.file(fd);
    const noSocket = (fd) => {
      w.file(fd);
      fail(E.NOTSOCK);
    };
    const offset = (v) => {
      check(v >= 0n, E.INVAL);
      return Number(v);
    };
    const clock = (id) => check(id >>> 0 < 4, E.INVAL);
    const args = w.run.args.map((a) => Buffer.from(`${a}\0`));
    const functions = {
      args_sizes_get(count, size) {
        w.put32(count, args.length);
        w.put32(size, args.reduce((n, a) => n + a.length, 0));
      },
      args_get(pointers, address) {
        args.forEach((a, i) => {
          w.put32(pointers + 4 * i, address);
          w.put(address, a);
          address += a.length;
        });
      },
      environ_get() {},
      environ_sizes_get(count, size) {
        w.put32(count, 0);
        w.put32(size, 0);
      },
      clock_res_get(id, to) {
        clock(id);
        w.put64(to, CLOCK_STEP);
      },
      clock_time_get(id, _precision, to) {
        clock(id);
        w.advance(CLOCK_STEP);
        w.put64(to, id === 0 ? w.now() : w.elapsed);
      },
      random_get(address, length) {
        w.random.fill(w.bytes(address, length));
      },
      sched_yield() {},
      proc_raise: () => fail(E.NOSYS),
      fd_advise: ready, fd_datasync: ready, fd_sync: ready, fd_fdstat_set_rights: ready,
      sock_accept: noSocket, sock_recv: noSocket, sock_send: noSocket, sock_shutdown: noSocket,
      fd_close: (fd) => w.close(fd),
      fd_renumber(from, to) {
        const f = w.file(from);
        if (from >>> 0 === to >>> 0) return;
        w.close(to);
        w.files[from >>> 0] = null;
        w.files[to >>> 0] = f;
      },
      fd_fdstat_get(fd, to) {
        const f = w.file(fd);
        const b = w.view(to, 24);
        for (let i = 0; i < 24; i++) b.setUint8(i, 0);
        b.setUint8(0, w.kind(f));
        b.setUint8(2, f.append ? 1 : 0);
        b.setBigUint64(8, w.rights(f), true);
        if (w.kind(f) === FOLDER) b.setBigUint64(16, RIGHTS_READ | RIGHTS_WRITE | RIGHTS_FOLDER | RIGHTS_CHANGE, true);
      },
      fd_fdstat_set_flags(fd, flags) {
        const f = w.file(fd);
        if (f.write) f.append = (flags & 1) !== 0;
      },
      fd_filestat_get(fd, to) {
        const f = w.file(fd);
        if (f.node) w.nodeStat(to, f.node);
        else w.filestat(to, f.stream, STREAM, 0, w.epoch, w.epoch);
      },
      fd_filestat_set_size(fd, size) {
        const f = w.own(fd);
        f.node.changed = w.now();
        check(size >= 0n, E.FBIG);
        f.node.resize(Number(size));
      },
      fd_filestat_set_times(fd, accessed, changed, flags) {
        const f = w.file(fd);
        check(f.node, E.INVAL);
        w.setTimes(f.node, accessed, changed, flags);
      },
      fd_allocate(fd, from, length) {
        const f = w.own(fd);
        const { limit } = f.node.scratch;
        check(from >= 0n && length >= 0n && from <= limit && length <= limit, E.FBIG);
        if (Number(from + length) > f.node.length) f.node.resize(Number(from + length));
      },
      fd_prestat_get(fd, to) {
        const f = w.files[fd >>> 0];
        check(f?.mount, E.BADF);
        w.put32(to, 0);
        w.put32(to + 4, f.mount.length);
      },
      fd_prestat_dir_name(fd, to, length) {
        const f = w.files[fd >>> 0];
        check(f?.mount, E.BADF);
        check(length >>> 0 >= f.mount.length, E.NAMETOOLONG);
        w.put(to, f.mount);
      },
      fd_seek(fd, delta, whence, to) {
        const f = w.regular(fd);
        const base = [0n, f.offset, BigInt(f.node.size)][whence >>> 0] ?? fail(E.INVAL);
        const target = BigInt.asUintN(64, base + delta);
        check(target <= CLOCK_END, E.INVAL);
        f.offset = target;
        w.put64(to, target);
      },
      fd_tell(fd, to) {
        w.put64(to, w.regular(fd).offset);
      },
      fd_read(fd, address, count, to) {
        const f = w.file(fd);
        const n = w.readFile(address, count, f, Number(f.offset));
        f.offset += BigInt(n);
        w.put32(to, n);
      },
      fd_pread(fd, address, count, from, to) {
        const f = w.regular(fd);
        w.put32(to, w.readFile(address, count, f, offset(from)));
      },
      fd_write(fd, address, count, to) {
        const f = w.file(fd);
        check(f.out || f.write, E.BADF);
        const buffers = w.vectors(address, count);
        let n = 0;
        if (f.out) {
          for (const b of buffers) {
            const piece = b.subarray(0, 2 ** 31 - n);
            w.writeOut(f.out, piece);
            n += piece.length;
          }
        } else {
          if (f.append) f.offset = BigInt(f.node.length);
          n = w.writeNode(f.node, buffers, Number(f.offset));
          f.offset += BigInt(n);
        }
        w.put32(to, n);
      },
      fd_pwrite(fd, address, count, at, to) {
        const f = w.own(fd);
        const from = offset(at);
        w.put32(to, w.writeNode(f.node, w.vectors(address, count), from));
      },
      fd_readdir(fd, address, length, cookie, to) {
        const f = w.file(fd);
        check(w.kind(f) === FOLDER, E.NOTDIR);
        const out = w.bytes(address, length);
        const from = BigInt.asUintN(64, cookie);
        let used = 0;
        const all = [
          { number: 0, name: ".", child: f.node }, { number: 1, name: "..", child: f.node.parent ?? f.node }, ...f.node.names.values(),
        ];
        for (const { number, name, child } of all) {
          if (BigInt(number) < from || used === out.length) continue;
          const text = Buffer.from(name);
          const record = Buffer.alloc(24 + text.length);
          record.writeBigUInt64LE(BigInt(number + 1), 0);
          record.writeBigUInt64LE(BigInt(child.inode), 8);
          record.writeUInt32LE(text.length, 16);
          record.writeUInt8(child.kind, 20);
          text.copy(record, 24);
          const piece = record.subarray(0, out.length - used);
          out.set(piece, used);
          used += piece.length;
        }
        w.put32(to, used);
      },
      path_open(fd, _lookup, address, length, flags, rights, _inheriting, fdflags, to) {
        const write = (rights & RIGHT.write) !== 0n;
        const at = w.lookup(fd, address, length);
        let free = w.files.indexOf(null);
        if (free < 0) free = w.files.length;
        check(free < MAX_FILES, E.MFILE);
        w.put32(to, free);
        const [create, folder, exclusive, truncate] = [1, 2, 4, 8].map((bit) => (flags & bit) !== 0);
        let n = at.node;
        if (!n) {
          check(create, E.NOENT);
          check(!at.folder && !folder, E.ISDIR);
          n = at.dir.create(at.name, REGULAR, w.now());
        } else {
          check(!(create && exclusive), E.EXIST);
          check(!(at.folder || folder) || n.kind === FOLDER, E.NOTDIR);
          check(n.kind !== FOLDER || !(write || truncate), E.ISDIR);
          check(n.scratch || !(write || truncate), E.ROFS);
          if (truncate) {
            n.changed = w.now();
            n.resize(0);
          }
        }
        n.open++;
        w.files[free] = { node: n, offset: 0n, read: (rights & RIGHT.read) !== 0n, write, append: write && (fdflags & 1) !== 0 };
      },
      path_filestat_get(fd, _flags, address, length, to) {
        w.nodeStat(to, w.existing(fd, address, length).node);
      },
      path_filestat_set_times(fd, _flags, address, length, accessed, changed, flags) {
        w.setTimes(w.existing(fd, address, length).node, accessed, changed, flags);
      },
      path_create_directory(fd, address, length) {
        const at = w.lookup(fd, address, length);
        check(!at.node, E.EXIST);
        at.dir.create(at.name, FOLDER, w.now());
      },
      path_remove_directory(fd, address, length) {
        const at = w.changeable(fd, address, length);
        check(at.node.kind === FOLDER, E.NOTDIR);
        check(at.node.names.size === 0, E.NOTEMPTY);
        at.dir.remove(at.name, w.now());
      },
      path_unlink_file(fd, address, length) {
        const at = w.changeable(fd, address, length);
        check(at.node.kind !== FOLDER, E.ISDIR);
        at.dir.remove(at.name, w.now());
      },
      path_rename(fd, address, length, toFD, toAddress, toLength) {
        const old = w.changeable(fd, address, length);
        const to = w.lookup(toFD, toAddress, toLength);
        check(to.dir, E.INVAL);
        check(to.dir.scratch, E.ROFS);
        check(!to.dir.removed, E.NOENT);
        check(Buffer.byteLength(to.name) <= 255, E.NAMETOOLONG);
        if (to.node === old.node) return;
        check(!old.node.holds(to.dir), E.INVAL);
        check(!to.folder || old.node.kind === FOLDER, E.NOTDIR);
        if (to.node) {
          check(to.node.kind !== FOLDER || old.node.kind === FOLDER, E.ISDIR);
          check(to.node.kind === FOLDER || old.node.kind !== FOLDER, E.NOTDIR);
          check(!to.node.names?.size, E.NOTEMPTY);
          to.dir.remove(to.name, w.now());
        }
        old.dir.drop(old.name);
        to.dir.add(to.name, old.node);
        old.dir.changed = to.dir.changed = w.now();
      },
      path_readlink(fd, address, length) {
        w.existing(fd, address, length);
        fail(E.INVAL);
      },
      path_link: (_fd, _flags, _address, _length, toFD) => w.noLink(toFD),
      path_symlink: (_address, _length, fd) => w.noLink(fd),
      poll_oneoff(from, to, count, events) {
        check(count >>> 0 >= 1 && count >>> 0 <= MAX_POLL, E.INVAL);
        const list = w.view(from, 48 * (count >>> 0));
        const subscriptions = [];
        for (let i = 0; i < list.byteLength; i += 48) subscriptions.push(w.subscription(list, i));
        const ready = subscriptions.some((s) => s.kind !== 0);
        let first = null;
        for (const s of subscriptions) if (s.kind === 0 && (first === null || s.deadline < first)) first = s.deadline;
        if (!ready && first > w.elapsed) w.advance(first - w.elapsed);
        const due = subscriptions.filter((s) => s.kind !== 0 || s.deadline <= w.elapsed || (!ready && s.deadline === first));
        const out = Buffer.alloc(32 * due.length);
        due.forEach((s, i) => {
          out.writeBigUInt64LE(s.user, 32 * i);
          out.writeUInt16LE(s.code, 32 * i + 8);
          out.writeUInt8(s.kind, 32 * i + 10);
          out.writeBigUInt64LE(s.size, 32 * i + 16);
        });
        w.put(to, out);
        w.put32(events, due.length);
      },
    };
    const answered = {};
    for (const [name, call] of Object.entries(functions)) {
      answered[name] = (...values) => {
        try {
          call(...values);
          return 0;
        } catch (error) {
          if (error instanceof Errno) return error.code;
          throw error;
        }
      };
    }
    answered.proc_exit = (code) => {
      throw new Stop(0, code >>> 0);
    };
    return { wasi_snapshot_preview1: answered };
  }

  subscription(list, i) {
    const s = { user: list.getBigUint64(i, true), kind: list.getUint8(i + 8), code: 0, size: 0n };
    if (s.kind === 0) {
      const id = list.getUint32(i + 16, true);
      let timeout = list.getBigUint64(i + 24, true);
      const absolute = (list.getUint16(i + 40, true) & 1) !== 0;
      check(id < 4, E.INVAL);
      if (absolute && id === 0) timeout -= timeout < this.epoch ? timeout : this.epoch;
      const sum = (absolute ? 0n : this.elapsed) + timeout;
      s.deadline = sum < 1n << 64n ? sum : (1n << 64n) - 1n;
    } else if (s.kind <= 2) {
      const f = this.files[list.getUint32(i + 16, true)];
      if (!f) s.code = E.BADF;
      else if (s.kind === 1) {
        const size = f.source ? f.source.size : this.kind(f) === REGULAR ? f.node.size : 0;
        s.size = BigInt(size) > f.offset ? BigInt(size) - f.offset : 0n;
      }
    } else fail(E.INVAL);
    return s;
  }
}

// ---- The run.

// replay runs what is in a folder and returns how it ended; show takes the output.
export function replay(dir, show) {
  const run = JSON.parse(readFileSync(join(dir, "run.json"), "utf8"));
  const open = (name) => new Uint8Array(readFileSync(join(dir, name)));
  const world = new World(run, open);
  world.show = show;
  const module = new WebAssembly.Module(open(run.module));
  const { exports } = new WebAssembly.Instance(module, world.imports());
  const { "mman.used": used, "mman.limit": limit, "mman.stop": stop } = exports;
  world.used = used;
  world.memory = Object.values(exports).find((e) => e instanceof WebAssembly.Memory);
  if (!world.memory) throw new Error("the module does not export its memory, so that only engines with access of their own can run it");
  limit.value = BigInt(run.limits.fuel);
  let code = 0;
  let exitCode = 0;
  let ended = true; // by the guest itself, or by the host in a host call
  try {
    exports["mman.start"]?.(); // what was the module's start section
    exports._start();
  } catch (error) {
    if (error instanceof Stop) ({ code, exitCode } = error);
    else if (error instanceof WebAssembly.RuntimeError) [code, ended] = [TRAPPED, false];
    else throw error; // such as a stack of this engine's that is too small: use node --stack-size
  }
  const spent = BigInt.asUintN(64, used.value);
  if (code !== TOO_MUCH_OUTPUT && stop.value === 0 && spent > BigInt(run.limits.fuel)) code = OUT_OF_FUEL;
  const fuel = ended && spent < BigInt(run.limits.fuel) ? Number(spent) : run.limits.fuel;
  const result = {
    code, exit_code: exitCode, fuel,
    stdout_bytes: world.stdoutBytes, stdout_sha256: world.stdout.digest("hex"), out_bytes: world.outBytes,
  };
  return { expected: run.expected, result };
}

if (process.argv[1]?.endsWith("replay.mjs")) {
  if (process.argv.length !== 3) {
    console.error("usage: node replay.mjs DIR, as written by: mman replay RECEIPT --export DIR");
    process.exit(2);
  }
  const show = (stream, bytes) => {
    for (let done = 0; done < bytes.length; ) done += writeSync(stream, bytes, done);
  };
  const { expected, result } = replay(process.argv[2], show);
  const differs = Object.keys(expected).filter((key) => expected[key] !== result[key]);
  for (const key of differs) console.error(`${key}: paid for ${expected[key]}, here it is ${result[key]}`);
  if (differs.length > 0) process.exit(1);
  console.error(`Equal: exit code ${result.exit_code}, ${result.stdout_bytes} bytes of output, ${result.fuel} fuel.`);
}
