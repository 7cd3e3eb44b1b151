/**
 * `npm run roundtrip`: a plain Postgres of a given size becomes a branch by `basebackup://`, a snapshot of it goes to another storage,
 * everything local is destroyed, and a fresh stack that knows nothing but that storage has the same database: three times pg_dumpall,
 * compared by SHA-256. Prints how long each step took.
 *
 *   npm run roundtrip -- [--size 100M] [--storage dir|s3] [--safekeepers 1] [--again]
 *
 * `--again` pushes the snapshot a second time, when all of it is there.
 * `s3` is a Ceph gateway of its own (`npm run setup:s3` installs it), with its objects in memory.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { createBucket } from '#shared/io/testing/s3-checks.js';
import { PG_BIN, TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { Rgw } from '../harness/rgw.js';
import { TestStack } from '../harness/stack.js';

const MIB = 1 << 20;
const SNAPSHOT = 'whole';
const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '100M' },
    storage: { type: 'string', default: 'dir' },
    safekeepers: { type: 'string', default: '1' },
    again: { type: 'boolean', default: false },
  },
});

const say = (text: string): void => void process.stdout.write(`${text}\n`);

function bytesOf(text: string): number {
  const match = /^(\d+)([MG])$/.exec(text);
  if (match === null) throw new Error(`"${text}" is no size: write 100M or 1G`);
  return Number(match[1]) * (match[2] === 'G' ? 1024 * MIB : MIB);
}

/** Runs a step and tells how long it took, and how much of `bytes` went through in a second. */
async function step<T>(name: string, bytes: number, act: () => Promise<T>): Promise<T> {
  const startedAt = performance.now();
  const result = await act();
  const seconds = (performance.now() - startedAt) / 1000;
  const rate = bytes === 0 ? '' : `, ${(bytes / MIB / seconds).toFixed(1)} MiB/s`;
  say(`${name}: ${seconds.toFixed(1)} s${rate}`);
  return result;
}

/** SHA-256 of what pg_dumpall says, without its comments and the random words that newer ones put around it. */
async function digestOf(url: string): Promise<string> {
  const script = `set -o pipefail
    "$0" -d "$1" | grep -v -e '^--' -e '^.restrict ' -e '^.unrestrict ' | sha256sum`;
  const { stdout } = await promisify(execFile)('bash', ['-c', script, join(PG_BIN, 'pg_dumpall'), url]);
  return stdout.slice(0, 64);
}

const SCHEMA = `
  create role reader;
  create table account (id bigint primary key, note text not null, at timestamptz, amount numeric(12, 2));
  create index on account (note);
  create index on account using brin (at);
  create table page (id serial primary key, body text, raw bytea);
  create view rich as select * from account where amount > 5000;
  grant select on rich to reader;`;

/** About 8 MiB with the indexes: rows, and values that are kept out of line. */
const ROUND = (number: number) => `
  insert into account select i, md5(i::text), timestamptz '2026-01-01' + i * interval '1 s', (i::bigint * 7919 % 1000000) / 100.0
    from generate_series(${number} * 30000 + 1, ${number} * 30000 + 30000) i;
  insert into page (body, raw)
    select string_agg(md5((${number} * 1000000 + p * 1000 + i)::text), ' '), decode(string_agg(md5(i::text || p), ''), 'hex')
    from generate_series(1, 100) p, generate_series(1, 200) i group by p;`;

/** A plain server with so many bytes in it. */
async function fill(wanted: number): Promise<{ plain: TempCluster; bytes: number }> {
  const config = ['max_wal_size = 1GB', 'synchronous_commit = off', 'autovacuum = off'];
  const plain = await TempCluster.create({ tcp: true, user: 'cloud_admin', config });
  try {
    await plain.start();
    await plain.psql(SCHEMA);
    let bytes = 0;
    for (let round = 0; bytes < wanted; round++) {
      await plain.psql(ROUND(round));
      bytes = Number(await plain.psql('select sum(pg_database_size(oid)) from pg_database'));
    }
    await plain.psql(
      'delete from account where id % 10 = 0; update page set body = body where id % 20 = 0; vacuum; checkpoint',
    );
    bytes = Number(await plain.psql('select sum(pg_database_size(oid)) from pg_database'));
    return { plain, bytes };
  } catch (error) {
    await plain[Symbol.asyncDispose]();
    throw error;
  }
}

