/** Applies damaged values to real pages: the outcome must be a page or a StorageError, never another error. */
import { StorageError } from '#shared/core/errors.js';
import { lsn } from '#shared/core/lsn.js';
import { reconstructPage } from '../../services/pageserver/core/redo/redo.js';
import { changesNothing, encodeSlimRecord } from '../../services/pageserver/core/redo/slim-record.js';
import { blockTag, Replay } from './replay.js';
import { WalSource } from './wal-source.js';

export interface DamageResult {
  tried: number;
  /** Refused with StorageError. */
  refused: number;
  /** Anything else that was thrown. */
  failures: string[];
}

/** Small deterministic generator (xorshift32). */
export function randomNumbers(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** Damages the value of every `every`-th page change in one to three bytes, or cuts it short, on the page that it belongs to. */
export function runDamage(snapshotDir: string, dataDir: string, every: number, seed: number): DamageResult {
  const result: DamageResult = { tried: 0, refused: 0, failures: [] };
  const random = randomNumbers(seed);
  const replay = new Replay(snapshotDir);
  let changes = 0;
  for (const record of new WalSource(snapshotDir, dataDir).records()) {
    for (let id = 0; id <= record.maxBlockId; id++) {
      if (record.blockPresent[id] !== 1 || changesNothing(record, id)) continue;
      const base = replay.fork(blockTag(record, id)).pages[record.blockNumber[id]!] ?? null;
      if (changes++ % every === 0) tryDamaged(base, encodeSlimRecord(record, id), random, result);
      replay.applyBlock(record, id);
    }
    replay.applyEffects(record);
  }
  return result;
}

function tryDamaged(
  base: Uint8Array | null,
  value: Uint8Array,
  random: (below: number) => number,
  result: DamageResult,
): void {
  const damaged = random(8) === 0 ? value.slice(0, random(value.length)) : value.slice();
  for (let i = random(3); i >= 0 && damaged.length > 0; i--) damaged[random(damaged.length)] = random(256);
  const page = base === null ? null : base.slice();
  if (page !== null && random(4) === 0) page[random(2) === 0 ? random(64) : random(page.length)] = random(256);
  result.tried++;
  try {
    reconstructPage(page, [{ endLsn: lsn(64), value: damaged }]);
  } catch (error) {
    if (error instanceof StorageError) result.refused++;
    else result.failures.push(String(error));
  }
}
