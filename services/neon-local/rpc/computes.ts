/** Computes: create, start, stop, destroy, list. */
import type {
  Compute,
  CreateComputeRequest,
  CreateComputeResponse,
  DestroyComputeRequest,
  DestroyComputeResponse,
  ListComputesRequest,
  ListComputesResponse,
  StartComputeRequest,
  StartComputeResponse,
  StopComputeRequest,
  StopComputeResponse,
} from '#gen/neon/control/v1/control.js';
import { StorageError } from '#shared/core/errors.js';
import { lsnToWire } from '#shared/core/lsn.js';
import { unary } from '#shared/rpc/handlers.js';
import {
  addCompute,
  defaultComputeName,
  findBranch,
  findCompute,
  MAIN_BRANCH,
  removeCompute,
  resolveTenant,
  updateCompute,
} from '../core/catalog.js';
import type { ComputeEntry } from '../core/catalog.js';
import { computeUrl, START_TIMEOUT_MS } from '../io/compute-manager.js';
import type { Daemon } from '../io/daemon.js';

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
  };
}

async function create(daemon: Daemon, request: CreateComputeRequest): Promise<CreateComputeResponse> {
  const tenantId = resolveTenant(daemon.catalog, request.tenantId);
  const branchName = request.branchName === '' ? MAIN_BRANCH : request.branchName;
  if (request.pgPort > 65535) throw new StorageError('invalid', `${request.pgPort} is no port`);
  const entry: ComputeEntry = {
    name: request.name === '' ? defaultComputeName(branchName) : request.name,
    tenantId,
    branchName,
    pgPort: request.pgPort,
    pgPortFixed: request.pgPort !== 0,
    settings: request.settings,
  };
  await daemon.changeCatalog((catalog) => addCompute(catalog, entry));
  return { compute: computeMessage(daemon, entry) };
}

/** Two primaries on one timeline would fence each other for ever: the second is refused here. */
function checkNoOtherPrimary(daemon: Daemon, entry: ComputeEntry): void {
  const other = daemon.catalog.computes.find(
    (compute) =>
      compute.name !== entry.name &&
      compute.tenantId === entry.tenantId &&
      compute.branchName === entry.branchName &&
      ['running', 'starting', 'backoff'].includes(daemon.computes.runtime(compute.name).state),
  );
  if (other) {
    throw new StorageError(
      'precondition',
      `compute "${other.name}" runs on branch "${entry.branchName}" already, and a branch has one writer; stop it first, or make a branch`,
    );
  }
}

async function start(daemon: Daemon, request: StartComputeRequest): Promise<StartComputeResponse> {
  const entry = findCompute(daemon.catalog, request.name);
  const branch = findBranch(daemon.catalog, entry.tenantId, entry.branchName);
  checkNoOtherPrimary(daemon, entry);
  const timeoutMs = request.timeoutMs === 0 ? START_TIMEOUT_MS : request.timeoutMs;
  const pgPort = await daemon.computes.start(entry, branch.timelineId, timeoutMs);
  if (pgPort !== entry.pgPort) await daemon.changeCatalog((catalog) => updateCompute(catalog, entry.name, { pgPort }));
  return { compute: computeMessage(daemon, findCompute(daemon.catalog, entry.name)) };
}

export function computeHandlers(daemon: Daemon) {
  return {
    createCompute: unary<CreateComputeRequest, CreateComputeResponse>((request) => create(daemon, request)),
    startCompute: unary<StartComputeRequest, StartComputeResponse>((request) => start(daemon, request)),
    stopCompute: unary<StopComputeRequest, StopComputeResponse>(async (request) => {
      const entry = findCompute(daemon.catalog, request.name);
      return { flushLsn: lsnToWire(await daemon.computes.stop(entry.name, request.immediate)) };
    }),
    destroyCompute: unary<DestroyComputeRequest, DestroyComputeResponse>(async (request) => {
      const existed = daemon.catalog.computes.some((entry) => entry.name === request.name);
      await daemon.computes.stop(request.name, false);
      if (existed) await daemon.changeCatalog((catalog) => removeCompute(catalog, request.name));
      return { existed };
    }),
    listComputes: unary<ListComputesRequest, ListComputesResponse>(() =>
      Promise.resolve({ computes: daemon.catalog.computes.map((entry) => computeMessage(daemon, entry)) }),
    ),
  };
}
