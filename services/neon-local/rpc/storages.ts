/**
 * Storages: attach, detach, list, show. A storage that is detached takes its names along, in an object `neon-local/names.json`, so
 * that attaching it again, to this stack or another one, brings its branches back.
 */
import { isAbsolute, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type {
  AttachStorageRequest,
  AttachStorageResponse,
  DetachStorageRequest,
  DetachStorageResponse,
  GetStorageRequest,
  GetStorageResponse,
  ListStoragesRequest,
  ListStoragesResponse,
  Storage,
} from '#gen/neon/control/v1/storage.js';
import { StorageError } from '#shared/core/errors.js';
import { addStorage, findStorage, removeStorage, tenantsOf } from '../core/catalog.js';
import { DEFAULT_STORAGE } from '../core/catalog-schema.js';
import type { StorageEntry } from '../core/catalog-schema.js';
import { s3Keys, s3Url } from '../core/s3-place.js';
import { adoptNames, takenNames } from '../core/storage-names.js';
import type { Daemon } from '../io/daemon.js';
import { readNames, writeNames } from '../io/storage-names.js';
import { pageserverName } from '../core/stack.js';

function storageMessage(daemon: Daemon, entry: StorageEntry): Storage {
  const { catalog } = daemon;
  const tenants = new Set(tenantsOf(catalog, entry.name));
  const count = (entries: readonly { readonly tenantId: string }[]) =>
    entries.filter(({ tenantId }) => tenants.has(tenantId as never)).length;
  const service = daemon.stack.services().find(({ spec }) => spec.name === pageserverName(entry.name));
  return {
    name: entry.name,
    type: entry.type,
    path: entry.url,
    state: service?.process.state ?? 'stopped',
    error: service?.process.lastError ?? '',
    tenantCount: tenants.size,
    branchCount: count(catalog.branches),
    computeCount: count(catalog.computes),
    isDefault: entry.name === DEFAULT_STORAGE,
    createdAtMs: BigInt(entry.createdAtMs),
  };
}

/** The URL that page servers take. */
function storageUrl(request: AttachStorageRequest): string {
  if (request.path === '')
    throw new StorageError('invalid', 'where? give a directory, or s3://bucket/prefix, by --path');
  if (request.type === 's3') return s3Url(request.path, request.s3);
  if (request.type !== 'native') {
    throw new StorageError('invalid', `"${request.type}" is no type of storage; it is native or s3`);
  }
  if (/^[a-z0-9]+:\/\//i.test(request.path) && !request.path.startsWith('file://')) {
    throw new StorageError('invalid', `"${request.path}" is no directory; for S3 say --type s3`);
  }
  if (request.path.startsWith('file://')) return new URL(request.path).href;
  if (!isAbsolute(request.path)) throw new StorageError('invalid', `"${request.path}" must be an absolute path`);
  return pathToFileURL(resolve(request.path)).href;
}

async function attach(daemon: Daemon, request: AttachStorageRequest): Promise<AttachStorageResponse> {
  const entry = {
    name: request.name,
    type: request.type as StorageEntry['type'],
    url: storageUrl(request),
    createdAtMs: Date.now(),
  };
  addStorage(daemon.catalog, entry);
  const keys = s3Keys(request.s3);
  // Those of an attempt that was cut short must not count.
  await daemon.repo.saveCredentials(entry.name, keys ?? null);
  const { nodeId } = findStorage(addStorage(daemon.catalog, entry), entry.name);
  try {
    // It enters the catalog when it is known to work, and what is in it is known.
    await daemon.stack.startPageserver({ ...entry, nodeId }, daemon.taken);
    const found = await readNames(daemon, { ...entry, nodeId });
    const before = daemon.catalog.branches.length;
    await daemon.changeCatalog((catalog) => adoptNames(addStorage(catalog, entry), entry.name, found));
    await announceAll(daemon, entry.name);
    const storage = storageMessage(daemon, findStorage(daemon.catalog, entry.name));
    return { storage, foundBranchCount: daemon.catalog.branches.length - before };
  } catch (error) {
    if (!daemon.catalog.storages.some(({ name }) => name === entry.name)) {
      await daemon.stack.removePageserver(entry.name);
      await daemon.repo.saveCredentials(entry.name, null);
    }
    throw error;
  }
}

/** Lets the safekeepers know the timelines of a storage that came from elsewhere. */
async function announceAll(daemon: Daemon, storageName: string): Promise<void> {
  const tenants = new Set<string>(tenantsOf(daemon.catalog, storageName));
  for (const branch of daemon.catalog.branches.filter(({ tenantId }) => tenants.has(tenantId))) {
    const info = await daemon.timelines.info(branch);
    if (info === null) throw new StorageError('unavailable', `branch "${branch.name}" cannot be read from its storage`);
    await daemon.timelines.announce(branch, info);
  }
}

async function detach(daemon: Daemon, request: DetachStorageRequest): Promise<DetachStorageResponse> {
  const entry = findStorage(daemon.catalog, request.name);
  if (entry.name === DEFAULT_STORAGE) {
    throw new StorageError('precondition', 'the default storage belongs to the stack and cannot be detached');
  }
  const tenants = new Set<string>(tenantsOf(daemon.catalog, entry.name));
  const running = daemon.catalog.computes.filter(
    (compute) => tenants.has(compute.tenantId) && daemon.computes.runtime(compute.name).state !== 'stopped',
  );
  if (running.length > 0) {
    const hint = running.map((compute) => `"neon pg stop ${compute.name}"`).join(', ');
    throw new StorageError('precondition', `computes run on storage "${entry.name}"; stop them first: ${hint}`);
  }
  const branches = daemon.catalog.branches.filter(({ tenantId }) => tenants.has(tenantId));
  await daemon.stack.startPageserver(entry, daemon.taken);
  await daemon.settle();
  // What only the safekeepers have must be in the storage before they forget it.
  for (const branch of branches) await daemon.timelines.flush(branch);
  await writeNames(daemon.repo, entry, takenNames(daemon.catalog, entry.name));
  await daemon.changeCatalog((catalog) => removeStorage(catalog, entry.name));
  await daemon.stack.removePageserver(entry.name);
  await daemon.repo.saveCredentials(entry.name, null);
  for (const branch of branches) await daemon.timelines.forgetOnSafekeepers(branch);
  return { branchCount: branches.length };
}

export function storageHandlers(daemon: Daemon) {
  return {
    attachStorage: (request: AttachStorageRequest): Promise<AttachStorageResponse> => attach(daemon, request),
    detachStorage: (request: DetachStorageRequest): Promise<DetachStorageResponse> => detach(daemon, request),
    listStorages: (_request: ListStoragesRequest): Promise<ListStoragesResponse> =>
      Promise.resolve({ storages: daemon.catalog.storages.map((entry) => storageMessage(daemon, entry)) }),
    getStorage: (request: GetStorageRequest): Promise<GetStorageResponse> =>
      Promise.resolve().then(() => ({ storage: storageMessage(daemon, findStorage(daemon.catalog, request.name)) })),
  };
}
