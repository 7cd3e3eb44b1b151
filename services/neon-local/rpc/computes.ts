/** Computes: create, start, stop, destroy, list, show. */
import { randomBytes } from 'node:crypto';
import type {
  Compute,
  CreateComputeRequest,
  CreateComputeResponse,
  DestroyComputeRequest,
  DestroyComputeResponse,
  GetComputeRequest,
  GetComputeResponse,
  ListComputesRequest,
  ListComputesResponse,
  PromoteComputeRequest,
  PromoteComputeResponse,
  StartComputeRequest,
  StartComputeResponse,
  StopComputeRequest,
  StopComputeResponse,
} from '#gen/neon/control/v1/control.js';
import { StorageError } from '#shared/core/errors.js';
import { idFromBytes, parseTenantId } from '#shared/core/ids.js';
import type { TenantId } from '#shared/core/ids.js';
import { lsnToWire } from '#shared/core/lsn.js';
import {
  addCompute,
  checkFlatName,
  computesOf,
  defaultComputeName,
  findBranch,
  findCompute,
  findStorage,
  MAIN_BRANCH,
  removeCompute,
  resolveTenant,
  storageOf,
  tenantsOf,
  updateCompute,
} from '../core/catalog.js';
import { checkCuRange } from '../core/autoscaling.js';
import type { BranchEntry, Catalog, ComputeEntry } from '../core/catalog-schema.js';
import { computeUrl, START_TIMEOUT_MS } from '../io/compute-manager.js';
import type { Daemon } from '../io/daemon.js';
import { ensureTenant, makeRootBranch } from './tenants.js';

export function computeMessage(daemon: Daemon, entry: ComputeEntry): Compute {
  const runtime = daemon.computes.runtime(entry.name);
  const running = runtime.state === 'running';
  return {
    name: entry.name,
    tenantId: entry.tenantId,
    branchName: entry.branchName,
    timelineId: findBranch(daemon.catalog, entry.tenantId, entry.branchName).timelineId,
    state: runtime.state,
    url: running ? computeUrl(entry.pgPort) : '',
    pgPort: entry.pgPort,
    pid: runtime.pid,
    error: runtime.error,
    logPath: runtime.logPath,
    grpcAddr: runtime.grpcAddr,
    storageName: storageOf(daemon.catalog, entry.tenantId),
    suspendAfterS: Math.round(entry.suspendAfterS),
    connectUrl: daemon.connectUrl(entry),
    isReplica: runtime.isReplica,
    autoscalingLimitMinCu: entry.minCu,
    autoscalingLimitMaxCu: entry.maxCu,
    currentCu: running ? daemon.currentCu(entry.name) : 0,
  };
}

/**
 * Where a new compute's data lies. No branch named: the one called as the compute; without such a one main, or, when a storage is named, a
 * new database there.
 */
async function placeOf(daemon: Daemon, request: CreateComputeRequest): Promise<BranchEntry> {
  const { storageName, name } = request;
  if (storageName !== '') findStorage(daemon.catalog, storageName);
  if (request.branchName !== '' || storageName === '') {
    const tenant = resolveTenant(daemon.catalog, request.tenantId, storageName);
    const isThere = daemon.catalog.branches.some((entry) => entry.tenantId === tenant && entry.name === name);
    const usual = isThere ? name : MAIN_BRANCH;
    return findBranch(daemon.catalog, tenant, request.branchName === '' ? usual : request.branchName);
  }
  if (name === '') throw new StorageError('invalid', 'name the compute');
  checkFlatName('compute', name);
  const own = tenantsOf(daemon.catalog, storageName);
  const tenantId: TenantId | undefined = request.tenantId === '' ? own[0] : parseTenantId(request.tenantId);
  if (tenantId === undefined) {
    const fresh = parseTenantId(idFromBytes(randomBytes(16)));
    return ensureTenant(daemon, { tenantId: fresh, storageName, branchName: name, setDefault: false });
  }
  const known = daemon.catalog.branches.find((entry) => entry.tenantId === tenantId && entry.name === name);
  if (known) return known;
  await daemon.timelines.createTenant(tenantId);
  return makeRootBranch(daemon, tenantId, name);
}

async function create(daemon: Daemon, request: CreateComputeRequest): Promise<CreateComputeResponse> {
  if (request.pgPort > 65535) throw new StorageError('invalid', `${request.pgPort} is no port`);
  if (daemon.catalog.computes.some((entry) => entry.name === request.name)) {
    throw new StorageError('already-exists', `compute "${request.name}" exists already; choose another name`);
  }
  const size = checkCuRange({ min: request.autoscalingLimitMinCu, max: request.autoscalingLimitMaxCu });
  const branch = await placeOf(daemon, request);
  const entry: ComputeEntry = {
    name: request.name === '' ? defaultComputeName(branch.name) : request.name,
    tenantId: branch.tenantId,
    branchName: branch.name,
    pgPort: request.pgPort,
    pgPortFixed: request.pgPort !== 0,
    settings: request.settings,
    suspendAfterS: request.suspendAfterS,
    minCu: size.min,
    maxCu: size.max,
    isAutomatic: false,
  };
  await daemon.changeCatalog((catalog) => addCompute(catalog, entry));
  return { compute: computeMessage(daemon, entry) };
}

/** Where the data of a compute is. */
function locate(daemon: Daemon, entry: ComputeEntry) {
  const { timelineId } = findBranch(daemon.catalog, entry.tenantId, entry.branchName);
  return { timelineId, storageName: storageOf(daemon.catalog, entry.tenantId) };
}

