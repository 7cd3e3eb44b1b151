/**
 * How much history each branch keeps. The page server has one policy for all timelines of a tenant; a branch may ask for another: the
 * tenant's policy is then the most generous one, and what the others need not keep is collected with their own.
 */
import type {
  GetRetentionRequest,
  GetRetentionResponse,
  SetRetentionRequest,
  SetRetentionResponse,
} from '#gen/neon/control/v1/branch.js';
import { StorageError } from '#shared/core/errors.js';
import type { TenantId } from '#shared/core/ids.js';
import { updateBranch } from '../core/catalog.js';
import type { BranchEntry, Retention } from '../core/catalog-schema.js';
import type { Daemon } from '../io/daemon.js';
import { requestedBranch } from './branches.js';

/** What page servers keep when nobody says. */
const DEFAULT_RETENTION: Retention = { timeS: 7 * 86_400, sizeBytes: 64 << 20 };

export function retentionOf(branch: BranchEntry): Retention {
  return branch.retention ?? DEFAULT_RETENTION;
}

/** The most generous policy of the tenant's branches becomes that of the tenant. */
async function applyToTenant(daemon: Daemon, tenantId: TenantId): Promise<void> {
  const all = daemon.catalog.branches.filter((entry) => entry.tenantId === tenantId).map(retentionOf);
  const timeS = Math.max(...all.map((entry) => entry.timeS));
  const sizeBytes = Math.max(...all.map((entry) => entry.sizeBytes));
  const { overrides } = await daemon.timelines.tenantConfig(tenantId);
  await daemon.timelines.setTenantConfig(tenantId, {
    ...overrides,
    pitrIntervalS: timeS,
    gcHorizonBytes: BigInt(Math.round(sizeBytes)),
  });
}

async function oldestLsn(daemon: Daemon, branch: BranchEntry): Promise<bigint> {
  return (await daemon.timelines.info(branch))?.minReadableLsn ?? 0n;
}

async function setRetention(daemon: Daemon, request: SetRetentionRequest): Promise<SetRetentionResponse> {
  const branch = requestedBranch(daemon, request.branchName, request.tenantId);
  const { timeS, sizeBytes } = request;
  if (timeS !== undefined && !(timeS >= 0 && timeS <= 1e10)) throw new StorageError('invalid', `${timeS} s is no time`);
  const before = retentionOf(branch);
  const wanted: Retention = {
    timeS: timeS ?? before.timeS,
    sizeBytes: sizeBytes === undefined ? before.sizeBytes : Number(sizeBytes),
  };
  await daemon.changeCatalog((catalog) => updateBranch(catalog, branch, { retention: request.reset ? null : wanted }));
  const now = requestedBranch(daemon, branch.name, branch.tenantId);
  await applyToTenant(daemon, branch.tenantId);
  await daemon.timelines.collect(now, retentionOf(now));
  return { retention: retentionMessage(retentionOf(now)), oldestLsn: await oldestLsn(daemon, now) };
}

function retentionMessage(retention: Retention) {
  return { timeS: retention.timeS, sizeBytes: BigInt(Math.round(retention.sizeBytes)) };
}

export function retentionHandlers(daemon: Daemon) {
  return {
    getRetention: async (request: GetRetentionRequest): Promise<GetRetentionResponse> => {
      const branch = requestedBranch(daemon, request.branchName, request.tenantId);
      return {
        branchName: branch.name,
        retention: retentionMessage(retentionOf(branch)),
        isSet: branch.retention !== null,
        oldestLsn: await oldestLsn(daemon, branch),
      };
    },
    setRetention: (request: SetRetentionRequest): Promise<SetRetentionResponse> => setRetention(daemon, request),
  };
}

/** Collects the history of branches that keep less than their tenant does. */
export async function collectAll(daemon: Daemon): Promise<void> {
  for (const branch of daemon.catalog.branches) {
    if (branch.retention !== null) await daemon.timelines.collect(branch, branch.retention);
  }
}
