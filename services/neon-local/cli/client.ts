/** Finds the running daemon of a stack and calls it. */
import { ControlServiceClient } from '#gen/neon/control/v1/control.js';
import { errorKind, StorageError } from '#shared/core/errors.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { RepoDir, repoDirPath } from '../io/repo-dir.js';

export interface GlobalOptions {
  readonly repoDir?: string;
  readonly json?: boolean;
}

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

/** Runs `act` with a client of the stack's daemon; tells how to start it when there is none. */
export async function withDaemon<T>(repo: RepoDir, act: (client: ControlServiceClient) => Promise<T>): Promise<T> {
  const info = await repo.daemon();
  if (info === null) {
    await repo.config();
    throw new StorageError('precondition', `the stack in ${repo.path} is not running; start it with "neon start"`);
  }
  const client = createClient(ControlServiceClient, info.grpcAddr);
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
