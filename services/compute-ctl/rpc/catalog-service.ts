/** neon.compute.v1.CatalogService. */
import { SchemaPrivilege } from '#gen/neon/compute/v1/catalog.js';
import type {
  CatalogServiceServer,
  GetDatabaseSchemaRequest,
  GetDatabaseSchemaResponse,
} from '#gen/neon/compute/v1/catalog.js';
import { StorageError } from '#shared/core/errors.js';
import { serverStream, unary } from '#shared/rpc/handlers.js';
import type { Compute } from '../compute.js';
import { checkWritability, grantOnSchema, installedExtensions, installExtension } from '../io/inspection.js';
import { listDatabasesAndRoles, topStatements } from '../io/inspection.js';
import { dumpSchema } from '../io/schema-dump.js';

function required(value: string, field: string): string {
  if (value === '') throw new StorageError('invalid', `${field} is required`);
  return value;
}

function privilegeWord(privilege: SchemaPrivilege): 'USAGE' | 'CREATE' | 'ALL' {
  if (privilege === SchemaPrivilege.USAGE) return 'USAGE';
  if (privilege === SchemaPrivilege.CREATE) return 'CREATE';
  if (privilege === SchemaPrivilege.ALL) return 'ALL';
  throw new StorageError('invalid', 'a schema grants USAGE, CREATE or ALL');
}

export function catalogService(compute: Compute): CatalogServiceServer {
  return {
    listDatabasesAndRoles: unary(async () => {
      const { roles, databases } = await listDatabasesAndRoles(compute.server());
      return {
        roles: roles.map(({ name, options }) => ({
          name,
          options: options.map((option) => ({ name: option.name, value: option.value ?? '' })),
        })),
        databases: databases.map(({ name, owner, restrict_conn: restrictConn, invalid }) => ({
          name,
          owner,
          restrictConn,
          invalid,
        })),
      };
    }),
    getDatabaseSchema: serverStream<GetDatabaseSchemaRequest, GetDatabaseSchemaResponse>(async (request, writer) => {
      const database = required(request.database, 'database');
      for await (const sql of dumpSchema(compute.server(), compute.binDir(), database)) await writer.write({ sql });
    }),
    listInstalledExtensions: unary(async () => {
      const extensions = await installedExtensions(compute.server());
      return {
        extensions: extensions.map((extension) => ({
          name: extension.extname,
          version: extension.version,
          databaseCount: extension.n_databases,
          ownedBySuperuser: extension.owned_by_superuser,
        })),
      };
    }),
    installExtension: unary(async (request) => {
      const extension = required(request.extension, 'extension');
      const database = required(request.database, 'database');
      const version = request.version === '' ? null : request.version;
      return { version: await installExtension(compute.server(), { extension, database, version }) };
    }),
    grantOnSchema: unary(async (request) => {
      if (request.privileges.length === 0) throw new StorageError('invalid', 'privileges is required');
      await grantOnSchema(compute.server(), {
        database: required(request.database, 'database'),
        schema: required(request.schema, 'schema'),
        role: required(request.role, 'role'),
        privileges: request.privileges.map(privilegeWord),
      });
      return {};
    }),
    checkWritability: unary(async () => {
      await checkWritability(compute.server());
      return {};
    }),
    getInsights: unary(async () => {
      const rows = await topStatements(compute.server());
      return { statementsJson: rows.map((row) => JSON.stringify(row)) };
    }),
  };
}
