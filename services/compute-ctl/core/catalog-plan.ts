/**
 * What must be done to a database so that its roles and databases are what the spec says. Compares first: a start with nothing to change
 * issues no statement. Roles and databases that the spec does not name stay as they are.
 */
import { StorageError } from '#shared/core/errors.js';
import { databaseOptionDiffers, PLAIN_ROLE, roleOptionDiffers } from './catalog-state.js';
import type { CatalogState, DatabaseState, RoleState } from './catalog-state.js';
import type { ComputeSpec, SpecDatabase, SpecExtension, SpecOption, SpecRole } from './spec.js';
import { quoteIdentifier, quoteLiteral } from './sql.js';

/** Group of the roles that the spec brings: may do what an ordinary superuser needs from day to day. */
export const PRIVILEGED_ROLE = 'neon_superuser';
const NEW_ROLE_RIGHTS = `INHERIT CREATEROLE CREATEDB BYPASSRLS REPLICATION IN ROLE ${PRIVILEGED_ROLE}`;

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
    roles.set(PRIVILEGED_ROLE, PLAIN_ROLE);
  }
  for (const { name } of spec.databases) {
    if (databases.get(name)?.invalid !== true) continue;
    run(`DROP DATABASE IF EXISTS ${quoteIdentifier(name)}`);
    databases.delete(name);
  }
  planRenames(spec, roles, databases, run);
  for (const role of spec.roles) planRole(role, roles, state.superuser, run);
  for (const delta of spec.deltaOperations) {
    if (delta.action !== 'delete_db' || !databases.delete(delta.name)) continue;
    run(`ALTER DATABASE ${quoteIdentifier(delta.name)} IS_TEMPLATE false`);
    run(`DROP DATABASE IF EXISTS ${quoteIdentifier(delta.name)} WITH (FORCE)`);
  }
  const isPrivilegedThere = roles.has(PRIVILEGED_ROLE);
  for (const database of spec.databases) planDatabase(database, databases, isPrivilegedThere, run);
  for (const delta of spec.deltaOperations) {
    if (delta.action === 'delete_role' && roles.has(delta.name))
      planRoleRemoval(delta.name, databases, state.superuser, run);
  }
  return plan;
}

type Run = (sql: string, database?: string) => void;

function planRenames(
  spec: ComputeSpec,
  roles: Map<string, RoleState>,
  databases: Map<string, DatabaseState>,
  run: Run,
): void {
  for (const delta of spec.deltaOperations) {
    if (delta.action === 'rename_role') {
      const state = roles.get(delta.name);
      if (state === undefined || roles.has(delta.newName)) continue;
      run(`ALTER ROLE ${quoteIdentifier(delta.name)} RENAME TO ${quoteIdentifier(delta.newName)}`);
      roles.delete(delta.name);
      // An MD5 secret is salted with the name: the server drops it.
      const password = state.password?.startsWith('md5') === true ? null : state.password;
      roles.set(delta.newName, { ...state, password });
      for (const [name, database] of databases) {
        if (database.owner === delta.name) databases.set(name, { ...database, owner: delta.newName });
      }
    } else if (delta.action === 'rename_db') {
      const state = databases.get(delta.name);
      if (state === undefined || databases.has(delta.newName)) continue;
      run(`ALTER DATABASE ${quoteIdentifier(delta.name)} RENAME TO ${quoteIdentifier(delta.newName)}`);
      databases.set(delta.newName, state);
      databases.delete(delta.name);
    }
  }
}

function planRole(role: SpecRole, roles: Map<string, RoleState>, superuser: string, run: Run): void {
  const password = role.password === null ? '' : ` PASSWORD ${quoteLiteral(role.password)}`;
  const name = quoteIdentifier(role.name);
  const state = roles.get(role.name);
  if (state === undefined) {
    // Later words win nothing here: the server refuses a right that is named twice.
    const rights = withoutContradicted(NEW_ROLE_RIGHTS, role.options);
    const login = role.options.some((option) => /^(NO)?LOGIN$/i.test(option.name)) ? '' : ' LOGIN';
    run(`CREATE ROLE ${name} ${rights}${optionsText(role.options)}${login}${password}`);
  } else {
    const options = role.name === superuser ? [] : role.options.filter((option) => roleOptionDiffers(option, state));
    const isNewSecret = role.password !== null && state.password !== role.password;
    if (options.length > 0 || isNewSecret)
      run(`ALTER ROLE ${name}${optionsText(options)}${isNewSecret ? password : ''}`);
  }
  roles.set(role.name, state ?? PLAIN_ROLE);
}

