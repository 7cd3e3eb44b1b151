/** Push, pull, import, export: what is checked before, what is entered after. The bytes are moved in io/. */
import { randomBytes } from 'node:crypto';
import { isAbsolute } from 'node:path';
import type {
  CancelOperationRequest,
  CancelOperationResponse,
  ExportCluster,
  GetOperationRequest,
  GetOperationResponse,
  ImportCluster,
  ListOperationsRequest,
  ListOperationsResponse,
  Operation,
  PullSnapshot,
  PushSnapshot,
  StartTransferRequest,
  StartTransferResponse,
} from '#gen/neon/control/v1/transfer.js';
import { StorageError } from '#shared/core/errors.js';
import { idFromBytes, parseTenantId } from '#shared/core/ids.js';
import type { TenantId } from '#shared/core/ids.js';
import { formatLsn, INVALID_LSN, lsnFromWire } from '#shared/core/lsn.js';
import {
  addBranch,
  addSnapshot,
  addTenant,
  beginTimeline,
  checkBranchIsNew,
  checkName,
  findSnapshot,
  resolveTenant,
  storageOf,
} from '../core/catalog.js';
import { DEFAULT_STORAGE } from '../core/catalog-schema.js';
import type { BranchEntry } from '../core/catalog-schema.js';
import { openChunkCache } from '../io/chunk-cache.js';
import { clusterSource } from '../io/cluster-sources.js';
import { exportCluster, importCluster } from '../io/cluster-streams.js';
import { writeDataDirectory, writeDump, writeTar } from '../io/cluster-targets.js';
import type { Daemon } from '../io/daemon.js';
import { openImageStore, pullImage, pushImage, readManifest } from '../io/image-store.js';
import type { Progress } from '../io/operations.js';
import { requestedBranch } from './branches.js';
import { dumpAt } from './dump-point.js';
import { resolvePoint } from './points.js';
import type { Point } from './points.js';
import { randomTimelineId } from './tenants.js';

/** The archive of a point of history. */
function archiveOf(
  daemon: Daemon,
  point: Point,
  progress: Progress,
  onBytes: (relationBytes: number, pgMajor: number) => void,
) {
  const { tenantId, timelineId } = point.branch;
  return exportCluster({
    addr: daemon.stack.pageserverAddr(storageOf(daemon.catalog, tenantId), 'grpc'),
    ttid: { tenantId, timelineId },
    lsn: point.lsn,
    signal: progress.signal,
    // The archive ends with one segment of WAL.
    onHeader: (header) => onBytes(Number(header.relationBytes) + header.walSegSize, header.pgMajorVersion),
  });
}

async function push(daemon: Daemon, request: PushSnapshot): Promise<Operation> {
  const tenant = resolveTenant(daemon.catalog, request.tenantId);
  const snapshot = findSnapshot(daemon.catalog, tenant, request.snapshot);
  const store = await openImageStore(request.toUrl, request.s3);
  const branch = requestedBranch(daemon, snapshot.branchName, tenant);
  return daemon.operations.start('push', async (progress) => {
    const about = { relationBytes: 0, pgMajorVersion: 0 };
    const point: Point = { branch: { ...branch, timelineId: snapshot.timelineId }, lsn: snapshot.lsn };
    const archive = archiveOf(daemon, point, progress, (relationBytes, pgMajorVersion) => {
      Object.assign(about, { relationBytes, pgMajorVersion });
      progress.phase('pushing', relationBytes);
    });
    const describe = () => ({
      name: snapshot.name,
      branchName: snapshot.branchName,
      lsn: formatLsn(snapshot.lsn),
      ...about,
    });
    const { manifest, newBytes } = await pushImage({ store, archive, describe, nowMs: Date.now(), progress });
    return `pushed snapshot "${snapshot.name}" to ${store.url}: ${manifest.chunks.length} chunks, ${newBytes} bytes new`;
  });
}

/** The tenant that something new goes into; in a stack without tenants it is made. */
async function tenantFor(daemon: Daemon, request: { tenantId: string; storageName: string }): Promise<TenantId> {
  const { catalog } = daemon;
  const isEmpty = request.storageName === '' && catalog.defaultTenantId === null;
  const own = catalog.tenants.some((entry) => entry.storageName === request.storageName);
  if (request.tenantId !== '' || (!isEmpty && (request.storageName === '' || own))) {
    return resolveTenant(catalog, request.tenantId, request.storageName);
  }
  const tenantId = parseTenantId(idFromBytes(randomBytes(16)));
  const storageName = request.storageName === '' ? DEFAULT_STORAGE : request.storageName;
  await daemon.changeCatalog((now) => addTenant(now, tenantId, storageName, false));
  await daemon.timelines.createTenant(tenantId);
  return tenantId;
}

/** Makes a root branch of an archive. */
async function importBranch(
  daemon: Daemon,
  wanted: { tenantId: TenantId; name: string },
  archive: AsyncIterable<Buffer>,
  progress: Progress,
): Promise<BranchEntry> {
  const ttid = { tenantId: wanted.tenantId, timelineId: randomTimelineId() };
  return daemon.makingTimeline(ttid, async () => {
    await daemon.changeCatalog((catalog) => beginTimeline(catalog, ttid));
    const info = await importCluster({
      addr: daemon.stack.pageserverAddr(storageOf(daemon.catalog, ttid.tenantId), 'grpc'),
      ttid,
      signal: progress.signal,
      archive,
    });
    await daemon.timelines.announce(ttid, info);
    const parent = { parentName: null, parentLsn: INVALID_LSN };
    const branch: BranchEntry = { ...ttid, ...parent, name: wanted.name, createdAtMs: Date.now(), retention: null };
    await daemon.changeCatalog((catalog) => addBranch(catalog, branch));
    return branch;
  });
}

