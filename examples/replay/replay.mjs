// Runs again what `mman replay RECEIPT --export DIR` wrote, on the WebAssembly of
// Node.js (18 or later), and says whether the result and the fuel are the same:
//
//     node replay.mjs DIR
//
// The module is instrumented: it counts its fuel itself, so engines that agree on
// WebAssembly agree on the bill. What is left to the host is a world that is the same
// everywhere: WASI preview 1 with a clock, randomness and files of its own. This is all
// of it, written apart from the node's: random numbers, files, the functions of WASI in
// one table, and at the end the run.
import { createHash } from "node:crypto";
import { readFileSync, writeSync } from "node:fs";
import { join } from "node:path";

const CLOCK_STEP = 1000n, CLOCK_END = (1n << 63n) - 1n; // ns
const CHUNK = 65536; // bytes that one read returns at most
const UNIT = 64; // bytes that pass in or out for one unit of fuel
const PAGE = 4096, SLOT = 48, ENTRY = 1024; // what the guest's own files are counted in, bytes
const [STREAM, FOLDER, REGULAR] = [2, 3, 4];
const ENDED = { output: 304, trap: 307, fuel: 311 }; // codes of a receipt
const E = {
  BADF: 8, EXIST: 20, FAULT: 21, FBIG: 22, ILSEQ: 25, INVAL: 28, ISDIR: 31, MFILE: 33, NAMETOOLONG: 37, NOENT: 44,
  NOSPC: 51, NOSYS: 52, NOTDIR: 54, NOTEMPTY: 55, NOTSOCK: 57, NOTSUP: 58, ROFS: 69, SPIPE: 70, NOTCAPABLE: 76,
};
const bits = (...places) => places.reduce((sum, place) => sum | (1n << BigInt(place)), 0n);
const RIGHTS = {
  read: bits(1), position: bits(2, 5, 21), write: bits(0, 4, 6, 8, 22, 23), out: bits(5, 6),
  folder: bits(13, 14, 18, 21), change: bits(9, 10, 16, 17, 20, 25, 26),
};

// A call of the guest's that fails throws an Errno; one that ends the run, a Stop.
class Errno extends Error { constructor(code) { super(`errno ${code}`); this.code = code; } }
class Stop extends Error { constructor(code, exit = 0) { super("the run is over"); Object.assign(this, { code, exit }); } }
const fail = (code) => { throw new Errno(code); };
const check = (ok, code) => ok || fail(code);

// ---- Randomness: ChaCha8Rand (c2sp.org/chacha8rand), keyed with a hash of the seed.

function* chacha8(seed) {
  const hash = createHash("sha256").update("mman/wasm/random/1\0").update(Buffer.from(seed, "hex")).digest();
  let key = Uint32Array.from({ length: 8 }, (_, i) => hash.readUInt32LE(4 * i));
  const turn = (x, n) => (x << n) | (x >>> (32 - n));
  for (;;) {
    const out = new DataView(new ArrayBuffer(1024));
    for (let counter = 0; counter < 16; counter++) {
      const b = Uint32Array.of(0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, ...key, counter, 0, 0, 0);
      const quarter = (i, j, k, l) => {
        b[i] += b[j]; b[l] = turn(b[l] ^ b[i], 16); b[k] += b[l]; b[j] = turn(b[j] ^ b[k], 12);
        b[i] += b[j]; b[l] = turn(b[l] ^ b[i], 8); b[k] += b[l]; b[j] = turn(b[j] ^ b[k], 7);
      };
      for (let round = 0; round < 8; round++) { // of columns and of diagonals
        for (let i = 0; i < 4; i++) quarter(i, 4 + ((i + round % 2) % 4), 8 + ((i + 2 * (round % 2)) % 4), 12 + ((i + 3 * (round % 2)) % 4));
      }
      key.forEach((word, i) => (b[4 + i] += word));
      // Four blocks are interlaced, word by word.
      b.forEach((word, i) => out.setUint32(256 * (counter >> 2) + 16 * i + 4 * (counter & 3), word, true));
    }
    yield* new Uint8Array(out.buffer, 0, 992);
    key = Uint32Array.from({ length: 8 }, (_, i) => out.getUint32(992 + 4 * i, true));
  }
}

// ---- Files and folders: those that were given, and those of the guest's own, which
// have a scratch that counts what they take.