function withoutContradicted(rights: string, options: readonly SpecOption[]): string {
  const named = new Set(options.map((option) => option.name.toUpperCase().replace(/^NO(?=[A-Z])/, '')));
  const [words = '', group = ''] = rights.split(/(?= IN ROLE )/);
  const kept = words.split(' ').filter((word) => !named.has(word));
  return (kept.join(' ') + (named.has('IN ROLE') ? '' : group)).trim();
}

function planDatabase(
  database: SpecDatabase,
  databases: Map<string, DatabaseState>,
  isPrivilegedThere: boolean,
  run: Run,
): void {
  const name = quoteIdentifier(database.name);
  const owner = quoteIdentifier(database.owner);
  const state = databases.get(database.name);
  if (state === undefined) {
    run(`CREATE DATABASE ${name} OWNER ${owner}${optionsText(database.options)}`);
    if (isPrivilegedThere) run(`GRANT ALL PRIVILEGES ON DATABASE ${name} TO ${PRIVILEGED_ROLE}`);
    databases.set(database.name, { ...NEW_DATABASE, owner: database.owner });
    return;
  }
  if (state.owner !== database.owner) run(`ALTER DATABASE ${name} OWNER TO ${owner}`);
  const options = database.options.filter((option) => databaseOptionDiffers(option, state));
  if (options.length > 0) run(`ALTER DATABASE ${name} WITH${optionsText(options)}`);
  databases.set(database.name, { ...state, owner: database.owner });
}

const NEW_DATABASE: DatabaseState = {
  owner: '',
  connectionLimit: -1,
  allowConnections: true,
  isTemplate: false,
  invalid: false,
};

/** `installed`: name → version in the database that the extensions belong to. */
export function planExtensions(wanted: readonly SpecExtension[], installed: ReadonlyMap<string, string>): string[] {
  return wanted.flatMap(({ name, version, schema }) => {
    const found = installed.get(name);
    if (found === undefined) return [createExtension({ name, version, schema })];
    if (version === null || version === found) return [];
    return [`ALTER EXTENSION ${quoteIdentifier(name)} UPDATE TO ${quoteLiteral(version)}`];
  });
}

function createExtension({ name, version, schema }: Omit<SpecExtension, 'database'>): string {
  const into = schema === null ? '' : ` SCHEMA ${quoteIdentifier(schema)}`;
  const at = version === null ? '' : ` VERSION ${quoteLiteral(version)}`;
  return `CREATE EXTENSION IF NOT EXISTS ${quoteIdentifier(name)}${into}${at} CASCADE`;
}

/** Those of the spec, and what preloaded libraries need in the home database to be of use. */
export function wantedExtensions(spec: ComputeSpec): SpecExtension[] {
  const preloaded = (spec.settings.get('shared_preload_libraries') ?? '').split(',').map((name) => name.trim());
  const statements = { name: 'pg_stat_statements', database: HOME, version: null, schema: null };
  const isNamed = spec.extensions.some(({ name, database }) => name === statements.name && database === HOME);
  return preloaded.includes(statements.name) && !isNamed ? [...spec.extensions, statements] : [...spec.extensions];
}

/** What the role owns goes to the owner of the database it lies in. */
function planRoleRemoval(
  name: string,
  databases: ReadonlyMap<string, DatabaseState>,
  superuser: string,
  run: Run,
): void {
  const role = quoteIdentifier(name);
  for (const [database, { owner, allowConnections, invalid }] of databases) {
    if (invalid || !allowConnections) continue;
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
