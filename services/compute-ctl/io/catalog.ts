/** Reads roles and databases from a running Postgres and runs the plan that makes them what the spec says. */
import pg from 'pg';
import { StorageError } from '#shared/core/errors.js';
import type { Logger } from '#shared/runtime/log.js';
import { planCatalog } from '../core/catalog-plan.js';
import type { CatalogState, Statement } from '../core/catalog-plan.js';
import type { ComputeSpec } from '../core/spec.js';

export interface ServerAddress {
  readonly socketDir: string;
  readonly port: number;
  readonly user: string;
}

export async function connectTo(server: ServerAddress, database: string): Promise<pg.Client> {
  const client = new pg.Client({
    host: server.socketDir,
    port: server.port,
    user: server.user,
    database,
    application_name: 'compute_ctl',
  });
  client.on('error', () => undefined); // the query that runs fails, too
  await client.connect();
  return client;
}

async function readState(client: pg.Client, superuser: string): Promise<CatalogState> {
  const roles = await client.query<{ rolname: string; rolpassword: string | null }>(
    'SELECT rolname, rolpassword FROM pg_authid',
  );
  const databases = await client.query<{ datname: string; owner: string }>(
    'SELECT datname, pg_get_userbyid(datdba) AS owner FROM pg_database WHERE datallowconn',
  );
  return {
    roles: new Map(roles.rows.map((row) => [row.rolname, row.rolpassword])),
    databases: new Map(databases.rows.map((row) => [row.datname, row.owner])),
    superuser,
  };
}

/** Returns how many statements were needed. Throws StorageError `precondition` naming the statement that failed, without secrets. */
export async function applyCatalog(server: ServerAddress, spec: ComputeSpec, log: Logger): Promise<number> {
  // A spec that wants nothing costs no connection: it would be a good part of a cold start.
  const isEmpty = spec.roles.length + spec.databases.length + spec.deltaOperations.length === 0;
  if (spec.skipCatalogUpdates || isEmpty) return 0;
  const home = await connectTo(server, 'postgres');
  try {
    const plan = planCatalog(spec, await readState(home, server.user));
    for (const statement of plan) await run(server, home, statement, log);
    return plan.length;
  } finally {
    await home.end();
  }
}

async function run(server: ServerAddress, home: pg.Client, statement: Statement, log: Logger): Promise<void> {
  const shown = statement.sql.replace(/ PASSWORD .*$/s, ' PASSWORD …');
  const client = statement.database === 'postgres' ? home : await connectTo(server, statement.database);
  try {
    log.info({ database: statement.database, sql: shown }, 'applying the spec');
    await client.query(statement.sql);
  } catch (cause) {
    throw new StorageError('precondition', `the spec could not be applied: ${shown}`, { cause });
  } finally {
    if (client !== home) await client.end();
  }
}
