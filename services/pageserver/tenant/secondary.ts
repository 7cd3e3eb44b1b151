/**
 * A tenant that is attached elsewhere and kept warm here: the layers of its newest indexes are downloaded to where an attachment expects
 * them, one at a time, and those that no index names any more are removed. Nothing is written to the object store.
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AssertionFailure } from '#shared/core/assert.js';
import { errorKind, errorText } from '#shared/core/errors.js';
import type { TenantId, TimelineId } from '#shared/core/ids.js';
import type { IndexPart } from '../core/storage/index-part.js';
import { LayerFile } from '../io/layer-file.js';
import type { StorageEnv } from '../io/storage-env.js';
import { listTimelineIds, loadIndex } from '../io/tenant-storage.js';
import { timelineDir } from '../io/local-dirs.js';

const ANY_GENERATION = 0xffff_ffff;

export interface SecondaryProgress {
  readonly layersTotal: number;
  readonly layersDownloaded: number;
  readonly bytesTotal: number;
  readonly bytesDownloaded: number;
}

export class SecondaryTenant {
  readonly tenantId: TenantId;
  readonly #env: StorageEnv;
  /** By timeline and file name. */
  readonly #layers = new Map<string, LayerFile>();
  readonly #timer: NodeJS.Timeout;
  #running: Promise<SecondaryProgress> | null = null;
  #isStopping = false;

  constructor(tenantId: TenantId, env: StorageEnv, periodMs: number) {
    this.tenantId = tenantId;
    this.#env = env;
    this.#timer = setInterval(() => this.#inBackground(), periodMs).unref();
    this.#inBackground();
  }

  get progress(): SecondaryProgress {
    const layers = [...this.#layers.values()];
    const sum = (some: readonly LayerFile[]) => some.reduce((bytes, layer) => bytes + layer.metadata.sizeBytes, 0);
    const here = layers.filter((layer) => layer.resident);
    const [layersTotal, layersDownloaded] = [layers.length, here.length];
    return { layersTotal, layersDownloaded, bytesTotal: sum(layers), bytesDownloaded: sum(here) };
  }

  #inBackground(): void {
    this.download().catch((error: unknown) => {
      if (error instanceof AssertionFailure) throw error;
      if (this.#isStopping || errorKind(error) === 'not-found') return;
      this.#env.log.warn({ tenant: this.tenantId, reason: errorText(error) }, 'could not keep a secondary tenant warm');
    });
  }

  /** Brings the local files up to the newest indexes. Those who ask while that is under way wait for the same. */
  download(): Promise<SecondaryProgress> {
    this.#running ??= this.#download().finally(() => (this.#running = null));
    return this.#running;
  }

  async #download(): Promise<SecondaryProgress> {
    const { objectStore } = this.#env;
    const wanted = new Map<string, LayerFile>();
    for (const timelineId of await listTimelineIds(objectStore, this.tenantId)) {
      const found = await loadIndex(objectStore, { tenantId: this.tenantId, timelineId }, ANY_GENERATION);
      if (found === null || found.index.deletedAtMs !== null || found.index.isImporting === true) continue;
      await this.#adopt(timelineId, found.index, wanted);
    }
    await this.#forget([...this.#layers].filter(([id]) => !wanted.has(id)).map(([, layer]) => layer));
    this.#layers.clear();
    for (const [id, layer] of wanted) this.#layers.set(id, layer);
    for (const layer of wanted.values()) {
      if (this.#isStopping) break;
      if (layer.resident) continue;
      const { local } = this.#env.layers;
      // Copies must not push out what attached tenants read, nor each other.
      if (local.usedBytes + layer.metadata.sizeBytes > local.limitBytes) break;
      await this.#env.layers.withFile(layer, () => Promise.resolve());
    }
    return this.progress;
  }

  async #adopt(timelineId: TimelineId, index: IndexPart, wanted: Map<string, LayerFile>): Promise<void> {
    const dir = timelineDir(this.#env, index.ttid);
    const local = new Set(await readdir(dir).catch(() => []));
    const owner = { ttid: index.ttid, pgMajor: index.pgMajor };
    for (const [name, metadata] of index.layers) {
      const id = `${timelineId}/${name}`;
      const resident = local.delete(name);
      const known = this.#layers.get(id);
      const layer = known ?? new LayerFile({ name, dir, owner, metadata, resident, uploaded: true });
      if (known === undefined) this.#env.layers.noteLocal(layer);
      wanted.set(id, layer);
    }
    for (const name of local) {
      if (!this.#layers.has(`${timelineId}/${name}`)) await rm(join(dir, name), { force: true, recursive: true });
    }
  }

  async #forget(layers: readonly LayerFile[]): Promise<void> {
    for (const layer of layers) await this.#env.layers.retire(layer);
  }

  /** The files stay, for an attachment to come. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    clearInterval(this.#timer);
    await this.#running?.catch(() => undefined);
    for (const layer of this.#layers.values()) this.#env.layers.release(layer);
    this.#layers.clear();
  }
}
