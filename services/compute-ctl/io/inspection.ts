/** What can be asked of, and done to, the databases of a running compute from outside, besides its spec. */
import type pg from 'pg';
import { StorageError } from '#shared/core/errors.js';
import { quoteIdentifier, quoteLiteral } from '../core/sql.js';
import { connectTo } from './catalog.js';
import type { ServerAddress } from './catalog.js';
import { inDatabase } from './database-errors.js';

const STATEMENTS_MAX = 100;

async function withDatabase<T>(
  server: ServerAddress,
  database: string,
  doing: string,
  act: (client: pg.Client) => Promise<T>,
): Promise<T> {
  return inDatabase(doing, async () => {
    const client = await connectTo(server, database, 'api');
    try {
      return await act(client);
    } finally {
      await client.end().catch(() => undefined);
    }
  });
}

export interface RoleListing {
  readonly name: string;
  /** As CREATE ROLE takes them; the password is never told. */
  readonly options: readonly { readonly name: string; readonly value: string | null }[];
}
export interface DatabaseListing {
  readonly name: string;
  readonly owner: string;
  /** Nobody may connect. */
  readonly restrict_conn: boolean;
  /** Left over from a DROP that was cut off. */
  readonly invalid: boolean;
}

export async function listDatabasesAndRoles(
  server: ServerAddress,
): Promise<{ roles: RoleListing[]; databases: DatabaseListing[] }> {
  return withDatabase(server, 'postgres', 'list databases and roles', async (client) => {
    const roles = await client.query<{ name: string; words: string[]; limit: number }>(
      `SELECT rolname AS name, rolconnlimit AS limit, array_remove(ARRAY[
         CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN NOT rolinherit THEN 'NOINHERIT' END,
         CASE WHEN rolcreaterole THEN 'CREATEROLE' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END,
         CASE WHEN rolcanlogin THEN 'LOGIN' END, CASE WHEN rolreplication THEN 'REPLICATION' END,
         CASE WHEN rolbypassrls THEN 'BYPASSRLS' END], NULL) AS words
       FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY rolname`,
    );
    const databases = await client.query<DatabaseListing>(
      `SELECT datname AS name, pg_get_userbyid(datdba) AS owner, NOT datallowconn AS restrict_conn,
         datconnlimit = -2 AS invalid FROM pg_database WHERE NOT datistemplate ORDER BY datname`,
    );
    return {
      roles: roles.rows.map(({ name, words, limit }) => ({
        name,
        options: [
          ...words.map((word) => ({ name: word, value: null })),
          ...(limit === -1 ? [] : [{ name: 'CONNECTION LIMIT', value: String(limit) }]),
        ],
      })),
      databases: databases.rows,
    };
  });
}

/** The statements that took the most time, as rows of pg_stat_statements. Throws `precondition` when that extension is not there. */
export async function topStatements(server: ServerAddress): Promise<Record<string, unknown>[]> {
  return withDatabase(server, 'postgres', 'read pg_stat_statements', async (client) => {
    const { rows } = await client.query<{ schema: string }>(
      "SELECT extnamespace::regnamespace::text AS schema FROM pg_extension WHERE extname = 'pg_stat_statements'",
    );
    const schema = rows[0]?.schema;
    if (schema === undefined) {
      throw new StorageError(
        'precondition',
        'the extension pg_stat_statements is not in database postgres; put it into shared_preload_libraries',
      );
    }
    const top = await client.query<Record<string, unknown>>(
      `SELECT * FROM ${schema}.pg_stat_statements WHERE userid <> 'cloud_admin'::regrole OR query !~ 'pg_stat_statements'
       ORDER BY mean_exec_time + mean_plan_time DESC LIMIT ${STATEMENTS_MAX}`,
    );
    return top.rows;
  });
}

export interface InstalledExtension {
  readonly extname: string;
  readonly version: string;
  readonly n_databases: number;
  readonly owned_by_superuser: boolean;
}

export async function installedExtensions(server: ServerAddress): Promise<InstalledExtension[]> {
  const { databases } = await listDatabasesAndRoles(server);
  const found = new Map<string, InstalledExtension>();
  for (const { name } of databases.filter((database) => !database.restrict_conn && !database.invalid)) {
    const rows = await withDatabase(server, name, 'list extensions', async (client) => {
      const result = await client.query<{ extname: string; version: string; owned_by_superuser: boolean }>(
        `SELECT extname, extversion AS version, rolsuper AS owned_by_superuser
         FROM pg_extension JOIN pg_roles ON pg_roles.oid = extowner`,
      );
      return result.rows;
    });
    for (const row of rows) {
      const key = `${row.extname} ${row.version} ${row.owned_by_superuser}`;
      found.set(key, { ...row, n_databases: (found.get(key)?.n_databases ?? 0) + 1 });
    }
  }
  return [...found.values()].sort((a, b) => (a.extname < b.extname ? -1 : 1));
}

/** Returns the version that is there afterwards; `version` null: any. */
export async function installExtension(
  server: ServerAddress,
  request: { readonly extension: string; readonly database: string; readonly version: string | null },
): Promise<string> {
  const { extension, database, version } = request;
  return withDatabase(server, database, `install extension "${extension}"`, async (client) => {
    const name = quoteIdentifier(extension);
    const installed = async (): Promise<string | undefined> =>
      (
        await client.query<{ version: string }>('SELECT extversion AS version FROM pg_extension WHERE extname = $1', [
          extension,
        ])
      ).rows[0]?.version;
    const found = await installed();
    if (found === undefined) {
      await client.query(
        `CREATE EXTENSION IF NOT EXISTS ${name}${version === null ? '' : ` VERSION ${quoteLiteral(version)}`} CASCADE`,
      );
    } else if (version !== null && version !== found) {
      await client.query(`ALTER EXTENSION ${name} UPDATE TO ${quoteLiteral(version)}`);
    }
    return (await installed()) ?? '';
  });
}

export interface GrantRequest {
  readonly database: string;
  readonly schema: string;
  readonly role: string;
  /** What a schema can grant. */
  readonly privileges: readonly ('USAGE' | 'CREATE' | 'ALL')[];
}

export async function grantOnSchema(server: ServerAddress, request: GrantRequest): Promise<void> {
  const { database, schema, role, privileges } = request;
  const sql = `GRANT ${privileges.join(', ')} ON SCHEMA ${quoteIdentifier(schema)} TO ${quoteIdentifier(role)}`;
  await withDatabase(server, database, 'grant privileges', (client) => client.query(sql));
}

/** Writes and commits a row, so that a quorum has it. A full disk is the user's affair and no fault of the compute. */
export async function checkWritability(server: ServerAddress): Promise<void> {
  try {
    await withDatabase(server, 'postgres', 'write a row', async (client) => {
      await client.query(
        `CREATE TABLE IF NOT EXISTS public.health_check (id int PRIMARY KEY, updated_at timestamptz NOT NULL DEFAULT now())`,
      );
      await client.query(
        'INSERT INTO public.health_check VALUES (1, now()) ON CONFLICT (id) DO UPDATE SET updated_at = now()',
      );
    });
  } catch (error) {
    const code = ((error as Error).cause as { code?: unknown } | undefined)?.code;
    if (code !== '53100') throw error;
  }
}
