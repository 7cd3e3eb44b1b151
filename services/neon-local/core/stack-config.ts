/**
 * config.json of a stack: what `neon init` fixed. It carries a version; older ones are upgraded when they are read. Pure.
 *
 *   1  safekeeperCount, remoteStorage, initdbImage, freePorts
 *   2  ports, suspendAfterS, tls
 *   3  advertise
 */
import { parseAddr } from '#shared/core/addr.js';
import { StorageError } from '#shared/core/errors.js';
import { z } from 'zod';

export const CONFIG_VERSION = 3;
export const SAFEKEEPER_COUNT_MAX = 9;
/** Long enough not to be noticed between two commands of a person, short enough that a forgotten branch costs nothing. */
export const SUSPEND_AFTER_S = 300;

const port = z.number().int().min(0).max(65535).default(0);

export const stackConfigSchema = z.object({
  version: z.literal(CONFIG_VERSION),
  safekeeperCount: z.number().int().min(1).max(SAFEKEEPER_COUNT_MAX),
  /** URL of the default storage. */
  remoteStorage: z.string(),
  initdbImage: z.string(),
  /** Any free ports instead of the well-known ones. */
  freePorts: z.boolean().default(false),
  /** Fixed by the user; 0 = the well-known port or, when that is taken, a free one. */
  ports: z.object({ rest: port, grpc: port, connect: port }).prefault({}),
  /** Computes that the connect port started are suspended after this time without activity, seconds; 0 = never. */
  suspendAfterS: z.number().nonnegative().default(SUSPEND_AFTER_S),
  /** Files of the connect port's certificate; null = the one made in the stack's directory. */
  tls: z.object({ certPath: z.string(), keyPath: z.string() }).nullable().default(null),
  /** Where others reach an endpoint, when that is not where it listens: "safekeeper-1.grpc" → host:port. */
  advertise: z.record(z.string(), z.string()).default({}),
});
export type StackConfig = z.infer<typeof stackConfigSchema>;

/** Reads any version. Throws on damage, and StorageError `precondition` for a version of the future. */
export function readStackConfig(value: unknown): StackConfig {
  const { version } = z.looseObject({ version: z.number().int() }).parse(value);
  if (version > CONFIG_VERSION) {
    throw new StorageError(
      'precondition',
      `config.json has version ${version}, and this program knows up to ${CONFIG_VERSION}; use the newer program`,
    );
  }
  return stackConfigSchema.parse({ ...(value as object), version: CONFIG_VERSION });
}

const ADVERTISED = /^((?:storage-broker|safekeeper-\d+|pageserver(?:-[^.=]+)?)\.(?:grpc|pg))=(.+)$/;

/** From texts such as "safekeeper-1.grpc=db.example.com:5454". Throws StorageError `invalid`. */
export function parseAdvertised(texts: readonly string[]): StackConfig['advertise'] {
  const entries = texts.map((text) => {
    const [, endpoint, addr] = ADVERTISED.exec(text) ?? [];
    if (endpoint === undefined || addr === undefined) {
      throw new StorageError(
        'invalid',
        `"${text}" must be like safekeeper-1.grpc=host:port or pageserver.pg=host:port`,
      );
    }
    parseAddr(addr);
    return [endpoint, addr] as const;
  });
  return Object.fromEntries(entries);
}
