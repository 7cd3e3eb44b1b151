/** Runs merges in a worker thread, one at a time in the process: the other core is for ingest and reads. */
import { Worker } from 'node:worker_threads';
import { StorageError } from '#shared/core/errors.js';
import type { ErrorKind } from '#shared/core/errors.js';
import type { MergedLayer, MergeJob } from './layer-merge.js';

export type MergeAnswer =
  | { readonly kind: 'done'; readonly layers: MergedLayer[] }
  | { readonly kind: 'failed'; readonly errorKind: ErrorKind; readonly text: string };

/** StorageError of the merge itself, `cancelled` on abort, `internal` when the thread dies. */
export type MergeLayers = (job: MergeJob, signal: AbortSignal) => Promise<MergedLayer[]>;

function workerUrl(): URL {
  // The sources can be run without a build; then the worker is one of them too.
  return new URL(import.meta.url.endsWith('.ts') ? './merge-worker.ts' : './merge-worker.js', import.meta.url);
}

async function runWorker(job: MergeJob, signal: AbortSignal): Promise<MergedLayer[]> {
  if (signal.aborted) throw new StorageError('cancelled', 'the timeline is stopping');
  const worker = new Worker(workerUrl(), { workerData: job, name: 'merge' });
  const onAbort = () => void worker.terminate();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const answer = await new Promise<MergeAnswer>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', (cause) => reject(new StorageError('internal', 'the merge thread failed', { cause })));
      worker.once('exit', () => {
        const [kind, text]: [ErrorKind, string] = signal.aborted
          ? ['cancelled', 'the timeline is stopping']
          : ['internal', 'the merge thread ended without an answer'];
        reject(new StorageError(kind, text));
      });
    });
    if (answer.kind === 'failed') throw new StorageError(answer.errorKind, answer.text);
    return answer.layers;
  } finally {
    signal.removeEventListener('abort', onAbort);
    await worker.terminate();
  }
}

export function createMergeThread(): MergeLayers {
  let last: Promise<unknown> = Promise.resolve();
  return (job, signal) => {
    const turn = last.then(() => runWorker(job, signal));
    last = turn.catch(() => undefined);
    return turn;
  };
}
