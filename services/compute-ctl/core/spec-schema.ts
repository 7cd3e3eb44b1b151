/**
 * The shape of a compute spec, JSON. Fields that a later version may add are ignored; those that are known must be right, also where this
 * compute makes no use of them. Checks that look at one field stand here; those that look at several, in spec.ts.
 */
import { z } from 'zod';
import { parseAddr } from '#shared/core/addr.js';
import { errorText } from '#shared/core/errors.js';
import { parseConnstr, splitConnstrings } from './connstr.js';

/** Bytes of a name, as the server counts. */
const NAME_BYTES_MAX = 63;
const SAFEKEEPER_PORT = 5454;

/** Refused with the message of what `check` throws. */
function checked(check: (text: string) => unknown) {
  return z.string().superRefine((text, context) => {
    try {
      check(text);
    } catch (error) {
      context.addIssue({ code: 'custom', message: errorText(error) });
    }
  });
}

const text = z
  .string()
  .refine((value) => !value.includes('\0') && value.isWellFormed(), 'is no text that Postgres can hold');
const hexId = z.string().regex(/^[0-9a-fA-F]{32}$/, 'must be 32 hexadecimal digits');
const count = z.number().int().min(0);
const objectName = text.refine(
  (name) => name !== '' && Buffer.byteLength(name) <= NAME_BYTES_MAX,
  `a name has 1 to ${NAME_BYTES_MAX} bytes`,
);
const roleName = objectName.refine(
  (name) => !/^pg_/.test(name) && name !== 'public' && name !== 'none',
  'this name is reserved by Postgres',
);

/** Words as in CONNECTION LIMIT. */
const optionName = z.string().regex(/^[A-Za-z_]+( [A-Za-z_]+)*$/, 'is no option of a role or database');
const scalar = z.union([text, z.number(), z.boolean()]).transform(String);
const VARTYPES = ['bool', 'integer', 'real', 'enum', 'string'] as const;
const optionSchema = z.object({ name: optionName, value: scalar.nullish(), vartype: z.string().nullish() });

const FORM: Partial<Record<(typeof VARTYPES)[number], RegExp>> = {
  bool: /^(on|off|true|false|yes|no|1|0)$/i,
  integer: /^\s*[-+]?(\d+(\.\d*)?|0[xX][0-9a-fA-F]+)\s*[A-Za-z]*\s*$/,
  real: /^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*[A-Za-z]*\s*$/,
};
const settingSchema = z
  .object({
    name: z.string().regex(/^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*$/, 'no setting can have this name'),
    value: scalar.nullish(),
    vartype: z.enum(VARTYPES).nullish(),
  })
  .refine(({ value, vartype }) => FORM[vartype ?? 'string']?.test(value ?? '') ?? true, {
    path: ['value'],
    error: ({ input }) => `is no ${(input as { vartype?: string }).vartype ?? 'value'}`,
  });

const roleSchema = z.object({
  name: roleName,
  encrypted_password: text
    .refine(
      (secret) => /^(md5)?[0-9a-fA-F]{32}$/.test(secret) || SCRAM.test(secret),
      'is neither an MD5 nor a SCRAM-SHA-256 secret',
    )
    .nullish(),
  options: z.array(optionSchema).nullish(),
});
/** As pg_authid stores it: SCRAM-SHA-256$iterations:salt$stored key:server key */
const SCRAM = /^SCRAM-SHA-256\$\d+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+$/;

const databaseSchema = z.object({
  name: objectName,
  owner: objectName,
  options: z.array(optionSchema).nullish(),
  restrict_conn: z.boolean().nullish(),
  invalid: z.boolean().nullish(),
});

const deltaSchema = z
  .object({
    action: z.enum(['delete_db', 'rename_db', 'delete_role', 'rename_role']),
    name: objectName,
    new_name: objectName.nullish(),
  })
  .refine(({ action, new_name: to }) => !action.startsWith('rename') || (to !== undefined && to !== null), {
    path: ['new_name'],
    message: 'is missing',
  });

