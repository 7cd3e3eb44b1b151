/**
 * A snapshot in another storage, complete in itself:
 *
 *   neon-image/chunks/<aa>/<sha256>            zstd of a piece of the archive; named by the hash of what was compressed
 *   neon-image/snapshots/<name>.json           the manifest: which chunks in which order; written last
 *
 * The archive is the tar of a whole data directory of plain PostgreSQL. Pure.
 */
import { z } from 'zod';

export const IMAGE_VERSION = 1;
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

export const manifestSchema = z.object({
  version: z.literal(IMAGE_VERSION),
  name: z.string(),
  branchName: z.string(),
  createdAtMs: z.number(),
  lsn: z.string(),
  pgMajorVersion: z.number().int(),
  relationBytes: z.number().int().nonnegative(),
  totalBytes: z.number().int().positive(),
  chunks: z.array(z.tuple([sha256, z.number().int().positive()])).min(1),
  /** The entry of pg_control, which goes first into a new timeline, and where it stands in the archive. */
  control: z.object({ offset: z.number().int().nonnegative(), base64: z.string() }),
});
export type ImageManifest = z.infer<typeof manifestSchema>;

const ROOT = 'neon-image';
export const CHUNK_PREFIX = `${ROOT}/chunks/`;
export const MANIFEST_PREFIX = `${ROOT}/snapshots/`;

export function chunkKey(hash: string): string {
  return `${CHUNK_PREFIX}${hash.slice(0, 2)}/${hash}`;
}

export function manifestKey(snapshotName: string): string {
  return `${MANIFEST_PREFIX}${snapshotName}.json`;
}
