/** The peer: a plain primary with one synchronous hot standby on this machine. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { pgTool, until, value } from '../harness/stack.js';

export interface SyncPair extends AsyncDisposable {
  readonly url: string;
  readonly standbyUrl: string;
  readonly primary: TempCluster;
  readonly standby: TempCluster;
}

function urlOf(cluster: TempCluster): string {
  return `postgresql://cloud_admin@127.0.0.1:${cluster.port}/postgres`;
}

export async function startSyncPair(): Promise<SyncPair> {
  const config = [
    'shared_buffers = 128MB',
    'synchronous_commit = on',
    'max_wal_senders = 5',
    'wal_keep_size = 2GB',
    'fsync = on',
  ];
  const primary = await TempCluster.create({ user: 'cloud_admin', tcp: true, config });
  await primary.start();
  const url = urlOf(primary);
  const standby = await TempCluster.empty({ user: 'cloud_admin', tcp: true });
  await pgTool('pg_basebackup', '-d', url, '-D', standby.dataDir, '-X', 'stream', '-c', 'fast');
  // Not pg_basebackup -R: its postgresql.auto.conf would override the name below.
  await writeFile(join(standby.dataDir, 'standby.signal'), '');
  standby.configure([
    'hot_standby = on',
    `primary_conninfo = 'host=127.0.0.1 port=${primary.port} user=cloud_admin application_name=peer'`,
  ]);
  await standby.own();
  await standby.start();
  primary.configure(["synchronous_standby_names = 'peer'"]);
  await value(url, 'select pg_reload_conf()');
  await until('the synchronous standby', 30_000, async () => {
    return (await value(url, "select count(*) from pg_stat_replication where sync_state = 'sync'")) === '1';
  });
  const destroy = async () => {
    await standby.destroy();
    await primary.destroy();
  };
  return { url, standbyUrl: urlOf(standby), primary, standby, [Symbol.asyncDispose]: destroy };
}
