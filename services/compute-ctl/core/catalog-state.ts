/** Roles and databases as a server has them, and whether an option of the spec says something else. */
import type { SpecOption } from './spec.js';

export interface RoleState {
  /** As pg_authid stores it. */
  readonly password: string | null;
  readonly superuser: boolean;
  readonly inherit: boolean;
  readonly createRole: boolean;
  readonly createDb: boolean;
  readonly login: boolean;
  readonly replication: boolean;
  readonly bypassRls: boolean;
  readonly connectionLimit: number;
  /** Milliseconds since 1970, Infinity, or null: without end. */
  readonly validUntilMs: number | null;
}

export interface DatabaseState {
  readonly owner: string;
  readonly connectionLimit: number;
  readonly allowConnections: boolean;
  readonly isTemplate: boolean;
  /** A DROP DATABASE was cut off: nobody can connect, and only another DROP is possible. */
  readonly invalid: boolean;
}

export interface CatalogState {
  readonly roles: ReadonlyMap<string, RoleState>;
  readonly databases: ReadonlyMap<string, DatabaseState>;
  /** The user that we are connected as: exists already and keeps its rights. */
  readonly superuser: string;
}

/** What a role has that CREATE ROLE was told nothing. */
export const PLAIN_ROLE: RoleState = {
  password: null,
  superuser: false,
  inherit: true,
  createRole: false,
  createDb: false,
  login: false,
  replication: false,
  bypassRls: false,
  connectionLimit: -1,
  validUntilMs: null,
};

const ROLE_FLAGS: Readonly<Record<string, keyof RoleState>> = {
  SUPERUSER: 'superuser',
  INHERIT: 'inherit',
  CREATEROLE: 'createRole',
  CREATEDB: 'createDb',
  LOGIN: 'login',
  REPLICATION: 'replication',
  BYPASSRLS: 'bypassRls',
};

/** Options that only CREATE takes (IN ROLE …) never differ. */
export function roleOptionDiffers({ name, value }: SpecOption, state: RoleState): boolean {
  const word = name.toUpperCase();
  const flag = ROLE_FLAGS[word] ?? ROLE_FLAGS[word.replace(/^NO/, '')];
  if (flag !== undefined) return state[flag] !== word in ROLE_FLAGS;
  if (word === 'CONNECTION LIMIT') return Number(value) !== state.connectionLimit;
  if (word === 'VALID UNTIL') return instantOf(value ?? '') !== (state.validUntilMs ?? Infinity);
  return false;
}

/** Milliseconds since 1970 of a timestamp in ISO form, in UTC when it names no zone; NaN when it is something else. */
function instantOf(text: string): number {
  if (/^\s*infinity\s*$/i.test(text)) return Infinity;
  const iso = text
    .trim()
    .replace(' ', 'T')
    .replace(/([+-]\d\d)$/, '$1:00');
  const whole = /^\d{4}-\d\d-\d\d$/.test(iso) ? `${iso}T00:00:00` : iso;
  return Date.parse(/(Z|[+-]\d\d:?\d\d)$/i.test(whole) ? whole : `${whole}Z`);
}

/** Options of ALTER DATABASE; all others (ENCODING, TEMPLATE …) count only when it is created. */
export function databaseOptionDiffers({ name, value }: SpecOption, state: DatabaseState): boolean {
  const isOn = !/^(false|off|no|0)$/i.test(value ?? 'true');
  switch (name.toUpperCase()) {
    case 'CONNECTION LIMIT':
      return Number(value) !== state.connectionLimit;
    case 'ALLOW_CONNECTIONS':
      return isOn !== state.allowConnections;
    case 'IS_TEMPLATE':
      return isOn !== state.isTemplate;
    default:
      return false;
  }
}
