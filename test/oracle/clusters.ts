/** The servers under the oracle: a snapshot to start from, and the same cluster after a load. */
import { crc32c } from '#shared/postgres/crc32c.js';
import { DB_IN_PRODUCTION } from '#shared/postgres/control-file.js';
import { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import pg from 'pg';
import type { Load } from './loads.js';

/** No checkpoint but the last, so that all WAL is kept; no vacuum but the load's own. */
const CONFIG = [
  'checkpoint_timeout = 1d',
  'max_wal_size = 100GB',
  'wal_keep_size = 100GB',
  'autovacuum = off',
  'max_prepared_transactions = 10',
  'shared_buffers = 64MB',
  'log_min_messages = warning',
];
const CONTROL_STATE_AT = 16;
const CONTROL_CRC_AT = 288;

export interface LoadedCluster extends AsyncDisposable {
  readonly snapshot: TempCluster;
  readonly cluster: TempCluster;
}

/** initdb, snapshot, loads; then stopped, cleanly or by SIGKILL. */
export async function loadedCluster(options: {
  config: readonly string[];
  initdbArgs?: readonly string[];
  loads: readonly Load[];
  scale: number;
  crash: boolean;
  /** One checkpoint after the other while the loads run: the next change of each page carries its image. */
  checkpoints?: boolean;
}): Promise<LoadedCluster> {
  const cluster = await TempCluster.create({
    config: [...CONFIG, ...options.config],
    initdbArgs: options.initdbArgs ?? [],
  });
  const snapshot = await cluster.clone();
  const dispose = async (): Promise<void> => {
    await cluster.destroy();
    await snapshot.destroy();
  };
  try {
    await cluster.start();
    const checkpoints = options.checkpoints === true ? await startCheckpoints(cluster) : null;
    for (const load of options.loads) await load.run(cluster, options.scale);
    await checkpoints?.stop();
    if (options.crash) await cluster.kill();
    else await cluster.stop('fast');
  } catch (error) {
    await dispose();
    throw error;
  }
  return { snapshot, cluster, [Symbol.asyncDispose]: dispose };
}

const CHECKPOINT_PAUSE_MS = 50;

async function startCheckpoints(cluster: TempCluster): Promise<{ stop(): Promise<void> }> {
  const client = new pg.Client(cluster.connection());
  await client.connect();
  let going = true;
  const loop = async (): Promise<void> => {
    while (going) {
      await client.query('checkpoint');
      await new Promise((resolve) => setTimeout(resolve, CHECKPOINT_PAUSE_MS));
    }
  };
  const done = loop();
  return {
    async stop() {
      going = false;
      await done.finally(() => client.end());
    },
  };
}

/** Makes a cleanly stopped cluster look as if it had crashed, so that the server replays all WAL behind its checkpoint. */
export function markCrashed(dataDir: string): void {
  const file = path.join(dataDir, 'global', 'pg_control');
  const bytes = readFileSync(file);
  bytes.writeUInt32LE(DB_IN_PRODUCTION, CONTROL_STATE_AT);
  bytes.writeUInt32LE(crc32c(bytes, 0, CONTROL_CRC_AT), CONTROL_CRC_AT);
  writeFileSync(file, bytes);
}
