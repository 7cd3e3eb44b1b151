/** TransferService.ImportBasebackup: chunks of two archives in, progress and the timeline out. */
import type {
  ImportBasebackupRequest,
  ImportBasebackupResponse,
  ImportProgress as WireProgress,
} from '#gen/neon/pageserver/v1/transfer.js';
import { ImportPhase } from '#gen/neon/pageserver/v1/transfer.js';
import { StorageError } from '#shared/core/errors.js';
import { parseShardTtid } from '#shared/core/shard.js';
import { lsnToWire } from '#shared/core/lsn.js';
import { bidi } from '#shared/rpc/handlers.js';
import { ImportProgress } from '../tenant/import-timeline.js';
import { timelineInfo } from './timeline-info.js';
import type { TransferDeps } from './transfer-service.js';

const PROGRESS_MS = 1000;
const PHASES = { files: ImportPhase.FILES, wal: ImportPhase.WAL, upload: ImportPhase.UPLOAD } as const;

export function importBasebackup({ tenants }: TransferDeps) {
  return bidi<ImportBasebackupRequest, ImportBasebackupResponse>(async (requests, writer, { signal }) => {
    const parts = new RequestParts(requests[Symbol.asyncIterator]());
    const ttid = await parts.header();
    const progress = new ImportProgress();
    const tell = (): void => {
      // A watcher that does not read misses some.
      writer.tryWrite({ part: { $case: 'progress', value: progressToWire(progress, parts.receivedBytes) } });
    };
    const timer = setInterval(tell, PROGRESS_MS);
    try {
      const source = { base: parts.chunks('baseChunk'), wal: parts.chunks('walChunk') };
      const timeline = await tenants.importTimeline(ttid, source, { progress, signal });
      await parts.drain();
      tell();
      const value = {
        timeline: timelineInfo(timeline.status()),
        sourceSystemId: progress.sourceSystemId,
        backupStartLsn: lsnToWire(progress.backupStartLsn),
        relationBytes: BigInt(progress.counts.relationBytes),
      };
      await writer.write({ part: { $case: 'result', value } });
    } finally {
      clearInterval(timer);
    }
  });
}

function progressToWire(progress: ImportProgress, receivedBytes: number): WireProgress {
  const { relationBytes, relationFiles } = progress.counts;
  return {
    phase: PHASES[progress.phase],
    receivedBytes: BigInt(receivedBytes),
    relationBytes: BigInt(relationBytes),
    relationFiles: BigInt(relationFiles),
    replayedLsn: lsnToWire(progress.replayedLsn),
  };
}

type Part = NonNullable<ImportBasebackupRequest['part']>;

/** The messages of the client as two streams of bytes, one after the other. */
class RequestParts {
  receivedBytes = 0;
  readonly #iterator: AsyncIterator<ImportBasebackupRequest>;
  /** Read already, of the other stream. */
  #next: Part | null = null;

  constructor(iterator: AsyncIterator<ImportBasebackupRequest>) {
    this.#iterator = iterator;
  }

  async header() {
    const part = await this.#take();
    if (part?.$case !== 'header') throw new StorageError('invalid', 'the first message must be the header');
    return parseShardTtid(part.value.ttid);
  }

  /** Until the first message of another kind. A tar is read up to its end mark: what is left of base.tar is passed over. */
  async *chunks(kind: 'baseChunk' | 'walChunk'): AsyncGenerator<Uint8Array> {
    for (let isFirst = true; ;) {
      const part = this.#next ?? (await this.#take());
      this.#next = part;
      if (part === null) return;
      if (part.$case === 'header') throw new StorageError('invalid', 'the header came twice');
      if (part.$case === 'walChunk' && kind === 'baseChunk') return;
      this.#next = null;
      this.receivedBytes += part.value.length;
      if (part.$case === kind) {
        isFirst = false;
        yield part.value;
      } else if (!isFirst) {
        throw new StorageError('invalid', 'bytes of base.tar came behind those of the WAL');
      }
    }
  }

  /** The client may still be sending what nobody needs. */
  async drain(): Promise<void> {
    while ((await this.#take()) !== null);
  }

  async #take(): Promise<Part | null> {
    const next = await this.#iterator.next();
    if (next.done === true) return null;
    if (next.value.part === undefined) throw new StorageError('invalid', 'a message without content');
    return next.value.part;
  }
}
