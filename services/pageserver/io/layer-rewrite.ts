/**
 * Copies one layer of an ancestor into a branch that becomes independent of it, synchronously: it runs in a worker thread. Versions above the
 * branch point are left out, and what a branch does not inherit (core/aux-files.ts).
 */
import { lsn } from '#shared/core/lsn.js';
import { compareKeys } from '../core/key.js';
import type { Key } from '../core/key.js';
import { AUX_FILE_RANGE, ORIGIN_RANGE } from '../core/keyspace.js';
import type { LayerOwner } from '../core/storage/layer-format.js';
import { parseLayerFileName } from '../core/storage/layer-name.js';
import { LayerCursor } from './layer-cursor.js';
import type { LayerInput } from './layer-cursor.js';
import { LayerOutput } from './layer-output.js';
import type { OutputLayer } from './layer-output.js';

/** Only texts and numbers: keys are numbered per thread. */
export interface RewriteJob {
  readonly kind: 'rewrite';
  readonly input: LayerInput;
  readonly dir: string;
  readonly owner: LayerOwner;
  readonly generation: number;
  /** Versions above are left out. */
  readonly upToLsn: number;
}

function isInherited(key: Key): boolean {
  return [AUX_FILE_RANGE, ORIGIN_RANGE].every(
    ({ start, end }) => compareKeys(key, start) < 0 || compareKeys(key, end) >= 0,
  );
}

/** Durable in `job.dir`; null when nothing is left of a delta layer. Throws StorageError `corrupt` naming file and offset. */
export function rewriteLayer(job: RewriteJob): OutputLayer | null {
  const { dir, owner, generation } = job;
  const { span } = parseLayerFileName(job.input.name);
  const upTo = lsn(job.upToLsn);
  const lsnEnd = lsn(Math.min(span.lsnEnd, upTo + 1));
  const output = new LayerOutput({ dir, owner, generation, kind: span.kind, lsnStart: span.lsnStart, lsnEnd });
  const cursor = new LayerCursor(job.input);
  try {
    while (cursor.next()) {
      if (cursor.lsn <= upTo && isInherited(cursor.key)) output.add(cursor.key, cursor.lsn, cursor.kind, cursor.value);
    }
    // The range of an image layer says what does not exist. A delta claims only the keys that it has: over all keys it would count as L0.
    output.finish(span.kind === 'image' ? span : undefined);
  } catch (error) {
    output.abort();
    throw error;
  } finally {
    cursor.close();
  }
  output.syncDir();
  return output.written[0] ?? null;
}
