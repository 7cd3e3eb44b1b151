/** neon.pageserver.v1.TransferService. */
import type { TransferServiceServer } from '#gen/neon/pageserver/v1/transfer.js';
import type { TenantManager } from '../tenant/tenant-manager.js';
import { exportBackup } from './export-backup.js';
import { importBasebackup } from './import-basebackup.js';

export interface TransferDeps {
  readonly tenants: TenantManager;
  readonly waitLsnTimeoutMs: number;
}

export function transferService(deps: TransferDeps): TransferServiceServer {
  return { importBasebackup: importBasebackup(deps), exportBackup: exportBackup(deps) };
}