class Node {
  constructor(inode, kind, scratch, time, data = new Uint8Array(0)) {
    Object.assign(this, { inode, kind, scratch, accessed: time, changed: time, parent: null, open: 0, removed: false });
    Object.assign(this, { data, size: data.length, written: new Set(), names: new Map(), next: 2 });
  }
  add(name, child) {
    this.names.set(name, { name, child, number: this.next++ });
    child.parent = this;
  }
  drop(name) {
    const { child } = this.names.get(name);
    this.names.delete(name);
    child.parent = null;
    return child;
  }
  create(name, kind, now) {
    check(this.scratch, E.ROFS);
    check(!this.removed, E.NOENT);
    check(Buffer.byteLength(name) <= 255, E.NAMETOOLONG);
    check(this.scratch.take(ENTRY), E.NOSPC);
    const child = new Node(this.scratch.inodes++, kind, this.scratch, now);
    this.changed = now;
    this.add(name, child);
    return child;
  }
  remove(name, now) {
    const child = this.drop(name);
    child.removed = true;
    this.changed = now;
    this.scratch.used -= ENTRY;
    child.release();
  }
  release() {
    if (this.removed && this.open === 0 && this.kind === REGULAR) this.resize(0);
  }
  holds(other) {
    return other !== null && (other === this || this.holds(other.parent));
  }
  resize(size) {
    check(size <= this.scratch.limit, E.FBIG);
    const [slots, have] = [Math.ceil(size / PAGE), Math.ceil(this.size / PAGE)];
    if (slots > have) check(this.scratch.take((slots - have) * SLOT), E.NOSPC);
    for (let i = slots; i < have; i++) this.scratch.used -= SLOT + (this.written.delete(i) ? PAGE : 0);
    if (size < this.size) this.data.fill(0, size, this.size);
    if (size > this.data.length) {
      const larger = new Uint8Array(Math.max(size, Math.min(2 * this.data.length, this.scratch.limit)));
      larger.set(this.data);
      this.data = larger;
    }
    this.size = size;
  }
  // write returns how much of bytes there was room for, and the error that ended it.
  write(bytes, offset) {
    if (offset + bytes.length > this.scratch.limit) return [0, E.FBIG];
    let done = 0;
    try {
      while (done < bytes.length) {
        const at = offset + done, page = Math.floor(at / PAGE), before = this.size;
        const piece = bytes.subarray(done, done + PAGE - (at % PAGE));
        if (at + piece.length > before) this.resize(at + piece.length);
        if (!this.written.has(page) && !this.scratch.take(PAGE)) {
          this.resize(before);
          fail(E.NOSPC);
        }
        this.written.add(page);
        this.data.set(piece, at);
        done += piece.length;
      }
    } catch (error) {
      if (error instanceof Errno) return [done, error.code];
      throw error;
    }
    return [done, 0];
  }
  read(offset, want) {
    return this.data.subarray(Math.min(offset, this.size), Math.min(offset + want, this.size));
  }
}

// ---- The guest's world. Its memory and its count of fuel are set before it runs.

