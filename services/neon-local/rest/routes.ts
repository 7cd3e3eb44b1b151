/**
 * The REST interface as a table. Each route checks what came, makes the message that gRPC would have carried, and calls the same function.
 * The server and the OpenAPI document are both made from it.
 */
import { StorageError } from '#shared/core/errors.js';
import { z } from 'zod';
import { parseTimeMs } from '../core/time-text.js';
import type { ControlHandlers } from '../rpc/handlers.js';
import { route } from './route.js';
import type { Route } from './route.js';
import * as schemas from './schemas.js';
import { transferRoutes } from './transfer-routes.js';

const tenantQuery = { tenant_id: z.string().default('') };
const tenantBody = { tenant_id: z.string().default('').describe('default: the default tenant') };

interface PointInput {
  readonly snapshot?: string | undefined;
  readonly lsn?: string | undefined;
  readonly time?: string | number | undefined;
}

/** A point of history of a request. */
export function pointMessage(input: PointInput) {
  const { time } = input;
  const timeMs = time === undefined ? 0 : typeof time === 'number' ? time : parseTimeMs(time, Date.now());
  return { lsn: schemas.wireLsn(input.lsn), timeMs: BigInt(Math.round(timeMs)), snapshot: input.snapshot ?? '' };
}

const storageRoutes: Route[] = [
  route(['PUT', '/storages', 'storages', 'Attach a storage'], {
    body: {
      name: z.string(),
      type: z.enum(['native', 's3']),
      path: z.string().describe('absolute directory, or s3://bucket/prefix'),
      ...schemas.s3In,
    },
    response: schemas.storage,
    run: async (handlers, input) => {
      const { name, type, path } = input;
      const s3 = schemas.s3Message(input);
      return (await handlers.attachStorage({ name, type, path, s3: type === 's3' ? s3 : undefined })).storage;
    },
  }),
  route(['GET', '/storages', 'storages', 'All storages'], {
    response: z.array(schemas.storage),
    run: async (handlers) => (await handlers.listStorages({})).storages,
  }),
  route(['GET', '/storages/{storage_name}', 'storages', 'One storage'], {
    params: { storage_name: z.string() },
    response: schemas.storage,
    run: async (handlers, input) => (await handlers.getStorage({ name: input.storage_name })).storage,
  }),
  route(['DELETE', '/storages/{storage_name}', 'storages', 'Detach a storage; its data stays'], {
    params: { storage_name: z.string() },
    response: z.strictObject({ branch_count: z.number().int() }),
    run: (handlers, input) => handlers.detachStorage({ name: input.storage_name }),
  }),
];

const pgRoutes: Route[] = [
  route(['PUT', '/pgs', 'pgs', 'Register a Postgres'], {
    body: {
      name: z.string(),
      storage_name: z.string().default('').describe('with no branch_name: a new database is made there'),
      branch_name: z.string().default('').describe('default: the one called as the compute, else main'),
      pg_port: z.number().int().min(0).max(65535).default(0),
      settings: z.record(z.string(), z.string()).default({}),
      suspend_after_s: z.number().int().min(0).default(0),
      ...schemas.sizeIn,
      ...tenantBody,
    },
    response: schemas.pg,
    run: async (handlers, input) => {
      const request = {
        ...{ name: input.name, tenantId: input.tenant_id, branchName: input.branch_name, pgPort: input.pg_port },
        ...{ settings: input.settings, storageName: input.storage_name, suspendAfterS: input.suspend_after_s },
        ...schemas.sizeMessage(input),
      };
      return (await handlers.createCompute(request)).compute;
    },
  }),
  route(['GET', '/pgs', 'pgs', 'All Postgres'], {
    response: z.array(schemas.pg),
    run: async (handlers) => (await handlers.listComputes({})).computes,
  }),
  route(['GET', '/pgs/{pg_name}', 'pgs', 'One Postgres'], {
    params: { pg_name: z.string() },
    response: schemas.pg,
    run: async (handlers, input) => (await handlers.getCompute({ name: input.pg_name })).compute,
  }),
  route(['DELETE', '/pgs/{pg_name}', 'pgs', 'Stop and forget a Postgres; its branch stays'], {
    params: { pg_name: z.string() },
    response: z.strictObject({ existed: z.boolean() }),
    run: async (handlers, input) => {
      const answer = await handlers.destroyCompute({ name: input.pg_name });
      if (!answer.existed) throw new StorageError('not-found', `compute "${input.pg_name}" does not exist`);
      return answer;
    },
  }),
  route(['POST', '/pgs/{pg_name}/actions', 'pgs', 'Start, stop, promote or check out a Postgres'], {
    params: { pg_name: z.string() },
    body: {
      action: z.enum(['start', 'stop', 'promote', 'checkout']),
      is_replica: z.union([z.boolean(), z.literal('replica'), z.literal('')]).default(false),
      timeout_s: z.number().min(0).max(3600).default(0),
      immediate: z.boolean().default(false),
      preserve_as: z.string().default(''),
      ...schemas.sizeIn,
      ...schemas.pointIn,
    },
    response: schemas.pg,
    run: runPgAction,
  }),
];

