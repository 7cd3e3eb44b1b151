/**
 * What must be done to a database so that its roles and databases are what the spec says. Compares first: a start with nothing to change
 * issues no statement. Roles and databases that the spec does not name stay as they are.
 */
import { StorageError } from '#shared/core/errors.js';
import type { ComputeSpec, SpecDatabase, SpecOption, SpecRole } from './spec.js';
import { quoteIdentifier, quoteLiteral } from './sql.js';

/** Group of the roles that the spec brings: may do what an ordinary superuser needs from day to day. */
export const PRIVILEGED_ROLE = 'neon_superuser';
const NEW_ROLE_RIGHTS = `INHERIT CREATEROLE CREATEDB BYPASSRLS REPLICATION IN ROLE ${PRIVILEGED_ROLE}`;

export interface CatalogState {
  /** Name → secret as pg_authid stores it. */
  readonly roles: ReadonlyMap<string, string | null>;
  /** Name → owner. */
  readonly databases: ReadonlyMap<string, string>;
  /** The user that we are connected as: exists already and keeps its rights. */
  readonly superuser: string;
}

export interface Statement {
  /** Where to run it. */
  readonly database: string;
  readonly sql: string;
}

const HOME = 'postgres';

export function planCatalog(spec: ComputeSpec, state: CatalogState): Statement[] {
  if (spec.skipCatalogUpdates) return [];
  const roles = new Map(state.roles);
  const databases = new Map(state.databases);
  const plan: Statement[] = [];
  const run = (sql: string, database = HOME): void => void plan.push({ database, sql });

  if (!roles.has(PRIVILEGED_ROLE) && spec.roles.some((role) => role.name !== state.superuser)) {
    run(
      `CREATE ROLE ${PRIVILEGED_ROLE} CREATEDB CREATEROLE NOLOGIN REPLICATION BYPASSRLS IN ROLE pg_read_all_data, pg_write_all_data`,
    );
  }
  planRenames(spec, roles, databases, run);
  for (const role of spec.roles) planRole(role, roles, state.superuser, run);
  for (const delta of spec.deltaOperations) {
    if (delta.action !== 'delete_db' || !databases.delete(delta.name)) continue;
    run(`ALTER DATABASE ${quoteIdentifier(delta.name)} IS_TEMPLATE false`);
    run(`DROP DATABASE IF EXISTS ${quoteIdentifier(delta.name)} WITH (FORCE)`);
  }
  for (const database of spec.databases) planDatabase(database, databases, run);
  for (const delta of spec.deltaOperations) {
    if (delta.action === 'delete_role' && roles.has(delta.name))
      planRoleRemoval(delta.name, databases, state.superuser, run);
  }
  return plan;
}

type Run = (sql: string, database?: string) => void;

function planRenames(
  spec: ComputeSpec,
  roles: Map<string, string | null>,
  databases: Map<string, string>,
  run: Run,
): void {
  for (const delta of spec.deltaOperations) {
    if (delta.action === 'rename_role' && roles.has(delta.name) && !roles.has(delta.newName)) {
      run(`ALTER ROLE ${quoteIdentifier(delta.name)} RENAME TO ${quoteIdentifier(delta.newName)}`);
      const secret = roles.get(delta.name) ?? null;
      roles.delete(delta.name);
      // An MD5 secret is salted with the name: the server drops it.
      roles.set(delta.newName, secret?.startsWith('md5') === true ? null : secret);
      for (const [name, owner] of databases) if (owner === delta.name) databases.set(name, delta.newName);
    } else if (delta.action === 'rename_db' && databases.has(delta.name) && !databases.has(delta.newName)) {
      run(`ALTER DATABASE ${quoteIdentifier(delta.name)} RENAME TO ${quoteIdentifier(delta.newName)}`);
      databases.set(delta.newName, databases.get(delta.name) ?? '');
      databases.delete(delta.name);
    }
  }
}

function planRole(role: SpecRole, roles: Map<string, string | null>, superuser: string, run: Run): void {
  const password = role.password === null ? '' : ` PASSWORD ${quoteLiteral(role.password)}`;
  if (!roles.has(role.name)) {
    run(`CREATE ROLE ${quoteIdentifier(role.name)} ${NEW_ROLE_RIGHTS}${optionsText(role.options)} LOGIN${password}`);
  } else if (role.password !== null && roles.get(role.name) !== role.password) {
    const options = role.name === superuser ? '' : optionsText(role.options);
    run(`ALTER ROLE ${quoteIdentifier(role.name)}${options}${password}`);
  }
  roles.set(role.name, role.password);
}

function planDatabase(database: SpecDatabase, databases: Map<string, string>, run: Run): void {
  const name = quoteIdentifier(database.name);
  const owner = quoteIdentifier(database.owner);
  const current = databases.get(database.name);
  if (current === undefined) {
    run(`CREATE DATABASE ${name} OWNER ${owner}${optionsText(database.options)}`);
    run(`GRANT ALL PRIVILEGES ON DATABASE ${name} TO ${owner}`);
  } else if (current !== database.owner) {
    run(`ALTER DATABASE ${name} OWNER TO ${owner}`);
  }
  databases.set(database.name, database.owner);
}

/** What the role owns goes to the owner of the database it lies in. */
function planRoleRemoval(name: string, databases: ReadonlyMap<string, string>, superuser: string, run: Run): void {
  const role = quoteIdentifier(name);
  for (const [database, owner] of databases) {
    const heir = owner === name ? superuser : owner;
    run(`REASSIGN OWNED BY ${role} TO ${quoteIdentifier(heir)}`, database);
    run(`DROP OWNED BY ${role}`, database);
  }
  run(`DROP ROLE IF EXISTS ${role}`);
}

/** Options are SQL words (CONNECTION LIMIT, ENCODING …); values are numbers, words or texts. */
function optionsText(options: readonly SpecOption[]): string {
  return options.map(optionText).join('');
}

function optionText({ name, value }: SpecOption): string {
  if (!/^[A-Za-z_]+( [A-Za-z_]+)*$/.test(name))
    throw new StorageError('invalid', `"${name}" is no option of a role or database`);
  if (value === null || value === '') return ` ${name}`;
  return ` ${name} ${/^-?\d+$/.test(value) || /^(true|false)$/.test(value) ? value : quoteLiteral(value)}`;
}
