/** Finds the running daemon of a stack and calls it. */
import type { Client } from '@grpc/grpc-js';
import { BranchServiceClient } from '#gen/neon/control/v1/branch.js';
import { ControlServiceClient } from '#gen/neon/control/v1/control.js';
import { SnapshotServiceClient } from '#gen/neon/control/v1/snapshot.js';
import { StorageServiceClient } from '#gen/neon/control/v1/storage.js';
import { TransferServiceClient } from '#gen/neon/control/v1/transfer.js';
import { errorKind, StorageError } from '#shared/core/errors.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { RepoDir, repoDirPath } from '../io/repo-dir.js';

export interface GlobalOptions {
  readonly repoDir?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** Making a branch waits for WAL, imports an image, starts and stops computes. */
export const LONG_DEADLINE_MS = 180_000;

export function openRepo(options: GlobalOptions): RepoDir {
  return new RepoDir(repoDirPath(options.repoDir, process.env));
}

/** Whether a daemon answers in this directory. */
export async function pingDaemon(repo: RepoDir): Promise<boolean> {
  const info = await repo.daemon();
  if (info === null) return false;
  const client = createClient(ControlServiceClient, info.grpcAddr);
  try {
    const status = await callUnary(client, client.getStatus, {}, { deadlineMs: 2_000 });
    return status.repoDir === repo.path;
  } catch {
    return false;
  } finally {
    client.close();
  }
}

type ClientType<C extends Client> = Parameters<typeof createClient<C>>[0];

/** Runs `act` with a client of the stack's daemon; tells how to start it when there is none. */
async function withClient<C extends Client, T>(
  Type: ClientType<C>,
  repo: RepoDir,
  act: (client: C) => Promise<T>,
): Promise<T> {
  const info = await repo.daemon();
  if (info === null) {
    await repo.config();
    throw new StorageError('precondition', `the stack in ${repo.path} is not running; start it with "neon start"`);
  }
  const client = createClient(Type, info.grpcAddr);
  try {
    return await act(client);
  } catch (error) {
    if (errorKind(error) === 'unavailable' && !(await pingDaemon(repo))) {
      const text = `the daemon of ${repo.path} (pid ${info.pid}) does not answer; start it with "neon start"`;
      throw new StorageError('unavailable', text, { cause: error });
    }
    throw error;
  } finally {
    client.close();
  }
}

export function withDaemon<T>(repo: RepoDir, act: (client: ControlServiceClient) => Promise<T>): Promise<T> {
  return withClient(ControlServiceClient, repo, act);
}

export function withStorages<T>(repo: RepoDir, act: (client: StorageServiceClient) => Promise<T>): Promise<T> {
  return withClient(StorageServiceClient, repo, act);
}

export function withBranches<T>(repo: RepoDir, act: (client: BranchServiceClient) => Promise<T>): Promise<T> {
  return withClient(BranchServiceClient, repo, act);
}

export function withSnapshots<T>(repo: RepoDir, act: (client: SnapshotServiceClient) => Promise<T>): Promise<T> {
  return withClient(SnapshotServiceClient, repo, act);
}

export function withTransfers<T>(repo: RepoDir, act: (client: TransferServiceClient) => Promise<T>): Promise<T> {
  return withClient(TransferServiceClient, repo, act);
}
