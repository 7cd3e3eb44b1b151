/** Reads roles and databases from a running Postgres and runs the plan that makes them what the spec says. */
import pg from 'pg';
import { StorageError } from '#shared/core/errors.js';
import type { Logger } from '#shared/runtime/log.js';
import { planCatalog, planExtensions, wantedExtensions } from '../core/catalog-plan.js';
import type { Statement } from '../core/catalog-plan.js';
import type { CatalogState, DatabaseState, RoleState } from '../core/catalog-state.js';
import type { ComputeSpec, SpecExtension } from '../core/spec.js';

export interface ServerAddress {
  readonly socketDir: string;
  readonly port: number;
  readonly user: string;
}

/** What our own connections are called, with what they are for behind a colon. */
export const APPLICATION_NAME = 'compute_ctl';
let connections = 0;

/** Connections made by `connectTo` so far. */
export function connectionCount(): number {
  return connections;
}

export async function connectTo(server: ServerAddress, database: string, purpose = 'configure'): Promise<pg.Client> {
  connections += 1;
  const client = new pg.Client({
    host: server.socketDir,
    port: server.port,
    user: server.user,
    database,
    application_name: `${APPLICATION_NAME}:${purpose}`,
    // What users set for a role or a database must not stand in our way.
    options: '-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0 -c idle_session_timeout=0',
  });
  client.on('error', () => undefined); // the query that runs fails, too
  await client.connect().catch((error: unknown) => {
    connections -= 1;
    throw error;
  });
  return client;
}

interface RoleRow extends Omit<RoleState, 'validUntilMs'> {
  readonly name: string;
  readonly until: string | null;
}

async function readState(client: pg.Client, superuser: string): Promise<CatalogState> {
  const roles = await client.query<RoleRow>(
    `SELECT rolname AS name, rolpassword AS password, rolsuper AS superuser, rolinherit AS inherit,
       rolcreaterole AS "createRole", rolcreatedb AS "createDb", rolcanlogin AS login, rolreplication AS replication,
       rolbypassrls AS "bypassRls", rolconnlimit AS "connectionLimit",
       (extract(epoch FROM rolvaliduntil) * 1000)::text AS until FROM pg_authid`,
  );
  const databases = await client.query<DatabaseState & { name: string }>(
    `SELECT datname AS name, pg_get_userbyid(datdba) AS owner, datconnlimit AS "connectionLimit",
       datallowconn AS "allowConnections", datistemplate AS "isTemplate", datconnlimit = -2 AS invalid FROM pg_database`,
  );
  return {
    roles: new Map(
      roles.rows.map(({ name, until, ...state }) => [
        name,
        { ...state, validUntilMs: until === null ? null : Number(until) },
      ]),
    ),
    databases: new Map(databases.rows.map(({ name, ...state }) => [name, state])),
    superuser,
  };
}

/** Returns how many statements were needed. Throws StorageError `precondition` naming the statement that failed, without secrets. */
export async function applyCatalog(server: ServerAddress, spec: ComputeSpec, log: Logger): Promise<number> {
  if (spec.skipCatalogUpdates) return 0;
  const extensions = wantedExtensions(spec);
  // A spec that wants nothing costs no connection: it would be a good part of a cold start.
  const wanted = spec.roles.length + spec.databases.length + spec.deltaOperations.length;
  let count = 0;
  if (wanted > 0) {
    const home = await connectTo(server, 'postgres');
    try {
      const plan = planCatalog(spec, await readState(home, server.user));
      for (const statement of plan) await run(server, home, statement, log);
      count += plan.length;
    } finally {
      await home.end();
    }
  }
  for (const database of new Set(extensions.map((extension) => extension.database))) {
    const here = extensions.filter((extension) => extension.database === database);
    count += await applyExtensions(server, database, here, log);
  }
  return count;
}

async function applyExtensions(
  server: ServerAddress,
  database: string,
  wanted: readonly SpecExtension[],
  log: Logger,
): Promise<number> {
  const client = await connectTo(server, database);
  try {
    const { rows } = await client.query<{ name: string; version: string }>(
      'SELECT extname AS name, extversion AS version FROM pg_extension',
    );
    const plan = planExtensions(wanted, new Map(rows.map(({ name, version }) => [name, version])));
    for (const sql of plan) await runOn(client, { database, sql }, log);
    return plan.length;
  } finally {
    await client.end();
  }
}

async function run(server: ServerAddress, home: pg.Client, statement: Statement, log: Logger): Promise<void> {
  if (statement.database === 'postgres') return runOn(home, statement, log);
  const client = await connectTo(server, statement.database);
  try {
    await runOn(client, statement, log);
  } finally {
    await client.end();
  }
}

async function runOn(client: pg.Client, { database, sql }: Statement, log: Logger): Promise<void> {
  const shown = sql.replace(/ PASSWORD .*$/s, ' PASSWORD …');
  try {
    log.info({ database, sql: shown }, 'applying the spec');
    await client.query(sql);
  } catch (cause) {
    throw new StorageError('precondition', `the spec could not be applied: ${shown}`, { cause });
  }
}
