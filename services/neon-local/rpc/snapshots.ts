/**
 * Snapshots: a name of a position, and a timeline on the page server that begins there and is never written to. That timeline is what
 * keeps the history: it is durable with the first answer and outlives every restart, as a branch does, and costs as little.
 */
import type {
  CreateSnapshotRequest,
  CreateSnapshotResponse,
  DestroySnapshotRequest,
  DestroySnapshotResponse,
  GetSnapshotRequest,
  GetSnapshotResponse,
  ListSnapshotsRequest,
  ListSnapshotsResponse,
  Snapshot,
} from '#gen/neon/control/v1/snapshot.js';
import { StorageError } from '#shared/core/errors.js';
import { lsnFromWire, lsnToWire } from '#shared/core/lsn.js';
import {
  addSnapshot,
  beginTimeline,
  checkFlatName,
  findSnapshot,
  removeSnapshot,
  resolveTenant,
  storageOf,
} from '../core/catalog.js';
import type { SnapshotEntry } from '../core/catalog-schema.js';
import type { Daemon } from '../io/daemon.js';
import { requestedBranch } from './branches.js';
import { resolvePoint } from './points.js';
import { randomTimelineId } from './tenants.js';

async function snapshotMessage(daemon: Daemon, entry: SnapshotEntry): Promise<Snapshot> {
  const hold = { tenantId: entry.tenantId, timelineId: entry.holdTimelineId };
  const [info, timeMs] = await Promise.all([
    daemon.timelines.info(hold),
    daemon.timelines.timeOfLsn({ tenantId: entry.tenantId, timelineId: entry.timelineId }, entry.lsn),
  ]);
  return {
    name: entry.name,
    tenantId: entry.tenantId,
    branchName: entry.branchName,
    timelineId: entry.timelineId,
    lsn: lsnToWire(entry.lsn),
    timeMs,
    createdAtMs: BigInt(entry.createdAtMs),
    storageName: storageOf(daemon.catalog, entry.tenantId),
    logicalSizeBytes: info?.logicalSizeBytes ?? 0n,
  };
}

async function create(daemon: Daemon, request: CreateSnapshotRequest): Promise<CreateSnapshotResponse> {
  const branch = requestedBranch(daemon, request.branchName, request.tenantId);
  checkFlatName('snapshot', request.name);
  const { tenantId } = branch;
  if (daemon.catalog.snapshots.some((entry) => entry.tenantId === tenantId && entry.name === request.name)) {
    throw new StorageError('already-exists', `snapshot "${request.name}" exists already; choose another name`);
  }
  const point = await resolvePoint(daemon, branch, request.at);
  const hold = { tenantId, timelineId: randomTimelineId() };
  const entry = await daemon.makingTimeline(hold, async () => {
    await daemon.changeCatalog((catalog) => beginTimeline(catalog, hold));
    const info = await daemon.timelines.hold(hold, { timelineId: point.branch.timelineId, lsn: point.lsn });
    const made: SnapshotEntry = {
      name: request.name,
      tenantId,
      branchName: point.branch.name,
      timelineId: point.branch.timelineId,
      lsn: lsnFromWire(info.ancestorLsn),
      holdTimelineId: hold.timelineId,
      createdAtMs: Date.now(),
    };
    await daemon.changeCatalog((catalog) => addSnapshot(catalog, made));
    return made;
  });
  return { snapshot: await snapshotMessage(daemon, entry) };
}

export function snapshotHandlers(daemon: Daemon) {
  const find = (request: { name: string; tenantId: string }) =>
    findSnapshot(daemon.catalog, resolveTenant(daemon.catalog, request.tenantId), request.name);
  return {
    createSnapshot: (request: CreateSnapshotRequest): Promise<CreateSnapshotResponse> => create(daemon, request),
    listSnapshots: async (request: ListSnapshotsRequest): Promise<ListSnapshotsResponse> => {
      const tenant = resolveTenant(daemon.catalog, request.tenantId);
      const own = daemon.catalog.snapshots.filter((entry) => entry.tenantId === tenant);
      return { snapshots: await Promise.all(own.map((entry) => snapshotMessage(daemon, entry))) };
    },
    getSnapshot: async (request: GetSnapshotRequest): Promise<GetSnapshotResponse> => ({
      snapshot: await snapshotMessage(daemon, find(request)),
    }),
    destroySnapshot: async (request: DestroySnapshotRequest): Promise<DestroySnapshotResponse> => {
      const entry = find(request);
      await daemon.changeCatalog((catalog) => removeSnapshot(catalog, entry));
      await daemon.settle();
      return {};
    },
  };
}
