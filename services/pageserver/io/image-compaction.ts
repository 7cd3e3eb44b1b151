/**
 * Image layers where many deltas lie (core/storage/image-plan.ts says where): chooses the layers to read, has the worker thread make the
 * images, uploads them and names them in the index before readers use them.
 */
import { lsn, lsnMin } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { formatKey, readKey } from '../core/key.js';
import type { Key } from '../core/key.js';
import { compareKeys } from '../core/key.js';
import { isShadowed, sortedImages } from '../core/storage/coverage.js';
import type { KeySpan } from '../core/storage/coverage.js';
import { planImages } from '../core/storage/image-plan.js';
import type { ImagePlan } from '../core/storage/image-plan.js';
import type { LiveSizes } from '../core/storage/live-sizes.js';
import type { CompactionTarget, LayerChain } from './compaction.js';
import { publishNewLayers } from './publish-layers.js';
import type { ImageInput, ImageJob } from './image-maker.js';
import type { LayerFile } from './layer-file.js';
import { layerSizes } from './storage-env.js';

/** Image layers up to this many times the target size are written again when a part of them is due. */
const REWRITE_TARGETS_MAX = 2;
/** Keys remembered as refused: alone they are not tried again before a restart. */
const REFUSED_MAX = 10_000;

interface ChosenInput {
  readonly layer: LayerFile;
  readonly upToLsn: Lsn;
}

/** The parts of a job that are not at hand at once. */
interface JobParts {
  readonly plan: ImagePlan;
  readonly inputs: readonly ChosenInput[];
  readonly live: LiveSizes | null;
}

export class ImageCompaction {
  private readonly target: CompactionTarget;
  readonly refused = new Set<Key>();

  constructor(target: CompactionTarget) {
    this.target = target;
  }

  get rewriteBytesMax(): number {
    return REWRITE_TARGETS_MAX * this.target.env.limits.layerTargetBytes;
  }

  /** Null when nothing is due. */
  plan(imageCreationThreshold: number): ImagePlan | null {
    const { rewriteBytesMax } = this;
    return planImages(this.target.layers().layers, {
      imageCreationThreshold,
      refused: this.refused,
      canRewrite: (image) => image.metadata.sizeBytes <= rewriteBytesMax,
    });
  }

  /** The image layers made, published and shown to readers; null when an ancestor is not yet where the branch needs it. */
  async run(plan: ImagePlan, signal: AbortSignal): Promise<LayerFile[] | null> {
    const { env } = this.target;
    const inputs = chooseInputs(plan, this.target.chain());
    if (inputs === null) return null;
    const live = await this.target.readLiveSizes(plan.lsn);
    const job = this.job({ plan, inputs, live });
    const layers = inputs.map(({ layer }) => layer);
    const made = await env.layers.withFiles(layers, () => env.layerJobs.makeImages(job, signal));
    for (const { key, text } of made.refused) {
      env.log.warn({ key, reason: text }, 'a page cannot be rebuilt: it keeps its history instead of an image');
      if (this.refused.size < REFUSED_MAX) this.refused.add(readKey(Buffer.from(key, 'hex'), 0));
    }
    return publishNewLayers(this.target, { written: made.layers, replaced: [] }, signal);
  }

  private job({ plan, inputs, live }: JobParts): ImageJob {
    const { env, dir, generation } = this.target;
    return {
      kind: 'images',
      dir,
      owner: this.target.owner(),
      generation,
      lsn: plan.lsn,
      ranges: plan.ranges.map(({ start, end }) => ({ start: formatKey(start), end: formatKey(end) })),
      inputs: inputs.map(({ layer, upToLsn }): ImageInput => {
        const { dir: inputDir, name, owner, metadata } = layer;
        return { dir: inputDir, name, owner, sizeBytes: metadata.sizeBytes, upToLsn };
      }),
      live,
      sizes: layerSizes(env.limits),
      jobBytesMax: env.limits.imageJobBytesMax,
    };
  }
}

/** Ancestors' layers first. Null when an ancestor has not all of its history up to the branch point in layer files. */
function chooseInputs(plan: ImagePlan, chain: LayerChain): ChosenInput[] | null {
  const chosen: ChosenInput[][] = [];
  let upTo = plan.lsn;
  for (let source: LayerChain | null = chain; source !== null; source = source.parent?.chain ?? null) {
    if (source.diskConsistentLsn < upTo) return null;
    chosen.push(layersAt(source.layers.layers, plan.ranges, upTo));
    const { layers } = source;
    const at = upTo;
    if (source.parent === null || plan.ranges.every(({ start, end }) => layers.imagesCover(start, end, at))) break;
    upTo = lsnMin(upTo, source.parent.lsn);
  }
  return chosen.reverse().flat();
}

/** Oldest first. */
function layersAt(layers: readonly LayerFile[], ranges: readonly KeySpan[], upToLsn: Lsn): ChosenInput[] {
  const images = sortedImages(layers);
  const isNeeded = (layer: LayerFile): boolean =>
    ranges.some(
      (range) =>
        compareKeys(layer.keyStart, range.end) < 0 &&
        compareKeys(range.start, layer.keyEnd) < 0 &&
        !isShadowed(layer, range, upToLsn, images),
    );
  return layers
    .filter((layer) => layer.lsnStart <= upToLsn && isNeeded(layer))
    .sort((a, b) => a.lsnStart - b.lsnStart || a.lsnEnd - b.lsnEnd)
    .map((layer) => ({ layer, upToLsn: lsn(upToLsn) }));
}