interface PgAction extends PointInput {
  readonly pg_name: string;
  readonly action: 'start' | 'stop' | 'promote' | 'checkout';
  readonly is_replica: boolean | string;
  readonly timeout_s: number;
  readonly immediate: boolean;
  readonly preserve_as: string;
  readonly autoscaling_limit_min_cu: number;
  readonly autoscaling_limit_max_cu: number;
}

async function runPgAction(handlers: ControlHandlers, input: PgAction): Promise<unknown> {
  const name = input.pg_name;
  if (input.action === 'start') {
    const isReplica = input.is_replica === true || input.is_replica === 'replica';
    const timeoutMs = Math.round(input.timeout_s * 1000);
    return (await handlers.startCompute({ name, timeoutMs, isReplica, ...schemas.sizeMessage(input) })).compute;
  }
  if (input.action === 'stop') {
    const { flushLsn } = await handlers.stopCompute({ name, immediate: input.immediate });
    return { ...(await handlers.getCompute({ name })).compute, flushLsn };
  }
  if (input.action === 'promote') return (await handlers.promoteCompute({ name })).compute;
  const request = { name, to: pointMessage(input), preserveAs: input.preserve_as };
  const { compute, preservedAs, lsn } = await handlers.checkoutCompute(request);
  return { ...compute, preservedAs, lsn };
}

const branchRoutes: Route[] = [
  route(['PUT', '/branches', 'branches', 'Make a branch'], {
    body: {
      name: z.string(),
      from: z.string().default('').describe('parent; default: main'),
      storage_name: z.string().default(''),
      ...schemas.pointIn,
      ...tenantBody,
    },
    response: schemas.branch,
    run: async (handlers, input) => {
      const names = { name: input.name, tenantId: input.tenant_id, from: input.from, storageName: input.storage_name };
      return (await handlers.createBranch({ ...names, ...pointMessage(input) })).branch;
    },
  }),
  route(['GET', '/branches', 'branches', 'Branches of a tenant, parents before children'], {
    query: { ...tenantQuery, all_tenants: z.stringbool().default(false) },
    response: z.array(schemas.branch),
    run: async (handlers, input) => {
      const request = { tenantId: input.tenant_id, allTenants: input.all_tenants };
      return (await handlers.listBranches(request)).branches;
    },
  }),
  route(['GET', '/branches/{branch_name}', 'branches', 'One branch'], {
    params: { branch_name: z.string() },
    query: tenantQuery,
    response: schemas.branch,
    run: async (handlers, input) =>
      (await handlers.getBranch({ name: input.branch_name, tenantId: input.tenant_id })).branch,
  }),
  route(['DELETE', '/branches/{branch_name}', 'branches', 'Delete a branch with its data'], {
    params: { branch_name: z.string() },
    query: { ...tenantQuery, force: z.stringbool().default(false) },
    response: z.strictObject({}),
    run: (handlers, input) =>
      handlers.deleteBranch({ name: input.branch_name, tenantId: input.tenant_id, force: input.force }),
  }),
  route(['POST', '/branches/{branch_name}/actions', 'branches', 'Rename or reset a branch'], {
    params: { branch_name: z.string() },
    body: {
      action: z.enum(['rename', 'reset']),
      new_name: z.string().default(''),
      preserve_as: z.string().default(''),
      ...schemas.pointIn,
      ...tenantBody,
    },
    response: schemas.branch.extend({ preserved_as: z.string().optional() }),
    run: async (handlers, input) => {
      const which = { name: input.branch_name, tenantId: input.tenant_id };
      if (input.action === 'rename') return (await handlers.renameBranch({ ...which, newName: input.new_name })).branch;
      const request = { ...which, to: pointMessage(input), preserveAs: input.preserve_as };
      const { branch, preservedAs } = await handlers.resetBranch(request);
      return { ...branch, preservedAs };
    },
  }),
  route(['GET', '/branches/{branch_name}/diff', 'branches', 'What two branches have in common, and how they differ'], {
    params: { branch_name: z.string() },
    query: { ...tenantQuery, other: z.string().default(''), schema: z.stringbool().default(false) },
    response: schemas.diff,
    run: (handlers, input) =>
      handlers.diffBranches({
        ...{ name: input.branch_name, otherName: input.other, tenantId: input.tenant_id },
        withSchema: input.schema,
      }),
  }),
];