async function pull(daemon: Daemon, request: PullSnapshot): Promise<Operation> {
  const store = await openImageStore(request.fromUrl, request.s3);
  const manifest = await readManifest(store, request.snapshot);
  const tenantId = await tenantFor(daemon, request);
  const isTaken = (name: string) =>
    daemon.catalog.branches.some((entry) => entry.tenantId === tenantId && entry.name === name);
  const name = request.branchName || (isTaken(manifest.branchName) ? manifest.name : manifest.branchName);
  checkBranchIsNew(daemon.catalog, tenantId, name);
  return daemon.operations.start('pull', async (progress) => {
    progress.phase('pulling', manifest.totalBytes);
    const cache = await openChunkCache(daemon.repo.path);
    const archive = pullImage(store, manifest, cache, progress);
    const branch = await importBranch(daemon, { tenantId, name }, archive, progress);
    await nameSnapshot(daemon, branch, manifest.name);
    await cache.remove();
    return `pulled snapshot "${manifest.name}" as branch "${name}"`;
  });
}

/** The pulled state keeps its name, when it is free here. */
async function nameSnapshot(daemon: Daemon, branch: BranchEntry, name: string): Promise<void> {
  const { tenantId } = branch;
  if (daemon.catalog.snapshots.some((entry) => entry.tenantId === tenantId && entry.name === name)) return;
  const point = await resolvePoint(daemon, branch, undefined);
  const hold = { tenantId, timelineId: randomTimelineId() };
  await daemon.makingTimeline(hold, async () => {
    await daemon.changeCatalog((catalog) => beginTimeline(catalog, hold));
    const info = await daemon.timelines.hold(hold, { timelineId: branch.timelineId, lsn: point.lsn });
    const place = { tenantId, branchName: branch.name, timelineId: branch.timelineId };
    const entry = { ...place, name, lsn: lsnFromWire(info.ancestorLsn), holdTimelineId: hold.timelineId };
    await daemon.changeCatalog((catalog) => addSnapshot(catalog, { ...entry, createdAtMs: Date.now() }));
  });
}

async function importFrom(daemon: Daemon, request: ImportCluster): Promise<Operation> {
  const source = await clusterSource(daemon.pgBin, request.from);
  checkName('branch', request.branchName);
  const tenantId = await tenantFor(daemon, request);
  checkBranchIsNew(daemon.catalog, tenantId, request.branchName);
  return daemon.operations.start('import', async (progress) => {
    progress.phase('importing', source.totalBytes);
    const counted = async function* (): AsyncGenerator<Buffer> {
      let done = 0;
      for await (const piece of source.open(progress.signal)) {
        done += piece.length;
        progress.done(done, 0);
        yield piece;
      }
    };
    await importBranch(daemon, { tenantId, name: request.branchName }, counted(), progress);
    return `imported ${source.description} as branch "${request.branchName}"`;
  });
}

async function exportTo(daemon: Daemon, request: ExportCluster): Promise<Operation> {
  const { toPath, format } = request;
  if (!isAbsolute(toPath)) throw new StorageError('invalid', `"${toPath}" must be an absolute path`);
  if (!['tar', 'pgdata', 'dump'].includes(format)) {
    throw new StorageError('invalid', `"${format}" is no format; it is tar, pgdata or dump`);
  }
  const branch = requestedBranch(daemon, request.branchName, request.tenantId);
  const point = await resolvePoint(daemon, branch, { lsn: 0n, timeMs: 0n, snapshot: request.snapshot });
  return daemon.operations.start('export', async (progress) => {
    if (format === 'dump') {
      progress.phase('dumping', 0);
      await dumpAt(daemon, point, (url) => writeDump(daemon.pgBin, url, toPath, progress));
    } else {
      const archive = archiveOf(daemon, point, progress, (bytes) => progress.phase('exporting', bytes));
      await (format === 'tar' ? writeTar : writeDataDirectory)(toPath, archive, progress);
    }
    return `exported to ${toPath}`;
  });
}

async function start(daemon: Daemon, { transfer }: StartTransferRequest): Promise<StartTransferResponse> {
  switch (transfer?.$case) {
    case 'push':
      return { operation: await push(daemon, transfer.value) };
    case 'pull':
      return { operation: await pull(daemon, transfer.value) };
    case 'import':
      return { operation: await importFrom(daemon, transfer.value) };
    case 'export':
      return { operation: await exportTo(daemon, transfer.value) };
    case undefined:
      throw new StorageError('invalid', 'the request names no transfer');
  }
}

export function transferHandlers(daemon: Daemon) {
  return {
    startTransfer: (request: StartTransferRequest): Promise<StartTransferResponse> => start(daemon, request),
    getOperation: (request: GetOperationRequest): Promise<GetOperationResponse> =>
      Promise.resolve().then(() => ({ operation: daemon.operations.find(request.id) })),
    listOperations: (_request: ListOperationsRequest): Promise<ListOperationsResponse> =>
      Promise.resolve({ operations: daemon.operations.list() }),
    cancelOperation: async (request: CancelOperationRequest): Promise<CancelOperationResponse> => ({
      operation: await daemon.operations.cancel(request.id),
    }),
  };
}
