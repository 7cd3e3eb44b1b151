/** Layer jobs in the test's own thread, with a redo of its choice. */
import { makeImages } from '../image-maker.js';
import { mergeLayers } from '../layer-merge.js';
import { rewriteLayer } from '../layer-rewrite.js';
import type { LayerJobs } from '../layer-thread.js';
import { trimLayer } from '../layer-trim.js';
import type { ReconstructPage } from '../storage-env.js';

export function inlineJobs(reconstructPage: ReconstructPage): LayerJobs {
  return {
    merge: async (job) => mergeLayers(job),
    makeImages: async (job) => makeImages(job, reconstructPage),
    trim: async (job) => trimLayer(job),
    rewrite: async (job) => rewriteLayer(job),
  };
}
