/** Entry of the worker thread that merges layers: one job, one answer, end. */
import { parentPort, workerData } from 'node:worker_threads';
import { errorKind, errorText } from '#shared/core/errors.js';
import { mergeLayers } from './layer-merge.js';
import type { MergeJob } from './layer-merge.js';
import type { MergeAnswer } from './merge-thread.js';

function run(job: MergeJob): MergeAnswer {
  try {
    return { kind: 'done', layers: mergeLayers(job) };
  } catch (error) {
    return { kind: 'failed', errorKind: errorKind(error), text: errorText(error) };
  }
}

parentPort?.postMessage(run(workerData as MergeJob));
