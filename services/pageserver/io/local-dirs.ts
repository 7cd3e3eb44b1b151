/** Where a timeline's layer files lie on the local disk. */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { TenantId, TenantTimelineId, TimelineId } from '#shared/core/ids.js';

interface WorkDir {
  readonly workDir: string;
}

function timelinesDir({ workDir }: WorkDir, tenantId: TenantId): string {
  return join(workDir, 'tenants', tenantId, 'timelines');
}

export function timelineDir(env: WorkDir, { tenantId, timelineId }: TenantTimelineId): string {
  return join(timelinesDir(env, tenantId), timelineId);
}

/** Names in a directory; none when it is not there. */
export async function namesIn(dir: string): Promise<string[]> {
  return readdir(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
}

/** Removes the directories of timelines that do not exist: what a creation left that was broken off. */
export async function removeUnknownDirs(
  env: WorkDir,
  tenantId: TenantId,
  exists: (timelineId: TimelineId) => boolean,
): Promise<void> {
  const dir = timelinesDir(env, tenantId);
  for (const name of await namesIn(dir)) {
    if (!exists(name as TimelineId)) await rm(join(dir, name), { recursive: true, force: true });
  }
}
