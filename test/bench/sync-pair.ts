/** The peer: a plain primary with synchronous hot standbys on this machine; a commit waits for all of them. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { pgTool, until, value } from '../harness/stack.js';

export interface SyncPair extends AsyncDisposable {
  readonly url: string;
  /** Of the first standby. */
  readonly standbyUrl: string;
}

function urlOf(cluster: TempCluster): string {
  return `postgresql://cloud_admin@127.0.0.1:${cluster.port}/postgres`;
}

async function startStandby(primary: TempCluster, name: string): Promise<TempCluster> {
  const standby = await TempCluster.empty({ user: 'cloud_admin', tcp: true });
  await pgTool('pg_basebackup', '-d', urlOf(primary), '-D', standby.dataDir, '-X', 'stream', '-c', 'fast');
  // Not pg_basebackup -R: its postgresql.auto.conf would override the name below.
  await writeFile(join(standby.dataDir, 'standby.signal'), '');
  standby.configure([
    'hot_standby = on',
    `primary_conninfo = 'host=127.0.0.1 port=${primary.port} user=cloud_admin application_name=${name}'`,
  ]);
  await standby.own();
  await standby.start();
  return standby;
}

export async function startSyncPair(standbyCount = 1): Promise<SyncPair> {
  const config = [
    'shared_buffers = 128MB',
    'synchronous_commit = on',
    'max_wal_senders = 10',
    'wal_keep_size = 2GB',
    'fsync = on',
  ];
  const primary = await TempCluster.create({ user: 'cloud_admin', tcp: true, config });
  await primary.start();
  const url = urlOf(primary);
  const names = Array.from({ length: standbyCount }, (_, at) => `peer${at + 1}`);
  const standbys: TempCluster[] = [];
  for (const name of names) standbys.push(await startStandby(primary, name));
  primary.configure([`synchronous_standby_names = '${standbyCount} (${names.join(', ')})'`]);
  await value(url, 'select pg_reload_conf()');
  await until('the synchronous standbys', 30_000, async () => {
    const found = await value(url, "select count(*) from pg_stat_replication where sync_state = 'sync'");
    return found === String(standbyCount);
  });
  const destroy = async () => {
    for (const standby of standbys) await standby.destroy();
    await primary.destroy();
  };
  const [first = primary] = standbys;
  return { url, standbyUrl: urlOf(first), [Symbol.asyncDispose]: destroy };
}
