import { strict as assert } from 'node:assert';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lsn } from '#shared/core/lsn.js';
import { segmentName, XLOG_BLCKSZ } from '#shared/postgres/wal-layout.js';
import { LocalWal } from './local-wal.js';

const SEG_SIZE = 1 << 20;
const START = lsn(3 * SEG_SIZE + 100);

describe('local WAL', () => {
  let walDir = '';
  const name = (segno: number) => join(walDir, segmentName(segno, SEG_SIZE));

  beforeEach(() => {
    walDir = mkdtempSync(join(tmpdir(), 'local-wal-'));
    for (const segno of [3, 4]) {
      const bytes = Buffer.alloc(SEG_SIZE, segno);
      for (let at = 0; at < SEG_SIZE; at += XLOG_BLCKSZ) bytes.writeBigUInt64LE(BigInt(segno * SEG_SIZE + at), at + 8);
      writeFileSync(name(segno), bytes);
    }
  });
  afterEach(() => rmSync(walDir, { recursive: true, force: true }));

  it('reads up to the end of a segment', async () => {
    const local = new LocalWal({ walDir, startLsn: START, segSize: SEG_SIZE });
    assert.deepEqual([...((await local.read(START, lsn(START + 4))) ?? [])], [3, 3, 3, 3]);
    const last = await local.read(lsn(4 * SEG_SIZE - 10), lsn(4 * SEG_SIZE + 10));
    assert.equal(last?.length, 10);
    assert.equal((await local.read(lsn(4 * SEG_SIZE), lsn(4 * SEG_SIZE + 131_072)))?.length, 131_072);
  });

  it('has nothing before its start and nothing that is removed', async () => {
    const local = new LocalWal({ walDir, startLsn: START, segSize: SEG_SIZE });
    assert.equal(await local.read(lsn(START - 1), lsn(START + 4)), null);
    assert.equal(await local.read(lsn(5 * SEG_SIZE), lsn(5 * SEG_SIZE + 8)), null);
  });

  it('does not take a segment renamed to a later name for that later WAL', async () => {
    renameSync(name(3), name(7));
    const local = new LocalWal({ walDir, startLsn: START, segSize: SEG_SIZE });
    assert.equal(await local.read(lsn(7 * SEG_SIZE), lsn(7 * SEG_SIZE + 100_000)), null);
  });
});