/** Starts a compute and waits until it answers queries. Returns its entry, with the port that it got. */
export async function startCompute(
  daemon: Daemon,
  name: string,
  timeoutMs: number,
  isReplica = false,
): Promise<ComputeEntry> {
  const entry = findCompute(daemon.catalog, name);
  const place = { ...locate(daemon, entry), isReplica };
  await daemon.stack.startPageserver(findStorage(daemon.catalog, place.storageName), daemon.taken);
  const pgPort = await daemon.computes.start(entry, place, timeoutMs === 0 ? START_TIMEOUT_MS : timeoutMs);
  await daemon.changeCatalog((catalog) => {
    const now = catalog.computes.find((compute) => compute.name === name);
    return now === undefined || now.pgPort === pgPort ? catalog : updateCompute(catalog, name, { pgPort });
  });
  return findCompute(daemon.catalog, name);
}

/** Changes the bounds of a compute, also while it is scaled. One that runs without bounds has nobody to be scaled by. */
async function changeSize(daemon: Daemon, request: StartComputeRequest): Promise<void> {
  const { name } = request;
  const { min, max } = checkCuRange({ min: request.autoscalingLimitMinCu, max: request.autoscalingLimitMaxCu });
  const entry = findCompute(daemon.catalog, name);
  if (max === 0 || (entry.minCu === min && entry.maxCu === max)) return;
  if (entry.maxCu === 0 && daemon.computes.runtime(name).state === 'running') {
    const advice = `stop it first ("neon pg stop ${name}")`;
    throw new StorageError('precondition', `compute "${name}" runs without a limit of its size; ${advice}`);
  }
  await daemon.changeCatalog((catalog) => updateCompute(catalog, name, { minCu: min, maxCu: max }));
}

/** The computes of a branch that are, or could be, its primary. */
function primariesOf(daemon: Daemon, catalog: Catalog, branch: BranchEntry): ComputeEntry[] {
  return computesOf(catalog, branch).filter((entry) => !daemon.computes.runtime(entry.name).isReplica);
}

/** The compute that serves a branch: the one that runs, else one that could; null when none is registered. */
export function computeOfBranch(daemon: Daemon, branch: BranchEntry): ComputeEntry | null {
  const all = primariesOf(daemon, daemon.catalog, branch);
  const isUp = (entry: ComputeEntry) => ['running', 'starting'].includes(daemon.computes.runtime(entry.name).state);
  const usual = defaultComputeName(branch.name);
  return all.find(isUp) ?? all.find((entry) => entry.name === usual) ?? all[0] ?? null;
}

/** A compute for a branch; when none is registered, one is, which is suspended when it is not used. */
export async function ensureCompute(daemon: Daemon, branch: BranchEntry): Promise<ComputeEntry> {
  const known = computeOfBranch(daemon, branch);
  if (known !== null) return known;
  let made: ComputeEntry | undefined;
  await daemon.changeCatalog((catalog) => {
    // Another connection may have been quicker.
    made = primariesOf(daemon, catalog, branch)[0];
    if (made) return catalog;
    const usual = defaultComputeName(branch.name);
    const taken = new Set(catalog.computes.map((entry) => entry.name));
    let name = usual;
    for (let number = 2; taken.has(name); number++) name = `${usual.slice(0, 55)}-${number}`;
    const { suspendAfterS } = daemon.config;
    made = {
      ...{ name, tenantId: branch.tenantId, branchName: branch.name, pgPort: 0, pgPortFixed: false, settings: {} },
      ...{ suspendAfterS, minCu: 0, maxCu: 0, isAutomatic: true },
    };
    return addCompute(catalog, made);
  });
  if (made === undefined) throw new StorageError('internal', 'no compute was made');
  return made;
}

/** URL of a running compute on a branch, started when necessary. */
export async function ensureUrl(daemon: Daemon, branch: BranchEntry): Promise<string> {
  const compute = await ensureCompute(daemon, branch);
  return computeUrl((await startCompute(daemon, compute.name, 0)).pgPort);
}

export function computeHandlers(daemon: Daemon) {
  return {
    createCompute: (request: CreateComputeRequest): Promise<CreateComputeResponse> => create(daemon, request),
    startCompute: async (request: StartComputeRequest): Promise<StartComputeResponse> => {
      await changeSize(daemon, request);
      const { name, timeoutMs, isReplica } = request;
      return { compute: computeMessage(daemon, await startCompute(daemon, name, timeoutMs, isReplica)) };
    },
    promoteCompute: async ({ name }: PromoteComputeRequest): Promise<PromoteComputeResponse> => {
      const entry = findCompute(daemon.catalog, name);
      await daemon.computes.promote(entry, locate(daemon, entry));
      return { compute: computeMessage(daemon, entry) };
    },
    stopCompute: async (request: StopComputeRequest): Promise<StopComputeResponse> => {
      const entry = findCompute(daemon.catalog, request.name);
      return { flushLsn: lsnToWire(await daemon.computes.stop(entry.name, request.immediate)) };
    },
    destroyCompute: async (request: DestroyComputeRequest): Promise<DestroyComputeResponse> => {
      const existed = daemon.catalog.computes.some((entry) => entry.name === request.name);
      await daemon.computes.stop(request.name, false);
      if (existed) await daemon.changeCatalog((catalog) => removeCompute(catalog, request.name));
      return { existed };
    },
    getCompute: (request: GetComputeRequest): Promise<GetComputeResponse> =>
      Promise.resolve().then(() => ({ compute: computeMessage(daemon, findCompute(daemon.catalog, request.name)) })),
    listComputes: (_request: ListComputesRequest): Promise<ListComputesResponse> =>
      Promise.resolve({ computes: daemon.catalog.computes.map((entry) => computeMessage(daemon, entry)) }),
  };
}