export const extensionSchema = z.object({
  name: objectName,
  database: objectName.default('postgres'),
  version: text.nullish(),
  schema: objectName.nullish(),
});

const grpcUrl = checked((url) => parseAddr(url.replace(/^(grpc|http):\/\//, '').replace(/\/$/, '')));
const libpqUrl = checked(parseConnstr);
/** Several for a tenant with shards. */
const libpqUrls = checked((list) => splitConnstrings(list).map(parseConnstr));
const shardSchema = z.object({
  pageservers: z
    .array(z.object({ id: count.nullish(), libpq_url: libpqUrl.nullish(), grpc_url: grpcUrl.nullish() }))
    .min(1),
});
const connectionInfoSchema = z.object({
  shard_count: count.nullish(),
  stripe_size: count.nullish(),
  shards: z.record(z.string(), shardSchema).refine((shards) => Object.keys(shards).length > 0, 'has no shard'),
  prefer_protocol: z.enum(['libpq', 'grpc']).nullish(),
});

/** "host", "host:port" or "[v6]:port"; a safekeeper without a port listens on 5454. Throws StorageError `invalid`. */
export function safekeeperAddr(given: string): string {
  const bare = given.trim();
  const addr = /^(\[[^\]]*\]|[^:[\]]+)$/.test(bare) ? `${bare}:${SAFEKEEPER_PORT}` : bare;
  parseAddr(addr);
  return addr;
}

/** "g#7:host:port,host" or without the generation; entries may carry spaces and end with a comma. */
export function readSafekeepers(list: string): { addrs: string[]; generation: number } {
  const match = /^\s*g#(\d+):(.*)$/s.exec(list);
  const parts = (match?.[2] ?? list).split(',').filter((part) => part.trim() !== '');
  return { addrs: parts.map(safekeeperAddr), generation: Number(match?.[1] ?? 0) };
}

const modeSchema = z.union([
  z.enum(['Primary', 'Replica']),
  z.object({ Static: z.string().regex(/^[0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8}$/, 'is no LSN') }),
]);

export const specSchema = z.object({
  format_version: z.number().min(1).lt(2, 'only versions 1.x are understood').nullish(),
  operation_uuid: z.string().nullish(),
  features: z.array(z.string()).nullish(),
  swap_size_bytes: count.nullish(),
  disk_quota_bytes: count.nullish(),
  disable_lfc_resizing: z.boolean().nullish(),
  cluster: z
    .object({
      cluster_id: text.nullish(),
      name: text.nullish(),
      state: text.nullish(),
      roles: z.array(roleSchema).nullish(),
      databases: z.array(databaseSchema).nullish(),
      postgresql_conf: text.nullish(),
      settings: z.array(settingSchema).nullish(),
    })
    .nullish(),
  delta_operations: z.array(deltaSchema).nullish(),
  extensions: z
    .array(z.union([extensionSchema, objectName.transform((name) => extensionSchema.parse({ name }))]))
    .nullish(),
  skip_pg_catalog_updates: z.boolean().nullish(),
  tenant_id: hexId.nullish(),
  timeline_id: hexId.nullish(),
  project_id: text.nullish(),
  branch_id: text.nullish(),
  endpoint_id: text.nullish(),
  pageserver_connstring: libpqUrls.nullish(),
  pageserver_connection_info: connectionInfoSchema.nullish(),
  shard_stripe_size: count.nullish(),
  safekeeper_connstrings: z.array(checked(safekeeperAddr)).nullish(),
  safekeepers_generation: count.nullish(),
  mode: modeSchema.nullish(),
  storage_auth_token: z.string().nullish(),
  remote_extensions: z.record(z.string(), z.unknown()).nullish(),
  pgbouncer_settings: z.record(z.string(), z.string()).nullish(),
  reconfigure_concurrency: count.nullish(),
  drop_subscriptions_before_start: z.boolean().nullish(),
  suspend_timeout_seconds: z.number().int().nullish(),
});
export type RawSpec = z.infer<typeof specSchema>;
