/**
 * Compaction of a timeline's oldest history (core/storage/bottom-plan.ts), behind garbage collection: image layers at the cutoff where they
 * pay, then whole layers go that nobody comes to any more, then the rest is written again without what nobody reads. Each step is published
 * by itself, so it can stop or fail between any two.
 */
import { formatKey } from '../core/key.js';
import { planBottomImages, planTrims, retainedPoints } from '../core/storage/bottom-plan.js';
import { sortedImages } from '../core/storage/coverage.js';
import type { CompactionTarget, Compactor } from './compaction.js';
import type { TimelineHistory } from './gc.js';
import { ImageCompaction } from './image-compaction.js';
import type { LayerFile } from './layer-file.js';
import type { TrimJob } from './layer-trim.js';
import { publishNewLayers } from './publish-layers.js';

/** One job of images is bounded; so is a call. What is left is due at the next. */
const IMAGE_JOBS_MAX = 1000;

export interface BottomResult {
  readonly imageLayers: number;
  readonly layersRemoved: number;
  /** Layers written again smaller. */
  readonly layersTrimmed: number;
  /** By which the layers became smaller in all; less than 0 when the images are more than what went. */
  readonly bytesFreed: number;
}

export class BottomCompaction {
  private readonly target: CompactionTarget;
  private readonly history: TimelineHistory;
  private readonly compactor: Compactor;
  private readonly images: ImageCompaction;
  /** Layers that were looked through with nothing to leave out, and for which points: not again for the same. */
  private untrimmed = new Map<string, string>();

  constructor(target: CompactionTarget, history: TimelineHistory, compactor: Compactor) {
    this.target = target;
    this.history = history;
    this.compactor = compactor;
    this.images = new ImageCompaction(target);
  }

  /** `force`: however little old history there is. Throws StorageError. */
  run({ force = false } = {}): Promise<BottomResult> {
    return this.compactor.exclusively(async (signal) => {
      const before = this.totalBytes();
      const imageLayers = await this.makeImages(force, signal);
      const { layersRemoved } = await this.history.removeUnread(this.target, signal);
      const layersTrimmed = await this.trimAll(signal);
      const bytesFreed = before - this.totalBytes();
      const result = { imageLayers, layersRemoved, layersTrimmed, bytesFreed };
      if (imageLayers + layersTrimmed > 0) this.target.env.log.info(result, 'compacted old history');
      return result;
    });
  }

  private totalBytes(): number {
    return this.target.layers().layers.reduce((sum, layer) => sum + layer.metadata.sizeBytes, 0);
  }

  private usable(): LayerFile[] {
    const { published } = this.target.publisher;
    return this.target.layers().layers.filter((layer) => published.layers.has(layer.name));
  }

  private async makeImages(force: boolean, signal: AbortSignal): Promise<number> {
    const { limits } = this.target.env;
    // A branch would get all of its ancestor's keys: there image layers are made by depth only.
    if (!force && this.target.chain().parent !== null) return 0;
    let count = 0;
    for (let job = 0; job < IMAGE_JOBS_MAX && !signal.aborted; job++) {
      const plan = planBottomImages(this.usable(), {
        cutoff: this.history.cutoff,
        bytesMin: force ? 0 : limits.bottomCompactionBytesMin,
        refused: this.images.refused,
        canRewrite: (image) => image.metadata.sizeBytes <= this.images.rewriteBytesMax,
      });
      const made = plan === null ? null : await this.images.run(plan, signal);
      if (made === null || made.length === 0) break;
      count += made.length;
      // The rest of a range that was begun: half of it would free nothing.
      force = true;
    }
    return count;
  }

  private async trimAll(signal: AbortSignal): Promise<number> {
    const { cutoff } = this.history;
    const points = retainedPoints(cutoff, this.history.branchLsns());
    const key = points.join();
    let count = 0;
    const candidates = planTrims(this.usable(), cutoff);
    const names = new Set(candidates.map((layer) => layer.name));
    this.untrimmed = new Map([...this.untrimmed].filter(([name]) => names.has(name)));
    for (const layer of candidates) {
      if (signal.aborted) break;
      const state = `${key}/${this.imageState()}`;
      if (this.untrimmed.get(layer.name) === state) continue;
      if (await this.trim(layer, points, signal)) count++;
      else this.untrimmed.set(layer.name, state);
    }
    return count;
  }

  /** Changes when image layers come or go. */
  private imageState(): string {
    return sortedImages(this.usable())
      .map((image) => `${image.keyStart}@${image.lsnStart}`)
      .join();
  }

  private async trim(layer: LayerFile, points: readonly number[], signal: AbortSignal): Promise<boolean> {
    const { env, dir, generation } = this.target;
    const cutoff = points.at(-1)!;
    const { name, owner, metadata } = layer;
    const job: TrimJob = {
      kind: 'trim',
      dir,
      input: { dir: layer.dir, name, owner, sizeBytes: metadata.sizeBytes },
      generation,
      points,
      images: sortedImages(this.usable())
        .filter((image) => image.lsnStart <= cutoff)
        .map((image) => ({ start: formatKey(image.keyStart), end: formatKey(image.keyEnd), lsn: image.lsnStart })),
    };
    const result = await env.layers.withFiles([layer], () => env.layerJobs.trim(job, signal));
    if (result.kind === 'same') return false;
    const written = result.layer === null ? [] : [result.layer];
    await publishNewLayers(this.target, { written, replaced: [layer] }, signal);
    return true;
  }
}
