// Randomness from the run's seed: xoshiro128**, by David Blackman and Sebastiano
// Vigna, 2018. Two of its numbers make the 53 bits of one of Math.random.
"use strict";
{
  const s = new Uint32Array([0, 0, 0, 0]);
  const next = () => {
    const x = Math.imul(s[1], 5);
    const word = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 11) | (s[3] >>> 21);
    return word;
  };
  const random = () => ((next() >>> 5) * 67108864 + (next() >>> 6)) / 9007199254740992;
  Object.defineProperty(Math, "random", { value: { random }.random, writable: true, configurable: true });
}
