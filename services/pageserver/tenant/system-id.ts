/** A fresh database system identifier, made as Postgres makes it: seconds << 32 | microseconds << 12 | 12 bits that tell two of one moment apart. */

/** `random` gives a number in [0, 2^12). Pure otherwise. */
export function makeSystemId(nowMs: number, random: () => number): bigint {
  const seconds = BigInt(Math.floor(nowMs / 1000));
  const microseconds = BigInt(Math.floor((nowMs % 1000) * 1000));
  return (seconds << 32n) | (microseconds << 12n) | BigInt(random() & 0xfff);
}
