/** A root timeline from the initdb image. */
import type { TenantTimelineId } from '#shared/core/ids.js';
import { importDataDir, readControlFile } from '../core/import/import-datadir.js';
import { planImport } from '../core/import/plan.js';
import { readTarFile } from '../io/datadir-reader.js';
import type { SettingsRef } from '../core/storage/tenant-settings.js';
import type { StorageEnv } from '../io/storage-env.js';
import { createRootTimeline } from '../io/tenant-storage.js';
import type { Timeline } from '../io/timeline.js';

export interface BootstrapOptions {
  readonly ttid: TenantTimelineId;
  readonly generation: number;
  /** Given to the cluster in place of the image's own. */
  readonly systemId: bigint;
  readonly settings: SettingsRef;
  /** Tar of a cleanly stopped data directory. */
  readonly initdbImage: string;
}

/** Durable in the object store when it resolves; nothing is left when it fails. */
export async function bootstrapTimeline(env: StorageEnv, options: BootstrapOptions): Promise<Timeline> {
  const { ttid, generation, systemId, initdbImage, settings } = options;
  const plan = planImport(await readControlFile(readTarFile(initdbImage)), { systemId });
  const timeline = await createRootTimeline(env, ttid, { generation, pgMajor: plan.pgMajor, settings });
  try {
    timeline.systemId = plan.systemId;
    timeline.segSize = plan.segSize;
    const facts = await importDataDir(readTarFile(initdbImage), timeline, { systemId });
    await timeline.finishImport(facts);
    return timeline;
  } catch (error) {
    await timeline.close();
    throw error;
  }
}
