/**
 * Background compaction of one timeline: merge (core/storage/compaction-plan.ts says what), upload the new layers, publish an index with
 * them in place of the old, then show them to readers and only then delete the old. It can stop or fail at any point: until the index is
 * up the old layers count, and what was half made is swept at the next start or written again under the same name.
 */
import { AssertionFailure } from '#shared/core/assert.js';
import { StorageError, errorText } from '#shared/core/errors.js';
import { planCompaction } from '../core/storage/compaction-plan.js';
import type { CompactionPlan } from '../core/storage/compaction-plan.js';
import type { LayerMap } from '../core/storage/layer-map.js';
import type { LayerOwner } from '../core/storage/layer-format.js';
import type { IndexPublisher } from './index-publisher.js';
import { LayerFile } from './layer-file.js';
import type { StorageEnv } from './storage-env.js';

/** Pause after a failure: doubled up to an hour. Ingest and reads do not depend on compaction. */
const PAUSE_MIN_MS = 10_000;
const PAUSE_MAX_MS = 3_600_000;

export interface CompactionTarget {
  readonly env: StorageEnv;
  readonly publisher: IndexPublisher;
  readonly dir: string;
  readonly generation: number;
  owner(): LayerOwner;
  layers(): LayerMap<LayerFile>;
  /** In one step: readers see `added` instead of `removed`. */
  replaceLayers(removed: readonly LayerFile[], added: readonly LayerFile[]): void;
}

export class Compactor {
  doneCount = 0;
  failureCount = 0;
  private readonly target: CompactionTarget;
  private readonly stopping = new AbortController();
  private running: Promise<boolean> | null = null;
  private pauseMs = PAUSE_MIN_MS;
  private notBefore = 0;

  constructor(target: CompactionTarget) {
    this.target = target;
  }

  /** Starts a compaction when one is due and none is under way. */
  kick(): void {
    if (Date.now() < this.notBefore) return;
    void this.compact();
  }

  /** Compacts what is due; true when something was. Failures are logged and counted. */
  compact(): Promise<boolean> {
    if (this.running !== null) return this.running;
    const plan = this.stopping.signal.aborted ? null : this.plan();
    if (plan === null) return Promise.resolve(false);
    this.running = this.attempt(plan).finally(() => (this.running = null));
    // More may have come together meanwhile.
    void this.running.then((done) => done && this.kick());
    return this.running;
  }

  private plan(): CompactionPlan<LayerFile> | null {
    const published = this.target.publisher.published.layers;
    return planCompaction(this.target.layers(), this.target.env.limits, (layer) => published.has(layer.name));
  }

  private async attempt(plan: CompactionPlan<LayerFile>): Promise<boolean> {
    const { log } = this.target.env;
    try {
      const startedMs = Date.now();
      const added = await this.run(plan);
      this.doneCount++;
      this.pauseMs = PAUSE_MIN_MS;
      log.info({ from: plan.inputs.length, to: added.length, tookMs: Date.now() - startedMs }, 'compacted layers');
      return true;
    } catch (error) {
      if (error instanceof AssertionFailure) throw error;
      if (this.stopping.signal.aborted) return false;
      this.failureCount++;
      log.warn({ error: errorText(error), pauseMs: this.pauseMs }, 'compaction failed, will try again');
      this.notBefore = Date.now() + this.pauseMs;
      this.pauseMs = Math.min(PAUSE_MAX_MS, this.pauseMs * 2);
      return false;
    }
  }

  private async run(plan: CompactionPlan<LayerFile>): Promise<LayerFile[]> {
    const { env, dir, generation, publisher } = this.target;
    const { signal } = this.stopping;
    for (const layer of plan.inputs) await env.layers.fetch(layer);
    const owner = this.target.owner();
    const job = {
      dir,
      inputs: plan.inputs.map((layer) => ({ name: layer.name, sizeBytes: layer.metadata.sizeBytes })),
      owner,
      generation,
      lsnStart: plan.lsnStart,
      lsnEnd: plan.lsnEnd,
      targetBytes: env.limits.layerTargetBytes,
    };
    const merged = await env.mergeLayers(job, signal);
    const added = merged.map(
      ({ name, sizeBytes, crc }) =>
        new LayerFile({ name, dir, owner, metadata: { sizeBytes, crc }, resident: true, uploaded: false }),
    );
    for (const layer of added) {
      await env.objectStore.putFile(layer.objectKey, layer.path, signal);
      layer.uploaded = true;
    }
    if (signal.aborted) throw new StorageError('cancelled', 'the timeline is stopping');
    await publisher.publish((index) => {
      const layers = new Map(index.layers);
      for (const layer of plan.inputs) layers.delete(layer.name);
      for (const layer of added) layers.set(layer.name, layer.metadata);
      return { ...index, layers };
    }, signal);
    this.target.replaceLayers(plan.inputs, added);
    await this.removeOld(plan.inputs, new Set(added.map((layer) => layer.name)));
    return added;
  }

  /** A failure here leaves garbage, not damage. A merge of one layer can have the name of its input: that stays. */
  private async removeOld(old: readonly LayerFile[], kept: ReadonlySet<string>): Promise<void> {
    const { env } = this.target;
    const gone = old.filter((layer) => !kept.has(layer.name));
    for (const layer of gone) await env.layers.retire(layer);
    try {
      await env.objectStore.delete(gone.map((layer) => layer.objectKey));
    } catch (error) {
      env.log.warn({ error: errorText(error), layers: gone.length }, 'could not delete compacted layers');
    }
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    await this.running;
  }
}
