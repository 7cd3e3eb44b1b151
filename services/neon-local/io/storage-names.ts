/** Reads and writes the names that a storage carries, as an object beside the data of its page server. */
import { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import { errorKind, StorageError } from '#shared/core/errors.js';
import { INVALID_LSN, lsnFromWire } from '#shared/core/lsn.js';
import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import type { BranchEntry, StorageEntry } from '../core/catalog-schema.js';
import { NAMES_VERSION, namesSchema } from '../core/storage-names.js';
import type { StorageNames } from '../core/storage-names.js';
import type { Daemon } from './daemon.js';
import type { RepoDir } from './repo-dir.js';
import { openStorage } from './open-storage.js';

const KEY = 'neon-local/names.json';

export async function writeNames(repo: RepoDir, storage: StorageEntry, names: StorageNames): Promise<void> {
  const store = await openStorage(repo, storage);
  await store.put(KEY, Buffer.from(`${JSON.stringify(names, null, 2)}\n`));
}

async function readSaved(repo: RepoDir, storage: StorageEntry): Promise<StorageNames | null> {
  const store = await openStorage(repo, storage);
  try {
    return namesSchema.parse(JSON.parse(Buffer.from(await store.get(KEY)).toString('utf8')));
  } catch (error) {
    if (errorKind(error) === 'not-found') return null;
    if (error instanceof StorageError) throw error;
    throw new StorageError('corrupt', `object ${KEY} of storage "${storage.name}" is damaged`, { cause: error });
  }
}

/** Names of what is on a storage: those it carries, and made-up ones for timelines that have none. */
export async function readNames(daemon: Daemon, storage: StorageEntry): Promise<StorageNames> {
  const saved = await readSaved(daemon.repo, storage);
  const addr = daemon.stack.pageserverAddr(storage.name, 'grpc');
  const client = createClient(ManagementServiceClient, addr);
  const names: StorageNames = {
    ...{
      version: NAMES_VERSION,
      tenantIds: [] as string[],
      branches: [] as BranchEntry[],
      snapshots: [],
      computes: [],
    },
    ...(saved ?? {}),
  };
  const known = new Set([
    ...names.branches.map((entry) => entry.timelineId as string),
    ...names.snapshots.map((entry) => entry.holdTimelineId as string),
  ]);
  try {
    const { tenants } = await callUnary(client, client.listTenants, {});
    const present = new Set(tenants.map(({ tenantId }) => tenantId));
    const gone = names.tenantIds.filter((id) => !present.has(id));
    if (gone.length > 0) throw new StorageError('corrupt', `tenant ${gone[0]} is missing on storage "${storage.name}"`);
    for (const tenantId of present) {
      if (!names.tenantIds.includes(tenantId)) names.tenantIds.push(tenantId);
      const { timelines } = await callUnary(client, client.listTimelines, { tenantId });
      const nameOf = new Map(names.branches.map((entry) => [entry.timelineId as string, entry.name]));
      const unnamed = timelines.filter(({ ttid }) => ttid && !known.has(ttid.timelineId));
      for (const { ttid } of unnamed) if (ttid) nameOf.set(ttid.timelineId, `found-${ttid.timelineId.slice(0, 8)}`);
      for (const { ttid, ancestorTimelineId, ancestorLsn } of unnamed) {
        if (!ttid) continue;
        names.branches.push({
          name: nameOf.get(ttid.timelineId) ?? '',
          tenantId: parseTenantId(tenantId),
          timelineId: parseTimelineId(ttid.timelineId),
          parentName: nameOf.get(ancestorTimelineId) ?? null,
          parentLsn: ancestorLsn === 0n ? INVALID_LSN : lsnFromWire(ancestorLsn),
          createdAtMs: Date.now(),
          retention: null,
        });
      }
    }
    return names;
  } finally {
    client.close();
  }
}
