/** The file memory.stat of a control group: lines of a name and a number. Version 1 has the same names. */
import { StorageError } from '#shared/core/errors.js';

/** Bytes of anonymous memory, which the kernel can only swap. Of a group and, in version 1 too, of those below it. */
export function reclaimableNot(text: string): number {
  const values = new Map(text.split('\n').map((line) => line.split(' ') as [string, string]));
  // Version 1 counts those below in lines of their own.
  const prefix = values.has('total_active_anon') ? 'total_' : '';
  return ['active_anon', 'inactive_anon'].reduce((sum, name) => {
    const bytes = Number(values.get(prefix + name));
    if (!Number.isSafeInteger(bytes)) throw new StorageError('corrupt', `memory.stat has no ${name}`);
    return sum + bytes;
  }, 0);
}
