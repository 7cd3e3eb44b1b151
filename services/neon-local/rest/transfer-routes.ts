/** Routes of what takes long: each starts an operation, which is asked for until it has ended. */
import { StorageError } from '#shared/core/errors.js';
import { z } from 'zod';
import type { StartTransferRequest } from '#gen/neon/control/v1/transfer.js';
import type { ControlHandlers } from '../rpc/handlers.js';
import { route } from './route.js';
import type { Route } from './route.js';
import * as schemas from './schemas.js';

interface Action extends schemas.S3Input {
  readonly snapshot_name: string;
  readonly action: 'push' | 'pull' | 'export' | 'import';
  readonly to: string;
  readonly from: string;
  readonly format: string;
  readonly branch_name: string;
  readonly tenant_id: string;
  readonly storage_name: string;
}

function want(value: string, name: string, action: string): string {
  if (value === '') throw new StorageError('invalid', `action ${action} wants "${name}"`);
  return value;
}

function transferOf(input: Action): StartTransferRequest['transfer'] {
  const { action, snapshot_name: snapshot, tenant_id: tenantId, branch_name: branchName } = input;
  const storageName = input.storage_name;
  const s3 = schemas.s3Message(input);
  switch (action) {
    case 'push':
      return { $case: 'push', value: { snapshot, tenantId, toUrl: want(input.to, 'to', action), s3 } };
    case 'pull':
      return {
        $case: 'pull',
        value: { snapshot, tenantId, branchName, storageName, fromUrl: want(input.from, 'from', action), s3 },
      };
    case 'import':
      return {
        $case: 'import',
        value: { branchName: branchName || snapshot, tenantId, storageName, from: want(input.from, 'from', action) },
      };
    case 'export':
      return {
        $case: 'export',
        value: { snapshot, branchName, tenantId, format: input.format, toPath: want(input.to, 'to', action) },
      };
  }
}

async function startAction(handlers: ControlHandlers, input: Action): Promise<unknown> {
  return (await handlers.startTransfer({ transfer: transferOf(input) })).operation;
}

const summary = 'Push, pull or export a snapshot, or import a cluster; answers with an operation';

export const transferRoutes: Route[] = [
  route(['POST', '/snapshots/{snapshot_name}/actions', 'snapshots', summary], {
    params: { snapshot_name: z.string() },
    body: {
      action: z.enum(['push', 'pull', 'export', 'import']),
      to: z.string().default('').describe('push: s3://… or a directory; export: an absolute path'),
      from: z.string().default('').describe('pull: s3://… or a directory; import: basebackup://…, a directory, a tar'),
      format: z.enum(['tar', 'pgdata', 'dump']).default('tar'),
      branch_name: z.string().default('').describe('pull, import: name of the new branch'),
      tenant_id: z.string().default(''),
      storage_name: z.string().default(''),
      ...schemas.s3In,
    },
    response: schemas.operation,
    run: startAction,
  }),
  route(['GET', '/operations', 'operations', 'Operations that run, and the last ones that ended'], {
    response: z.array(schemas.operation),
    run: async (handlers) => (await handlers.listOperations({})).operations,
  }),
  route(['GET', '/operations/{operation_id}', 'operations', 'One operation, with its progress'], {
    params: { operation_id: z.string() },
    response: schemas.operation,
    run: async (handlers, input) => (await handlers.getOperation({ id: input.operation_id })).operation,
  }),
  route(['DELETE', '/operations/{operation_id}', 'operations', 'Stop an operation'], {
    params: { operation_id: z.string() },
    response: schemas.operation,
    run: async (handlers, input) => (await handlers.cancelOperation({ id: input.operation_id })).operation,
  }),
];
