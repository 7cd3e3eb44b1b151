/** Runs the rewriting of layers in a worker thread, one at a time in the process: the other core is for ingest and reads. */
import { Worker } from 'node:worker_threads';
import { StorageError } from '#shared/core/errors.js';
import type { ErrorKind } from '#shared/core/errors.js';
import type { ImageJob, ImageResult } from './image-maker.js';
import type { MergeJob } from './layer-merge.js';
import type { OutputLayer } from './layer-output.js';
import type { RewriteJob } from './layer-rewrite.js';
import type { TrimJob, TrimResult } from './layer-trim.js';

export type LayerJob = MergeJob | ImageJob | TrimJob | RewriteJob;

export type LayerAnswer =
  | { readonly kind: 'merged'; readonly layers: OutputLayer[] }
  | { readonly kind: 'images'; readonly result: ImageResult }
  | { readonly kind: 'trimmed'; readonly result: TrimResult }
  | { readonly kind: 'rewritten'; readonly layer: OutputLayer | null }
  | { readonly kind: 'failed'; readonly errorKind: ErrorKind; readonly text: string };

/** Each throws StorageError: that of the job itself, `cancelled` on abort, `internal` when the thread dies. */
export interface LayerJobs {
  merge(job: MergeJob, signal: AbortSignal): Promise<OutputLayer[]>;
  makeImages(job: ImageJob, signal: AbortSignal): Promise<ImageResult>;
  trim(job: TrimJob, signal: AbortSignal): Promise<TrimResult>;
  rewrite(job: RewriteJob, signal: AbortSignal): Promise<OutputLayer | null>;
}

function workerUrl(): URL {
  // The sources can be run without a build; then the worker is one of them too.
  return new URL(import.meta.url.endsWith('.ts') ? './layer-worker.ts' : './layer-worker.js', import.meta.url);
}

async function runWorker(job: LayerJob, signal: AbortSignal): Promise<LayerAnswer> {
  if (signal.aborted) throw new StorageError('cancelled', 'the timeline is stopping');
  const worker = new Worker(workerUrl(), { workerData: job, name: 'layers' });
  const onAbort = () => void worker.terminate();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const answer = await new Promise<LayerAnswer>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', (cause) => reject(new StorageError('internal', 'the layer thread failed', { cause })));
      worker.once('exit', () => {
        const [kind, text]: [ErrorKind, string] = signal.aborted
          ? ['cancelled', 'the timeline is stopping']
          : ['internal', 'the layer thread ended without an answer'];
        reject(new StorageError(kind, text));
      });
    });
    if (answer.kind === 'failed') throw new StorageError(answer.errorKind, answer.text);
    return answer;
  } finally {
    signal.removeEventListener('abort', onAbort);
    await worker.terminate();
  }
}

export function createLayerThread(): LayerJobs {
  let last: Promise<unknown> = Promise.resolve();
  const run = (job: LayerJob, signal: AbortSignal): Promise<LayerAnswer> => {
    const turn = last.then(() => runWorker(job, signal));
    last = turn.catch(() => undefined);
    return turn;
  };
  const unexpected = () => new StorageError('internal', 'the layer thread answered another question');
  return {
    merge: async (job, signal) => {
      const answer = await run(job, signal);
      if (answer.kind !== 'merged') throw unexpected();
      return answer.layers;
    },
    makeImages: async (job, signal) => {
      const answer = await run(job, signal);
      if (answer.kind !== 'images') throw unexpected();
      return answer.result;
    },
    trim: async (job, signal) => {
      const answer = await run(job, signal);
      if (answer.kind !== 'trimmed') throw unexpected();
      return answer.result;
    },
    rewrite: async (job, signal) => {
      const answer = await run(job, signal);
      if (answer.kind !== 'rewritten') throw unexpected();
      return answer.layer;
    },
  };
}
