/** Entry of the worker thread that reads and writes layers: one job, one answer, end. */
import { parentPort, workerData } from 'node:worker_threads';
import { errorKind, errorText } from '#shared/core/errors.js';
import { reconstructPage } from '../core/redo/redo.js';
import { makeImages } from './image-maker.js';
import { mergeLayers } from './layer-merge.js';
import { rewriteLayer } from './layer-rewrite.js';
import type { LayerAnswer, LayerJob } from './layer-thread.js';
import { trimLayer } from './layer-trim.js';

function answer(job: LayerJob): LayerAnswer {
  switch (job.kind) {
    case 'merge':
      return { kind: 'merged', layers: mergeLayers(job) };
    case 'images':
      return { kind: 'images', result: makeImages(job, reconstructPage) };
    case 'trim':
      return { kind: 'trimmed', result: trimLayer(job) };
    case 'rewrite':
      return { kind: 'rewritten', layer: rewriteLayer(job) };
  }
}

function run(job: LayerJob): LayerAnswer {
  try {
    return answer(job);
  } catch (error) {
    return { kind: 'failed', errorKind: errorKind(error), text: errorText(error) };
  }
}

parentPort?.postMessage(run(workerData as LayerJob));