/** Where the snapshot goes, as options of `neon`, and what is to be written to its standard input. */
interface Place {
  readonly url: string;
  readonly flags: readonly string[];
  readonly secret: string;
  readonly close: () => Promise<void>;
}

async function openPlace(): Promise<Place> {
  if (values.storage === 's3') {
    const rgw = await Rgw.start();
    await createBucket(rgw, 'roundtrip');
    const flags = ['--endpoint', rgw.endpoint, '--access-key-id', rgw.accessKey, '--secret-access-key', '-'];
    return { url: 's3://roundtrip/images', flags, secret: rgw.secretKey, close: () => rgw[Symbol.asyncDispose]() };
  }
  if (values.storage !== 'dir') throw new Error(`"${values.storage}" is no storage: write dir or s3`);
  const dir = await mkdtemp(join(tmpdir(), 'neon-roundtrip-'));
  return { url: dir, flags: [], secret: '', close: () => rm(dir, { recursive: true, force: true }) };
}

const newStack = () => TestStack.start({ safekeepers: Number(values.safekeepers), tenant: false });

/** Plain server → branch → snapshot in `place`. What was local is gone when this returns; the digest of its contents is left. */
async function send(place: Place): Promise<{ digest: string; bytes: number }> {
  const { plain, bytes } = await step('filling a plain server', 0, () => fill(bytesOf(values.size)));
  say(`it has ${(bytes / MIB).toFixed(0)} MiB`);
  try {
    const source = `${plain.user}@127.0.0.1:${plain.port}`;
    const digest = await step('pg_dumpall of it', bytes, () => digestOf(`postgresql://${source}/postgres`));
    const stack = await newStack();
    try {
      const from = `basebackup://${source}/`;
      await step('import', bytes, () => stack.neon('snapshot', 'import', 'imported', '--from', from));
      const url = await step('start', 0, () => stack.startCompute('imported', { branch: 'imported' }));
      const imported = await step('pg_dumpall of the branch', bytes, () => digestOf(url));
      if (imported !== digest) throw new Error('the imported branch differs from the plain server');
      await stack.neon('snapshot', 'create', SNAPSHOT, '--branch', 'imported');
      const push = ['snapshot', 'push', SNAPSHOT, '--to', place.url, ...place.flags];
      const pushed = await step('push', bytes, () => stack.neonWith(place.secret, ...push, '--json'));
      say((JSON.parse(pushed) as { result: string }).result);
      if (values.again) await step('push of what is there', bytes, () => stack.neonWith(place.secret, ...push));
    } finally {
      await stack[Symbol.asyncDispose]();
    }
    return { digest, bytes };
  } finally {
    await plain[Symbol.asyncDispose]();
  }
}

async function receive(place: Place, sent: { digest: string; bytes: number }): Promise<void> {
  const stack = await newStack();
  try {
    const pull = ['snapshot', 'pull', SNAPSHOT, '--from', place.url, ...place.flags];
    await step('pull into a fresh stack', sent.bytes, () => stack.neonWith(place.secret, ...pull));
    const url = await step('start', 0, () => stack.startCompute('copy', { branch: 'imported' }));
    const digest = await step('pg_dumpall of the pulled branch', sent.bytes, () => digestOf(url));
    if (digest !== sent.digest) throw new Error('the pulled branch differs from the plain server');
    say('all three have the same contents');
  } finally {
    await stack[Symbol.asyncDispose]();
  }
}

const place = await openPlace();
try {
  await receive(place, await send(place));
} finally {
  await place.close();
}