function world(run, open, show) {
  const w = { memory: null, used: null, outBytes: 0, stdoutBytes: 0, stdout: createHash("sha256") };
  const epoch = BigInt(run.clock_epoch_ns), random = chacha8(run.seed);
  let elapsed = 0n;
  const now = () => epoch + elapsed;
  const advance = (ns) => { elapsed = elapsed + ns < CLOCK_END - epoch ? elapsed + ns : CLOCK_END - epoch; };
  const charge = (n) => { w.used.value += BigInt(Math.ceil(n / UNIT)); };

  // Memory of the guest: addresses and lengths are unsigned, and checked.
  const bytes = (address, length) => {
    check((address >>> 0) + (length >>> 0) <= w.memory.buffer.byteLength, E.FAULT);
    return Buffer.from(w.memory.buffer, address >>> 0, length >>> 0);
  };
  const put = (address, from) => bytes(address, from.length).set(from);
  const put32 = (address, v) => bytes(address, 4).writeUInt32LE(v >>> 0);
  const put64 = (address, v) => bytes(address, 8).writeBigUInt64LE(BigInt.asUintN(64, v));
  const vectors = (address, count) => {
    check(count >>> 0 <= 1024, E.INVAL);
    const list = bytes(address, 8 * (count >>> 0));
    return Array.from({ length: count >>> 0 }, (_, i) => bytes(list.readUInt32LE(8 * i), list.readUInt32LE(8 * i + 4)));
  };

  // Descriptors: three streams and the mounts.
  const files = [
    { source: new Node(0, REGULAR, null, epoch, run.stdin ? open(run.stdin) : undefined), offset: 0n }, { out: 1, offset: 0n }, { out: 2, offset: 0n },
  ];
  for (const mount of run.mounts) {
    const scratch = mount.max_bytes && { limit: mount.max_bytes, used: 0, inodes: 1024, take(n) {
      const room = n <= this.limit - this.used && w.memory.buffer.byteLength + this.used + n <= run.limits.memory_bytes;
      if (room) this.used += n;
      return room;
    } };
    const root = new Node(mount.inode, FOLDER, scratch, epoch);
    for (const f of mount.files ?? []) root.add(f.name, new Node(f.inode, REGULAR, null, epoch, open(f.content)));
    root.open++;
    files.push({ node: root, mount: Buffer.from(mount.path), offset: 0n });
  }
  const kind = (f) => (f.node ? f.node.kind : STREAM);
  const file = (fd) => files[fd >>> 0] ?? fail(E.BADF);
  const regular = (fd) => {
    const f = file(fd);
    check(kind(f) !== FOLDER, E.ISDIR);
    return check(f.node, E.SPIPE) && f;
  };
  const own = (fd) => { // a file of the guest's that is written
    const f = file(fd);
    check(f.node, E.SPIPE);
    check(f.node.scratch, E.ROFS);
    check(kind(f) !== FOLDER, E.ISDIR);
    return check(f.write, E.BADF) && f;
  };
  const mounted = (fd) => (files[fd >>> 0]?.mount ? files[fd >>> 0] : fail(E.BADF));
  const close = (fd) => {
    const f = file(fd);
    files[fd >>> 0] = null;
    if (f.node) f.node.open--, f.node.release();
  };
  const rights = (f) => {
    if (kind(f) === FOLDER) return RIGHTS.folder | (f.node.scratch ? RIGHTS.change : 0n);
    const [read, write] = [f.read || f.source, f.write];
    return (read ? RIGHTS.read : 0n) | (read || write ? RIGHTS.position : 0n) | (write ? RIGHTS.write : 0n) | (f.out ? RIGHTS.out : 0n);
  };
  const stat = (to, inode, type, size, accessed, changed) => {
    const b = Buffer.alloc(64);
    [[8, BigInt(inode)], [16, BigInt(type)], [24, 1n], [32, BigInt(size)], [40, accessed], [48, changed], [56, changed]]
      .forEach(([at, v]) => b.writeBigUInt64LE(v, at));
    put(to, b);
  };
  const statNode = (to, n) => stat(to, n.inode, n.kind, n.size, n.accessed, n.changed);
  const setTimes = (n, accessed, changed, flags) => {
    check(n.scratch, E.ROFS);
    check((flags & 3) !== 3, E.INVAL);
    if (flags & 3) n.accessed = flags & 1 ? BigInt.asUintN(64, accessed) : now();
    check((flags & 12) !== 12, E.INVAL);
    if (flags & 12) n.changed = flags & 4 ? BigInt.asUintN(64, changed) : now();
  };
  const position = (v) => Number(check(v >= 0n, E.INVAL) && v);

  const read = (f, address, count, offset) => {
    check(kind(f) !== FOLDER, E.ISDIR);
    check(f.node ? f.read : f.source, E.BADF);
    const buffers = vectors(address, count);
    const got = (f.node ?? f.source).read(offset, buffers.reduce((sum, b) => Math.min(CHUNK, sum + b.length), 0));
    charge(got.length);
    let done = 0;
    for (const b of buffers) {
      b.set(got.subarray(done, done + b.length));
      done += Math.min(b.length, got.length - done);
    }
    return done;
  };
  const print = (stream, all) => {
    charge(all.length);
    for (let done = 0; done < all.length; ) {
      const room = run.limits.output_bytes - w.outBytes;
      if (room === 0) throw new Stop(ENDED.output);
      const piece = Uint8Array.from(all.subarray(done, done + Math.min(room, CHUNK)));
      if (stream === 1) w.stdout.update(piece), (w.stdoutBytes += piece.length);
      show(stream, piece);
      w.outBytes += piece.length;
      done += piece.length;
    }
  };
  const write = (n, buffers, offset) => {
    let total = 0;
    for (const b of buffers) {
      const [done, code] = n.write(b, offset + total);
      charge(done);
      total += done;
      check(!code || total > 0, code);
      if (code) break;
    }
    n.changed = now();
    return total;
  };

  // lookup follows a path below an open folder; nothing leads above it.
  const lookup = (fd, address, length) => {
    const f = file(fd);
    check(kind(f) === FOLDER, E.NOTDIR);
    check(length >>> 0 <= 4096, E.NAMETOOLONG);
    const path = bytes(address, length).toString();
    check(Buffer.from(path).equals(bytes(address, length)) && !path.includes("\0"), E.ILSEQ);
    check(path !== "", E.NOENT);
    check(path[0] !== "/", E.NOTCAPABLE);
    let at = { dir: null, name: "", node: f.node, folder: false }, depth = 0;
    for (const step of path.split("/")) {
      const here = step === "" || step === ".";
      check(at.node || here, E.NOENT);
      check(!at.node || at.node.kind === FOLDER, E.NOTDIR);
      if (here) at.folder = true;
      else if (step === "..") check(depth-- > 0, E.NOTCAPABLE), (at = { dir: null, name: "", node: at.node.parent, folder: true });
      else depth++, (at = { dir: at.node, name: step, node: at.node.names.get(step)?.child ?? null, folder: false });
    }
    return at;
  };
  const existing = (...path) => {
    const at = lookup(...path);
    check(at.node, E.NOENT);
    return check(!at.folder || at.node.kind === FOLDER, E.NOTDIR) && at;
  };
  const changeable = (...path) => {
    const at = existing(...path);
    check(at.node.scratch, E.ROFS);
    return check(at.dir, E.INVAL) && at;
  };
  const subscription = (b) => {
    const s = { user: b.readBigUInt64LE(0), kind: b[8], code: 0, size: 0n };
    check(s.kind <= 2, E.INVAL);
    if (s.kind > 0) {
      const f = files[b.readUInt32LE(16)];
      if (!f) s.code = E.BADF;
      else if (s.kind === 1) s.size = BigInt((f.node ?? f.source)?.size ?? 0) - f.offset;
      if (s.size < 0n) s.size = 0n;
      return s;
    }
    check(b.readUInt32LE(16) < 4, E.INVAL);
    const absolute = b.readUInt16LE(40) & 1, timeout = b.readBigUInt64LE(24);
    const from = !absolute ? elapsed : b.readUInt32LE(16) === 0 ? -epoch : 0n;
    s.deadline = from + timeout < 0n ? 0n : BigInt.asUintN(64, from + timeout) === from + timeout ? from + timeout : (1n << 64n) - 1n;
    return s;
  };

  const args = run.args.map((a) => Buffer.from(`${a}\0`));
  const present = (fd) => void file(fd);
  const noSocket = (fd) => file(fd) && fail(E.NOTSOCK);
  const noLink = (fd) => check(file(fd).node?.scratch, E.ROFS) && fail(E.NOTSUP);
  const clock = (id) => check(id >>> 0 < 4, E.INVAL);

  // The functions, by their names. Each is answered with 0, or the error that it throws.
  const functions = {
    args_sizes_get: (count, size) => { put32(count, args.length); put32(size, args.reduce((n, a) => n + a.length, 0)); },
    args_get: (to, at) => args.forEach((a, i) => { put32(to + 4 * i, at); put(at, a); at += a.length; }),
    environ_get() {},
    environ_sizes_get: (count, size) => { put32(count, 0); put32(size, 0); },
    clock_res_get: (id, to) => { clock(id); put64(to, CLOCK_STEP); },
    clock_time_get: (id, _precision, to) => { clock(id); advance(CLOCK_STEP); put64(to, id === 0 ? now() : elapsed); },
    random_get: (at, length) => { const to = bytes(at, length); for (let i = 0; i < to.length; i++) to[i] = random.next().value; },
    sched_yield() {},
    proc_raise: () => fail(E.NOSYS),
    proc_exit: (code) => { throw new Stop(0, code >>> 0); },
    fd_advise: present, fd_datasync: present, fd_sync: present, fd_fdstat_set_rights: present,
    sock_accept: noSocket, sock_recv: noSocket, sock_send: noSocket, sock_shutdown: noSocket,
    fd_close: close,
    fd_renumber(from, to) {
      const f = file(from);
      if (from >>> 0 === to >>> 0) return;
      close(to);
      [files[from >>> 0], files[to >>> 0]] = [null, f];
    },
    fd_fdstat_get(fd, to) {
      const f = file(fd), b = Buffer.alloc(24);
      [b[0], b[2]] = [kind(f), f.append ? 1 : 0];
      b.writeBigUInt64LE(rights(f), 8);
      const { read, position, write, folder, change } = RIGHTS;
      if (kind(f) === FOLDER) b.writeBigUInt64LE(read | position | write | folder | change, 16);
      put(to, b);
    },
    fd_fdstat_set_flags(fd, flags) { const f = file(fd); if (f.write) f.append = (flags & 1) !== 0; },
    fd_filestat_get(fd, to) { const f = file(fd); f.node ? statNode(to, f.node) : stat(to, f.out ?? 0, STREAM, 0, epoch, epoch); },
    fd_filestat_set_size(fd, size) { const { node } = own(fd); node.changed = now(); node.resize(Number(check(size >= 0n, E.FBIG) && size)); },
    fd_filestat_set_times(fd, ...times) { const f = file(fd); check(f.node, E.INVAL); setTimes(f.node, ...times); },
    fd_allocate(fd, from, length) {
      const { node } = own(fd), { limit } = node.scratch;
      check(from >= 0n && length >= 0n && from <= limit && length <= limit, E.FBIG);
      if (Number(from + length) > node.size) node.resize(Number(from + length));
    },
    fd_prestat_get(fd, to) { const { mount } = mounted(fd); put32(to, 0); put32(to + 4, mount.length); },
    fd_prestat_dir_name(fd, to, length) { const { mount } = mounted(fd); check(length >>> 0 >= mount.length, E.NAMETOOLONG); put(to, mount); },
    fd_seek(fd, delta, whence, to) {
      const f = regular(fd);
      const target = BigInt.asUintN(64, ([0n, f.offset, BigInt(f.node.size)][whence >>> 0] ?? fail(E.INVAL)) + delta);
      check(target <= CLOCK_END, E.INVAL);
      put64(to, (f.offset = target));
    },
    fd_tell: (fd, to) => put64(to, regular(fd).offset),
    fd_read(fd, at, count, to) { const f = file(fd), n = read(f, at, count, Number(f.offset)); f.offset += BigInt(n); put32(to, n); },
    fd_pread: (fd, at, count, from, to) => put32(to, read(regular(fd), at, count, position(from))),
    fd_write(fd, at, count, to) {
      const f = file(fd);
      check(f.out || f.write, E.BADF);
      const buffers = vectors(at, count);
      if (f.out) return buffers.forEach((b) => print(f.out, b)), put32(to, buffers.reduce((n, b) => n + b.length, 0));
      if (f.append) f.offset = BigInt(f.node.size);
      const n = write(f.node, buffers, Number(f.offset));
      f.offset += BigInt(n);
      put32(to, n);
    },
    fd_pwrite(fd, at, count, from, to) { const { node } = own(fd), offset = position(from); put32(to, write(node, vectors(at, count), offset)); },
    fd_readdir(fd, at, length, cookie, to) {
      const { node } = file(fd), out = bytes(at, check(node?.kind === FOLDER, E.NOTDIR) && length);
      const all = [{ number: 0, name: ".", child: node }, { number: 1, name: "..", child: node.parent ?? node }, ...node.names.values()];
      let used = 0;
      for (const { number, name, child } of all.filter((e) => BigInt(e.number) >= BigInt.asUintN(64, cookie))) {
        const entry = Buffer.concat([Buffer.alloc(24), Buffer.from(name)]);
        entry.writeBigUInt64LE(BigInt(number + 1), 0);
        entry.writeBigUInt64LE(BigInt(child.inode), 8);
        entry.writeUInt32LE(entry.length - 24, 16);
        entry[20] = child.kind;
        used += entry.copy(out, used);
      }
      put32(to, used);
    },
    path_open(fd, _lookup, address, length, flags, wanted, _inheriting, fdflags, to) {
      const at = lookup(fd, address, length), writes = (wanted & bits(6)) !== 0n;
      const free = files.includes(null) ? files.indexOf(null) : files.length;
      check(free < 256, E.MFILE);
      put32(to, free);
      const [create, folder, exclusive, truncate] = [1, 2, 4, 8].map((bit) => (flags & bit) !== 0);
      if (!at.node) {
        check(create, E.NOENT);
        check(!at.folder && !folder, E.ISDIR);
        at.node = at.dir.create(at.name, REGULAR, now());
      } else {
        check(!(create && exclusive), E.EXIST);
        check(!(at.folder || folder) || at.node.kind === FOLDER, E.NOTDIR);
        check(at.node.kind !== FOLDER || !(writes || truncate), E.ISDIR);
        check(at.node.scratch || !(writes || truncate), E.ROFS);
        if (truncate) (at.node.changed = now()), at.node.resize(0);
      }
      at.node.open++;
      files[free] = { node: at.node, offset: 0n, read: (wanted & RIGHTS.read) !== 0n, write: writes, append: writes && (fdflags & 1) !== 0 };
    },
    path_filestat_get: (fd, _flags, at, length, to) => statNode(to, existing(fd, at, length).node),
    path_filestat_set_times: (fd, _flags, at, length, ...times) => setTimes(existing(fd, at, length).node, ...times),
    path_create_directory(...path) { const at = lookup(...path); check(!at.node, E.EXIST); at.dir.create(at.name, FOLDER, now()); },
    path_remove_directory(...path) {
      const at = changeable(...path);
      check(at.node.kind === FOLDER, E.NOTDIR);
      check(at.node.names.size === 0, E.NOTEMPTY);
      at.dir.remove(at.name, now());
    },
    path_unlink_file(...path) { const at = changeable(...path); check(at.node.kind !== FOLDER, E.ISDIR); at.dir.remove(at.name, now()); },
    path_rename(fd, address, length, ...target) {
      const old = changeable(fd, address, length), to = lookup(...target);
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
        check(to.node.names.size === 0, E.NOTEMPTY);
        to.dir.remove(to.name, now());
      }
      to.dir.add(to.name, old.dir.drop(old.name));
      old.dir.changed = to.dir.changed = now();
    },
    path_readlink: (...path) => existing(...path.slice(0, 3)) && fail(E.INVAL),
    path_link: (_fd, _flags, _at, _length, to) => noLink(to),
    path_symlink: (_at, _length, fd) => noLink(fd),
    poll_oneoff(from, to, count, events) {
      check(count >>> 0 >= 1 && count >>> 0 <= 4096, E.INVAL);
      const list = bytes(from, 48 * (count >>> 0));
      const all = Array.from({ length: count >>> 0 }, (_, i) => subscription(list.subarray(48 * i)));
      const ready = all.some((s) => s.kind > 0);
      const first = all.reduce((least, s) => (s.kind === 0 && s.deadline < least ? s.deadline : least), 1n << 64n);
      if (!ready && first > elapsed) advance(first - elapsed);
      const due = all.filter((s) => s.kind > 0 || s.deadline <= elapsed || (!ready && s.deadline === first));
      put(to, Buffer.concat(due.map((s) => {
        const event = Buffer.alloc(32);
        event.writeBigUInt64LE(s.user, 0);
        event.writeUInt16LE(s.code, 8);
        event[10] = s.kind;
        event.writeBigUInt64LE(s.size, 16);
        return event;
      })));
      put32(events, due.length);
    },
  };
  w.imports = { wasi_snapshot_preview1: {} };
  for (const [name, call] of Object.entries(functions)) {
    w.imports.wasi_snapshot_preview1[name] = (...values) => {
      try {
        call(...values);
        return 0;
      } catch (error) {
        if (error instanceof Errno) return error.code;
        throw error;
      }
    };
  }
  return w;
}

