/** Entry of the worker thread that merges layers and makes images: one job, one answer, end. */
import { parentPort, workerData } from 'node:worker_threads';
import { errorKind, errorText } from '#shared/core/errors.js';
import { reconstructPage } from '../core/redo/redo.js';
import { makeImages } from './image-maker.js';
import { mergeLayers } from './layer-merge.js';
import type { LayerAnswer, LayerJob } from './layer-thread.js';

function run(job: LayerJob): LayerAnswer {
  try {
    return job.kind === 'merge'
      ? { kind: 'merged', layers: mergeLayers(job) }
      : { kind: 'images', result: makeImages(job, reconstructPage) };
  } catch (error) {
    return { kind: 'failed', errorKind: errorKind(error), text: errorText(error) };
  }
}

parentPort?.postMessage(run(workerData as LayerJob));
