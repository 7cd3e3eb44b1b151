/** The file memory.stat of a control group: lines of a name and a number. Version 1 has the same names. */
import { StorageError } from './errors.js';

/** Bytes of file caches, which can be dropped. */
export function reclaimable(text: string): number {
  return sum(text, ['active_file', 'inactive_file']);
}

/** Bytes of anonymous memory, which the kernel can only swap. Of a group and, in version 1 too, of those below it. */
export function reclaimableNot(text: string): number {
  return sum(text, ['active_anon', 'inactive_anon']);
}

function sum(text: string, names: readonly string[]): number {
  const values = new Map(text.split('\n').map((line) => line.split(' ') as [string, string]));
  // Version 1 counts those below in lines of their own.
  const prefix = values.has('total_active_anon') ? 'total_' : '';
  return names.reduce((total, name) => {
    const bytes = Number(values.get(prefix + name));
    if (!Number.isSafeInteger(bytes)) throw new StorageError('corrupt', `memory.stat has no ${name}`);
    return total + bytes;
  }, 0);
}
