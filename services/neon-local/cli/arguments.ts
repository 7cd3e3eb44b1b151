/** Options that several commands share. */
import type { Command } from 'commander';
import { StorageError } from '#shared/core/errors.js';
import { lsnToWire, parseLsn } from '#shared/core/lsn.js';
import type { CuRange } from '../core/autoscaling.js';
import { parseTimeMs } from '../core/time-text.js';

/** Names in natural form: `neon pg start main`, or `neon pg start -n main`. */
export function wantName(kind: string, positional: string | undefined, option: string | undefined): string {
  if (positional !== undefined && option !== undefined && positional !== option) {
    throw new StorageError('invalid', `two names are given, "${positional}" and "${option}"; give one`);
  }
  const name = positional ?? option;
  if (name === undefined) throw new StorageError('invalid', `which ${kind}? name it, such as: main`);
  return name;
}

export interface PointOptions {
  readonly lsn?: string;
  readonly time?: string;
  readonly snapshot?: string;
}

/** --lsn, --time, --snapshot. */
export function addPointOptions(command: Command, absent: string): Command {
  return command
    .option('--lsn <lsn>', `position in WAL, such as 0/1A2B3C8${absent}`)
    .option('--time <time>', 'last commit at or before: "2026-11-29 03:15:00" (UTC), or "5m ago"')
    .option('--snapshot <name>', 'a snapshot');
}

export function pointOf(given: PointOptions): { lsn: bigint; timeMs: bigint; snapshot: string } {
  return {
    lsn: given.lsn === undefined ? 0n : lsnToWire(parseLsn(given.lsn)),
    timeMs: given.time === undefined ? 0n : BigInt(Math.round(parseTimeMs(given.time, Date.now()))),
    snapshot: given.snapshot ?? '',
  };
}

export function addTenantOption(command: Command): Command {
  return command.option('--tenant-id <id>', 'tenant; default: the default tenant');
}

export const SIZE_HELP =
  'size in compute units (1 CU = 1 vCPU, 4 GiB), or bounds between which it is scaled, such as 0.25-2';

/** The bounds of a compute's size in a request; undefined: none. */
export function sizeMessage(size: CuRange | undefined) {
  return { autoscalingLimitMinCu: size?.min ?? 0, autoscalingLimitMaxCu: size?.max ?? 0 };
}

/** A whole number in bounds. Throws StorageError `invalid`. */
export function integerIn(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < min || value > max) {
      throw new StorageError('invalid', `"${text}" must be a whole number from ${min} to ${max}`);
    }
    return value;
  };
}

export const portNumber = integerIn(0, 65_535);
