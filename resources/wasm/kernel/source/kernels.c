// Kernels that tests and benchmarks meter. Built without a library:
//
//   clang --target=wasm32 -O2 -nostdlib -mbulk-memory -fno-builtin -Wl,--no-entry -Wl,-z,stack-size=65536 -o ../kernels.wasm kernels.c
//
// Each takes a number of rounds and returns a checksum.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define EXPORT(name) __attribute__((export_name(#name)))
#define N 65536

static u8 bytes[1 << 20];
static u32 words[1 << 18];
static double reals[3 * 100 * 100];

static u32 seed;
static u32 next(void) { return seed = seed * 1664525 + 1013904223; }

static const u32 K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

#define ROR(x, n) ((x) >> (n) | (x) << (32 - (n)))

static void block(u32 *h, const u8 *p) {
  u32 w[64];
  for (int i = 0; i < 16; i++)
    w[i] = (u32)p[4 * i] << 24 | (u32)p[4 * i + 1] << 16 | (u32)p[4 * i + 2] << 8 | p[4 * i + 3];
  for (int i = 16; i < 64; i++)
    w[i] = w[i - 16] + w[i - 7] + (ROR(w[i - 15], 7) ^ ROR(w[i - 15], 18) ^ w[i - 15] >> 3) + (ROR(w[i - 2], 17) ^ ROR(w[i - 2], 19) ^ w[i - 2] >> 10);
  u32 a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], x = h[7];
  for (int i = 0; i < 64; i++) {
    u32 t = x + (ROR(e, 6) ^ ROR(e, 11) ^ ROR(e, 25)) + (g ^ (e & (f ^ g))) + K[i] + w[i];
    u32 s = (ROR(a, 2) ^ ROR(a, 13) ^ ROR(a, 22)) + ((a & b) | (c & (a | b)));
    x = g, g = f, f = e, e = d + t, d = c, c = b, b = a, a = t + s;
  }
  h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e, h[5] += f, h[6] += g, h[7] += x;
}

EXPORT(sha256) u32 sha256(u32 rounds) {
  u32 h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  for (u32 i = 0; i < sizeof bytes; i++) bytes[i] = (u8)(i * 31);
  for (u32 r = 0; r < rounds; r++)
    for (u32 i = 0; i < sizeof bytes; i += 64) block(h, bytes + i);
  return h[0];
}

struct body { double x, y, z, vx, vy, vz, mass; };
static struct body sun[5];

static void advance(struct body *b, double dt) {
  for (int i = 0; i < 5; i++)
    for (int j = i + 1; j < 5; j++) {
      double dx = b[i].x - b[j].x, dy = b[i].y - b[j].y, dz = b[i].z - b[j].z;
      double d2 = dx * dx + dy * dy + dz * dz, mag = dt / (d2 * __builtin_sqrt(d2));
      b[i].vx -= dx * b[j].mass * mag, b[i].vy -= dy * b[j].mass * mag, b[i].vz -= dz * b[j].mass * mag;
      b[j].vx += dx * b[i].mass * mag, b[j].vy += dy * b[i].mass * mag, b[j].vz += dz * b[i].mass * mag;
    }
  for (int i = 0; i < 5; i++) b[i].x += dt * b[i].vx, b[i].y += dt * b[i].vy, b[i].z += dt * b[i].vz;
}

EXPORT(nbody) u32 nbody(u32 rounds) {
  static const struct body start[5] = {
      {0, 0, 0, 0, 0, 0, 39.47841760435743},
      {4.84143144246472090, -1.16032004402742839, -0.103622044471123109, 0.606326392995832, 2.81198684491626, -0.02521836165988763, 0.03769367487038949},
      {8.34336671824457987, 4.12479856412430479, -0.403523417114321, -1.01077434617879, 1.82566237123041, 0.008415761376584154, 0.011286326131968767},
      {12.8943695621391310, -15.1111514016986312, -0.223307578892655734, 1.08279100644153, 0.868713018169608, -0.010832637401363636, 0.0017237240570597112},
      {15.3796971148509165, -25.9193146099879641, 0.179258772950371181, 0.979090732243898, 0.594698998647676, -0.034755955550407446, 0.0020336868699246304}};
  for (int i = 0; i < 5; i++) sun[i] = start[i];
  for (u32 r = 0; r < rounds; r++) advance(sun, 0.01);
  return (u32)(int)(sun[0].x * 1e9);
}

EXPORT(fannkuch) u32 fannkuch(u32 n) {
  int p[16], q[16], s[16], sign = 1, most = 0, sum = 0;
  for (u32 i = 0; i < n; i++) p[i] = q[i] = s[i] = (int)i;
  for (;;) {
    int q0 = p[0];
    if (q0 != 0) {
      for (u32 i = 1; i < n; i++) q[i] = p[i];
      int flips = 1;
      for (;;) {
        int qq = q[q0];
        if (qq == 0) {
          sum += sign * flips;
          if (flips > most) most = flips;
          break;
        }
        q[q0] = q0;
        if (q0 >= 3) {
          int i = 1, j = q0 - 1, t;
          do t = q[i], q[i] = q[j], q[j] = t, i++, j--;
          while (i < j);
        }
        q0 = qq, flips++;
      }
    }
    if (sign == 1) {
      int t = p[0];
      p[0] = p[1], p[1] = t, sign = -1;
    } else {
      int t = p[1];
      p[1] = p[2], p[2] = t, sign = 1;
      for (u32 i = 2; i < n; i++) {
        int sx = s[i];
        if (sx != 0) {
          s[i] = sx - 1;
          break;
        }
        if (i == n - 1) return (u32)(sum * 100 + most);
        s[i] = (int)i;
        t = p[0];
        for (u32 j = 0; j <= i; j++) p[j] = p[j + 1];
        p[i + 1] = t;
      }
    }
  }
}

