/** The gRPC services of neon.control.v1. */
import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { BranchServiceService } from '#gen/neon/control/v1/branch.js';
import type { BranchServiceServer } from '#gen/neon/control/v1/branch.js';
import { ControlServiceService } from '#gen/neon/control/v1/control.js';
import type { ControlServiceServer } from '#gen/neon/control/v1/control.js';
import { SnapshotServiceService } from '#gen/neon/control/v1/snapshot.js';
import type { SnapshotServiceServer } from '#gen/neon/control/v1/snapshot.js';
import { StorageServiceService } from '#gen/neon/control/v1/storage.js';
import type { StorageServiceServer } from '#gen/neon/control/v1/storage.js';
import { TransferServiceService } from '#gen/neon/control/v1/transfer.js';
import type { TransferServiceServer } from '#gen/neon/control/v1/transfer.js';
import { unary } from '#shared/rpc/handlers.js';
import type { ControlHandlers } from './handlers.js';

export function grpcServices(
  handlers: ControlHandlers,
): ReadonlyArray<readonly [ServiceDefinition, UntypedServiceImplementation]> {
  const control: ControlServiceServer = {
    getStatus: unary(handlers.getStatus),
    shutdown: unary(handlers.shutdown),
    createTenant: unary(handlers.createTenant),
    listTenants: unary(handlers.listTenants),
    createBranch: unary(handlers.createBranch),
    listBranches: unary(handlers.listBranches),
    createCompute: unary(handlers.createCompute),
    startCompute: unary(handlers.startCompute),
    promoteCompute: unary(handlers.promoteCompute),
    stopCompute: unary(handlers.stopCompute),
    destroyCompute: unary(handlers.destroyCompute),
    getCompute: unary(handlers.getCompute),
    listComputes: unary(handlers.listComputes),
  };
  const storage: StorageServiceServer = {
    attachStorage: unary(handlers.attachStorage),
    detachStorage: unary(handlers.detachStorage),
    listStorages: unary(handlers.listStorages),
    getStorage: unary(handlers.getStorage),
  };
  const branch: BranchServiceServer = {
    getBranch: unary(handlers.getBranch),
    deleteBranch: unary(handlers.deleteBranch),
    renameBranch: unary(handlers.renameBranch),
    resetBranch: unary(handlers.resetBranch),
    diffBranches: unary(handlers.diffBranches),
    checkoutCompute: unary(handlers.checkoutCompute),
    getRetention: unary(handlers.getRetention),
    setRetention: unary(handlers.setRetention),
  };
  const snapshot: SnapshotServiceServer = {
    createSnapshot: unary(handlers.createSnapshot),
    listSnapshots: unary(handlers.listSnapshots),
    getSnapshot: unary(handlers.getSnapshot),
    destroySnapshot: unary(handlers.destroySnapshot),
  };
  const transfer: TransferServiceServer = {
    startTransfer: unary(handlers.startTransfer),
    getOperation: unary(handlers.getOperation),
    listOperations: unary(handlers.listOperations),
    cancelOperation: unary(handlers.cancelOperation),
  };
  return [
    [ControlServiceService, control],
    [StorageServiceService, storage],
    [BranchServiceService, branch],
    [SnapshotServiceService, snapshot],
    [TransferServiceService, transfer],
  ];
}
