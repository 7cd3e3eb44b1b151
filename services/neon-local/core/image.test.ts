import { strict as assert } from 'node:assert';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Chunker, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN } from './chunker.js';
import { TarWalk } from './tar-walk.js';

/** Bytes without a pattern, the same in each run. */
function noise(size: number, seed: string): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0; at * 32 < size; at++) pieces.push(createHash('sha256').update(`${seed} ${at}`).digest());
  return Buffer.concat(pieces).subarray(0, size);
}

function chunksOf(bytes: Buffer, step: number): Buffer[] {
  const chunker = new Chunker();
  const out: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += step) out.push(...chunker.feed(Buffer.from(bytes.subarray(at, at + step))));
  const rest = chunker.finish();
  return rest === null ? out : [...out, rest];
}

const hashes = (chunks: readonly Buffer[]) => chunks.map((chunk) => createHash('sha256').update(chunk).digest('hex'));

describe('chunker', function () {
  this.timeout(60_000);
  const bytes = noise(12 << 20, 'a');

  it('loses nothing, stays within its bounds, and does not depend on how the bytes come', () => {
    const chunks = chunksOf(bytes, 64 << 10);
    assert.ok(Buffer.concat(chunks).equals(bytes));
    for (const chunk of chunks.slice(0, -1)) {
      assert.ok(chunk.length >= CHUNK_BYTES_MIN && chunk.length <= CHUNK_BYTES_MAX, String(chunk.length));
    }
    assert.deepEqual(hashes(chunksOf(bytes, 70_001)), hashes(chunks));
    assert.ok(chunksOf(Buffer.alloc(9 << 20), 1 << 20).every((chunk) => chunk.length <= CHUNK_BYTES_MAX));
  });

  it('finds most chunks again when something is put in and something changed', () => {
    const before = new Set(hashes(chunksOf(bytes, 1 << 20)));
    const changed = Buffer.concat([
      noise(5000, 'b'),
      bytes.subarray(0, 6 << 20),
      noise(8192, 'c'),
      bytes.subarray((6 << 20) + 8192),
    ]);
    const after = hashes(chunksOf(changed, 1 << 20));
    const again = after.filter((hash) => before.has(hash)).length;
    assert.ok(again >= after.length - 4, `${again} of ${after.length}`);
  });
});

describe('tar walk', () => {
  it('finds an entry as tar writes it', () => {
    const dir = mkdtempSync(join(tmpdir(), 'neon-tar-'));
    try {
      mkdirSync(join(dir, 'global'));
      writeFileSync(join(dir, 'first'), 'x'.repeat(1000));
      writeFileSync(join(dir, 'global/pg_control'), 'control');
      writeFileSync(join(dir, 'last'), '');
      const tar = execFileSync('tar', ['--format=ustar', '-C', dir, '-cf', '-', './first', './global', './last']);
      for (const step of [1, 511, 512, 100_000]) {
        const walk = new TarWalk('global/pg_control');
        for (let at = 0; at < tar.length; at += step) walk.feed(tar.subarray(at, at + step));
        assert.equal(walk.entry.length, 1024);
        assert.ok(tar.subarray(walk.foundAt, walk.foundAt + 1024).equals(walk.entry));
        assert.ok(walk.entry.includes('control'));
      }
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
