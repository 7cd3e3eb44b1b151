/**
 * Background maintenance of one timeline's layers: merges of L0 layers (core/storage/compaction-plan.ts), image layers
 * (image-compaction.ts) and garbage collection (gc.ts), one at a time, so that each finds the layers that it planned with. How new layers
 * take the place of old ones: publish-layers.ts.
 */
import { AssertionFailure } from '#shared/core/assert.js';
import { errorKind, errorText } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { formatKey } from '../core/key.js';
import { planCompaction } from '../core/storage/compaction-plan.js';
import type { CompactionPlan } from '../core/storage/compaction-plan.js';
import { sortedImages } from '../core/storage/coverage.js';
import type { ImagePlan } from '../core/storage/image-plan.js';
import type { LayerMap } from '../core/storage/layer-map.js';
import type { LayerOwner } from '../core/storage/layer-format.js';
import type { LiveSizes } from '../core/storage/live-sizes.js';
import type { SettingsRef } from '../core/storage/tenant-settings.js';
import { ImageCompaction } from './image-compaction.js';
import type { IndexPublisher } from './index-publisher.js';
import type { LayerFile } from './layer-file.js';
import { publishNewLayers } from './publish-layers.js';
import { UNSHARDED } from '#shared/core/shard.js';
import type { StorageEnv } from './storage-env.js';
import { layerSizes } from './storage-env.js';

/** Pause after a failure: doubled up to an hour. Ingest and reads do not depend on compaction. */
const PAUSE_MIN_MS = 10_000;
const PAUSE_MAX_MS = 3_600_000;

/** Ingest waits for a merge as long before it takes some more. */
const ROOM_WAIT_MS = 1000;

/** The layers of a timeline and of its ancestors. */
export interface LayerChain {
  readonly layers: LayerMap<LayerFile>;
  readonly diskConsistentLsn: Lsn;
  readonly parent: { readonly chain: LayerChain; readonly lsn: Lsn } | null;
}

export interface CompactionTarget {
  readonly env: StorageEnv;
  readonly settings: SettingsRef;
  readonly publisher: IndexPublisher;
  readonly dir: string;
  readonly generation: number;
  owner(): LayerOwner;
  layers(): LayerMap<LayerFile>;
  chain(): LayerChain;
  readLiveSizes(at: Lsn): Promise<LiveSizes | null>;
  /** In one step: readers see `added` instead of `removed`. */
  replaceLayers(removed: readonly LayerFile[], added: readonly LayerFile[]): void;
}

/** Whether layers are merged, and images made, before as many have come together as the settings say. */
export interface CompactionOptions {
  readonly forceMerge?: boolean;
  readonly forceImages?: boolean;
}

type Work =
  | { readonly kind: 'merge'; readonly plan: CompactionPlan<LayerFile> }
  | { readonly kind: 'images'; readonly plan: ImagePlan };

export class Compactor {
  doneCount = 0;
  imageLayerCount = 0;
  failureCount = 0;
  /** How often ingest had to wait. */
  heldBackCount = 0;
  private readonly target: CompactionTarget;
  private readonly images: ImageCompaction;
  private readonly stopping = new AbortController();
  /** What runs now and what waits for its turn. */
  private last: Promise<unknown> = Promise.resolve();
  private kicked = false;
  private pauseMs = PAUSE_MIN_MS;
  private notBefore = 0;

  constructor(target: CompactionTarget) {
    this.target = target;
    this.images = new ImageCompaction(target);
  }

  get isStopping(): boolean {
    return this.stopping.signal.aborted;
  }

  /** Starts what is due, until nothing is, unless that is under way or has failed a short time ago. */
  kick(): void {
    if (this.kicked || Date.now() < this.notBefore || this.isStopping || this.planWork({}) === null) return;
    this.kicked = true;
    const done = this.compact().finally(() => (this.kicked = false));
    // More may have come together meanwhile.
    void done.then((isDone) => isDone && this.kick());
  }

  /** Does one thing that is due; true when it was done. Failures are logged and counted. */
  compact(options: CompactionOptions = {}): Promise<boolean> {
    return this.exclusively(async () => {
      const work = this.isStopping ? null : this.planWork(options);
      return work !== null && (await this.attempt(work));
    });
  }