const snapshotRoutes: Route[] = [
  route(['PUT', '/snapshots', 'snapshots', 'Name a point of history and keep it'], {
    body: { name: z.string(), branch_name: z.string().default(''), ...schemas.pointIn, ...tenantBody },
    response: schemas.snapshot,
    run: async (handlers, input) => {
      const names = { name: input.name, tenantId: input.tenant_id, branchName: input.branch_name };
      return (await handlers.createSnapshot({ ...names, at: pointMessage(input) })).snapshot;
    },
  }),
  route(['GET', '/snapshots', 'snapshots', 'Snapshots of a tenant'], {
    query: tenantQuery,
    response: z.array(schemas.snapshot),
    run: async (handlers, input) => (await handlers.listSnapshots({ tenantId: input.tenant_id })).snapshots,
  }),
  route(['GET', '/snapshots/{snapshot_name}', 'snapshots', 'One snapshot'], {
    params: { snapshot_name: z.string() },
    query: tenantQuery,
    response: schemas.snapshot,
    run: async (handlers, input) =>
      (await handlers.getSnapshot({ name: input.snapshot_name, tenantId: input.tenant_id })).snapshot,
  }),
  route(['DELETE', '/snapshots/{snapshot_name}', 'snapshots', 'Destroy a snapshot'], {
    params: { snapshot_name: z.string() },
    query: tenantQuery,
    response: z.strictObject({}),
    run: (handlers, input) => handlers.destroySnapshot({ name: input.snapshot_name, tenantId: input.tenant_id }),
  }),
];

const otherRoutes: Route[] = [
  route(['GET', '/status', 'stack', 'Services, ports, Postgres'], {
    response: schemas.status,
    run: (handlers) => handlers.getStatus({}),
  }),
  route(['GET', '/tenants', 'stack', 'All tenants'], {
    response: z.array(schemas.tenant),
    run: async (handlers) => (await handlers.listTenants({})).tenants,
  }),
  route(['PUT', '/tenants', 'stack', 'Make a tenant with its first branch'], {
    body: {
      ...tenantBody,
      set_default: z.boolean().default(false),
      branch_name: z.string().default(''),
      storage_name: z.string().default(''),
    },
    response: schemas.tenant,
    run: async (handlers, input) => {
      const request = {
        ...{ tenantId: input.tenant_id, setDefault: input.set_default, branchName: input.branch_name },
        storageName: input.storage_name,
      };
      return (await handlers.createTenant(request)).tenant;
    },
  }),
  route(['GET', '/pitr', 'pitr', 'How much history a branch keeps'], {
    query: { ...tenantQuery, branch_name: z.string().default('') },
    response: schemas.pitr,
    run: async (handlers, input) => {
      const request = { branchName: input.branch_name, tenantId: input.tenant_id };
      const { retention, ...rest } = await handlers.getRetention(request);
      return { ...rest, ...retention };
    },
  }),
  route(['PUT', '/pitr', 'pitr', 'Set how much history a branch keeps'], {
    body: {
      branch_name: z.string().default(''),
      time_s: z.number().min(0).optional(),
      size_bytes: z.number().int().min(0).optional(),
      reset: z.boolean().default(false),
      ...tenantBody,
    },
    response: schemas.pitr,
    run: async (handlers, input) => {
      const which = { branchName: input.branch_name, tenantId: input.tenant_id };
      const sizeBytes = input.size_bytes === undefined ? undefined : BigInt(input.size_bytes);
      await handlers.setRetention({ ...which, timeS: input.time_s, sizeBytes, reset: input.reset });
      const { retention, ...rest } = await handlers.getRetention(which);
      return { ...rest, ...retention };
    },
  }),
];

export const ROUTES: readonly Route[] = [
  ...storageRoutes,
  ...pgRoutes,
  ...branchRoutes,
  ...snapshotRoutes,
  ...transferRoutes,
  ...otherRoutes,
];