EXPORT(sieve) u32 sieve(u32 rounds) {
  u32 count = 0;
  for (u32 r = 0; r < rounds; r++) {
    count = 0;
    for (u32 i = 2; i < sizeof bytes; i++) bytes[i] = 1;
    for (u32 i = 2; i < sizeof bytes; i++)
      if (bytes[i]) {
        count++;
        for (u32 j = 2 * i; j < sizeof bytes; j += i) bytes[j] = 0;
      }
  }
  return count;
}

static void quicksort(u32 *a, int low, int high) {
  while (low < high) {
    u32 pivot = a[(low + high) / 2];
    int i = low, j = high;
    while (i <= j) {
      while (a[i] < pivot) i++;
      while (a[j] > pivot) j--;
      if (i <= j) {
        u32 t = a[i];
        a[i++] = a[j], a[j--] = t;
      }
    }
    quicksort(a, low, j);
    low = i;
  }
}

EXPORT(sort) u32 sort(u32 rounds) {
  u32 sum = 0;
  seed = 1;
  for (u32 r = 0; r < rounds; r++) {
    for (u32 i = 0; i < 1 << 18; i++) words[i] = next();
    quicksort(words, 0, (1 << 18) - 1);
    sum += words[1000];
  }
  return sum;
}

static const u8 *at;
static u32 scan(void) {
  u32 n = 1;
  while (*at == ' ') at++;
  switch (*at) {
  case '{':
  case '[':
    for (at++; *at != '}' && *at != ']';) {
      n += scan();
      while (*at == ',' || *at == ':' || *at == ' ') at++;
    }
    at++;
    return n;
  case '"':
    for (at++; *at != '"'; at++)
      if (*at == '\\') at++;
    at++;
    return n;
  default:
    while (*at == '-' || *at == '.' || (*at >= '0' && *at <= '9') || (*at >= 'a' && *at <= 'z')) n = n * 31 + *at++;
    return n;
  }
}

EXPORT(json) u32 json(u32 rounds) {
  static const char item[] = "{\"name\": \"a \\\"quoted\\\" name\", \"values\": [1, 22.5, -333, true, null], \"more\": {\"deep\": [[], {}, \"x\"]}}, ";
  u32 n = 0, sum = 0;
  bytes[n++] = '[';
  for (int i = 0; i < 8000; i++)
    for (u32 j = 0; j < sizeof item - 1; j++) bytes[n++] = (u8)item[j];
  bytes[n++] = '0', bytes[n++] = ']';
  for (u32 r = 0; r < rounds; r++) at = bytes, sum += scan();
  return sum;
}

// A machine with registers in memory, which runs a loop of its own.
EXPORT(interpreter) u32 interpreter(u32 rounds) {
  static const u8 code[][4] = {{0, 1, 2, 3}, {1, 2, 1, 4}, {2, 3, 3, 0}, {3, 4, 1, 0}, {5, 1, 1, 3}, {4, 3, 2, 0}, {6, 2, 4, 1}, {8, 5, 6, 3}, {0, 6, 6, 3}, {7, 0, 0, 0}};
  u32 *r = words;
  for (u32 i = 0; i < 2048; i++) words[i] = i * 7;
  const u8 *pc = code[0];
  for (;;) {
    u32 *to = r + pc[1], x = r[pc[2]], y = r[pc[3]];
    u8 op = pc[0];
    pc += 4;
    switch (op) {
    case 0: *to = x + y; break;
    case 1: *to = x ^ y << 3; break;
    case 2: *to = x * 5 + 1; break;
    case 3: *to = r[1024 + (x & 1023)]; break;
    case 4: r[1024 + (x & 1023)] = *to; break;
    case 5: *to = x - (y >> 5); break;
    case 6: *to = x | y; break;
    case 7:
      if (--rounds == 0) return r[1] ^ r[2];
      pc = code[0];
      break;
    case 8:
      if (x > y) *to = x - y;
      else *to = y - x;
    }
  }
}

EXPORT(tightloop) u32 tightloop(u32 rounds) {
  u32 x = 1;
  for (u32 i = 0; i < rounds; i++) x = (x << 13 ^ x) + i, x ^= x >> 7;
  return x;
}

EXPORT(matmul) u32 matmul(u32 rounds) {
  double *a = reals, *b = reals + 10000, *c = reals + 20000;
  for (int i = 0; i < 10000; i++) a[i] = i * 0.5, b[i] = 1.0 / (i + 1);
  for (u32 r = 0; r < rounds; r++)
    for (int i = 0; i < 100; i++)
      for (int j = 0; j < 100; j++) {
        double sum = 0;
        for (int k = 0; k < 100; k++) sum += a[100 * i + k] * b[100 * k + j];
        c[100 * i + j] = sum;
      }
  return (u32)(int)c[4242];
}

EXPORT(fib) u32 fib(u32 n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

EXPORT(copies) u32 copies(u32 rounds) {
  for (u32 r = 0; r < rounds; r++) {
    __builtin_memset(bytes, (int)r, 1 + (r & 255));
    __builtin_memcpy(bytes + 4096, bytes + (r & 1023), 256 + (r & 511));
    __builtin_memmove(bytes + (r & 63), bytes, 100000 * (r % 64 == 0));
  }
  return bytes[4097];
}