// ---- The run.

// replay runs what is in a folder and returns how it ended; show takes the output.
export function replay(dir, show) {
  const open = (name) => new Uint8Array(readFileSync(join(dir, name)));
  const run = JSON.parse(readFileSync(join(dir, "run.json"), "utf8"));
  const w = world(run, open, show), budget = BigInt(run.limits.fuel);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(open(run.module)), w.imports);
  w.used = exports["mman.used"];
  w.memory = Object.values(exports).find((e) => e instanceof WebAssembly.Memory);
  if (!w.memory) throw new Error("the module does not export its memory, so that only engines with access of their own can run it");
  exports["mman.limit"].value = budget;
  let end = { code: 0, exit: 0 }, whole = false; // a trap costs the whole budget
  try {
    exports["mman.start"]?.(); // what was the module's start section
    exports._start();
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) end = { code: ENDED.trap, exit: 0 }, (whole = true);
    else if (error instanceof Stop) end = error;
    else throw error; // such as a stack of this engine's that is too small: use node --stack-size
  }
  const spent = BigInt.asUintN(64, w.used.value);
  if (end.code !== ENDED.output && exports["mman.stop"].value === 0 && spent > budget) end = { code: ENDED.fuel, exit: end.exit };
  const result = {
    code: end.code, exit_code: end.exit, fuel: Number(whole || spent > budget ? budget : spent),
    stdout_bytes: w.stdoutBytes, stdout_sha256: w.stdout.digest("hex"), out_bytes: w.outBytes,
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
