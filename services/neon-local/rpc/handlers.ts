/** Everything that can be asked of a stack: message in, message out. gRPC and REST are two faces of these functions. */
import type { Daemon } from '../io/daemon.js';
import { branchChangeHandlers } from './branch-changes.js';
import { branchHandlers } from './branches.js';
import { computeHandlers } from './computes.js';
import { retentionHandlers } from './retention.js';
import { snapshotHandlers } from './snapshots.js';
import { statusHandlers } from './status.js';
import { storageHandlers } from './storages.js';
import { tenantHandlers } from './tenants.js';
import { transferHandlers } from './transfers.js';

export function makeHandlers(daemon: Daemon) {
  return {
    ...statusHandlers(daemon),
    ...tenantHandlers(daemon),
    ...storageHandlers(daemon),
    ...branchHandlers(daemon),
    ...branchChangeHandlers(daemon),
    ...retentionHandlers(daemon),
    ...computeHandlers(daemon),
    ...snapshotHandlers(daemon),
    ...transferHandlers(daemon),
  };
}

export type ControlHandlers = ReturnType<typeof makeHandlers>;
