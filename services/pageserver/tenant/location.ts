/**
 * What this page server is to a tenant, remembered over restarts in its working directory:
 *   <workdir>/tenants/<tenant>/location.json   { "version": 1, "mode": …, "generation": … }
 * The file may be lost at any time: then the newest claim says whose the tenant is (restart rules: tenant-manager.ts).
 */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { StorageError } from '#shared/core/errors.js';
import type { TenantId } from '#shared/core/ids.js';
import { ensureDir, removeDurable, writeFileDurable } from '#shared/io/files.js';

const VERSION = 1;

/**
 * attached-single: the only attachment. attached-multi: another one is about; nothing is deleted. attached-stale: another one has taken
 * over; reads go on, nothing is written. secondary: layers are kept at hand on the local disk. detached: nothing.
 */
export const LOCATION_MODES = ['attached-single', 'attached-multi', 'attached-stale', 'secondary', 'detached'] as const;
export type LocationMode = (typeof LOCATION_MODES)[number];

export interface Location {
  readonly mode: LocationMode;
  /** Of the attachment; 0 for secondary and detached, or when the next one is wanted. */
  readonly generation: number;
}

const schema = z.object({
  version: z.literal(VERSION),
  mode: z.enum(LOCATION_MODES),
  generation: z.number().int().min(0).max(0xffff_ffff),
});

function locationPath(workDir: string, tenantId: TenantId): string {
  return join(workDir, 'tenants', tenantId, 'location.json');
}

/** Null when none is known. Throws StorageError `corrupt`. */
export async function readLocation(workDir: string, tenantId: TenantId): Promise<Location | null> {
  const path = locationPath(workDir, tenantId);
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (text === null) return null;
  try {
    const { mode, generation } = schema.parse(JSON.parse(text));
    return { mode, generation };
  } catch (cause) {
    throw new StorageError('corrupt', `${path} cannot be used`, { cause });
  }
}

export async function writeLocation(workDir: string, tenantId: TenantId, location: Location): Promise<void> {
  const path = locationPath(workDir, tenantId);
  await ensureDir(dirname(path));
  await writeFileDurable(path, Buffer.from(`${JSON.stringify({ version: VERSION, ...location })}\n`));
}

/** With everything that is kept locally of the tenant. */
export async function removeTenantDir(workDir: string, tenantId: TenantId): Promise<void> {
  await removeDurable(dirname(locationPath(workDir, tenantId)));
}

/** "AttachedSingle", "attached_single" and the like. Throws StorageError `invalid`. */
export function parseLocationMode(text: string): LocationMode {
  const wanted = text.toLowerCase().replace(/[^a-z]/g, '');
  const found = LOCATION_MODES.find((mode) => mode.replaceAll('-', '') === wanted);
  if (found !== undefined) return found;
  const names = LOCATION_MODES.join(', ');
  throw new StorageError('invalid', `"${text}" is no location mode; there are ${names}`);
}
