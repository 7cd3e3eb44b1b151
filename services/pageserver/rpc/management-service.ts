/** neon.pageserver.v1.ManagementService. */
import type { ManagementServiceServer } from '#gen/neon/pageserver/v1/management.js';
import type { TenantManager } from '../tenant/tenant-manager.js';
import { maintenanceMethods } from './maintenance-methods.js';
import { tenantMethods } from './tenant-methods.js';
import { timelineMethods } from './timeline-methods.js';

export interface ManagementDeps {
  readonly tenants: TenantManager;
  readonly nodeId: number;
}

export function managementService(deps: ManagementDeps): ManagementServiceServer {
  return { ...tenantMethods(deps), ...timelineMethods(deps), ...maintenanceMethods(deps) };
}
