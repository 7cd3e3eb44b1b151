/** Control files as JSON, for --dump-control-file. Reads only; the safekeeper may be running. */
import path from 'node:path';
import { errorText } from '#shared/core/errors.js';
import { formatLsn, type Lsn } from '#shared/core/lsn.js';
import type { ControlState } from '../core/acceptor-types.js';
import { readControlFile } from './control-store.js';
import { realDisk } from './disk.js';

export async function dumpControlFiles(dataDir: string): Promise<object[]> {
  const disk = realDisk({ sync: false });
  const out: object[] = [];
  for (const tenant of (await disk.list(dataDir)).filter(isId).sort()) {
    for (const timeline of (await disk.list(path.join(dataDir, tenant))).filter(isId).sort()) {
      const dir = path.join(dataDir, tenant, timeline);
      out.push(
        await readControlFile(disk, dir).then(controlJson, (error: unknown) => ({ dir, error: errorText(error) })),
      );
    }
  }
  return out;
}

export function controlJson(control: ControlState): object {
  const { history, systemId, createdAtMs, partials, ...rest } = control;
  const positions = Object.entries(rest).map(([key, value]) => [
    key,
    key.endsWith('Lsn') ? formatLsn(value as Lsn) : value,
  ]);
  return {
    ...(Object.fromEntries(positions) as object),
    history: history.map((entry) => ({ term: entry.term, lsn: formatLsn(entry.lsn) })),
    partials: partials.map(({ flushLsn, commitLsn, ...one }) => ({
      ...one,
      flushLsn: formatLsn(flushLsn),
      commitLsn: formatLsn(commitLsn),
    })),
    systemId: systemId.toString(),
    createdAt: new Date(createdAtMs).toISOString(),
  };
}

function isId(name: string): boolean {
  return /^[0-9a-f]{32}$/.test(name);
}