  /**
   * Holds ingest back while too many L0 layers wait for a merge: for a second at most each time, and not at all when merges fail, since
   * ingest must not depend on them.
   */
  async waitForRoom(): Promise<void> {
    const { level0LayersMax } = this.target.env.limits;
    if (this.target.layers().level0Count < level0LayersMax || Date.now() < this.notBefore || this.isStopping) return;
    this.kick();
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<void>((resolve) => (timer = setTimeout(resolve, ROOM_WAIT_MS)));
    await Promise.race([this.last, limit]);
    clearTimeout(timer);
    this.heldBackCount++;
  }

  /** Nothing else changes the layers while `act` runs, but for flushes, which only add L0 layers. */
  exclusively<T>(act: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const turn = this.last.then(() => act(this.stopping.signal));
    this.last = turn.catch(() => undefined);
    return turn;
  }

  /** Merges come first: until they are done the images would be made at an old LSN. */
  private planWork({ forceMerge = false, forceImages = false }: CompactionOptions): Work | null {
    const { compactionThreshold, imageCreationThreshold } = this.target.settings.current;
    const { compactionLayersMax } = this.target.env.limits;
    const published = this.target.publisher.published.layers;
    const merge = planCompaction(
      this.target.layers(),
      { compactionThreshold: forceMerge ? 1 : compactionThreshold, compactionLayersMax },
      (layer) => published.has(layer.name),
    );
    if (merge !== null) return { kind: 'merge', plan: merge };
    const images = this.images.plan(forceImages ? 1 : imageCreationThreshold);
    return images === null ? null : { kind: 'images', plan: images };
  }

  private async attempt(work: Work): Promise<boolean> {
    const { log } = this.target.env;
    try {
      const isDone = work.kind === 'merge' ? await this.merge(work.plan) : await this.makeImages(work.plan);
      this.pauseMs = PAUSE_MIN_MS;
      return isDone;
    } catch (error) {
      if (error instanceof AssertionFailure) throw error;
      if (this.isStopping) return false;
      if (errorKind(error) === 'fenced') {
        // Somebody newer has the timeline: it is his to compact.
        this.notBefore = Infinity;
        return false;
      }
      this.failureCount++;
      log.warn({ error: errorText(error), pauseMs: this.pauseMs }, 'compaction failed, will try again');
      this.notBefore = Date.now() + this.pauseMs;
      this.pauseMs = Math.min(PAUSE_MAX_MS, this.pauseMs * 2);
      return false;
    }
  }

  private async makeImages(plan: ImagePlan): Promise<boolean> {
    const startedMs = Date.now();
    const added = await this.images.run(plan, this.stopping.signal);
    if (added === null) return false;
    this.imageLayerCount += added.length;
    const tookMs = Date.now() - startedMs;
    this.target.env.log.info({ ranges: plan.ranges.length, layers: added.length, tookMs }, 'made image layers');
    return true;
  }

  private async merge(plan: CompactionPlan<LayerFile>): Promise<boolean> {
    const { env, dir, generation } = this.target;
    const { signal } = this.stopping;
    const startedMs = Date.now();
    const job = {
      kind: 'merge' as const,
      dir,
      inputs: plan.inputs.map((layer) => ({ name: layer.name, sizeBytes: layer.metadata.sizeBytes })),
      owner: this.target.owner(),
      generation,
      lsnStart: plan.lsnStart,
      lsnEnd: plan.lsnEnd,
      sizes: layerSizes(env.limits),
      holeImages: this.target.settings.current.imageCreationThreshold,
      images: sortedImages(this.target.layers().layers).map(({ keyStart, keyEnd }) => ({
        start: formatKey(keyStart),
        end: formatKey(keyEnd),
      })),
      shard: this.target.settings.shard ?? UNSHARDED,
    };
    const written = await env.layers.withFiles(plan.inputs, () => env.layerJobs.merge(job, signal));
    await publishNewLayers(this.target, { written, replaced: plan.inputs }, signal);
    this.doneCount++;
    const tookMs = Date.now() - startedMs;
    env.log.info({ from: plan.inputs.length, to: written.length, tookMs }, 'compacted layers');
    return true;
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    await this.last;
  }
}
