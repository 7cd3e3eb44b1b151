/** What the CLI prints: tables for people, JSON for programs. Results go to stdout, everything else to stderr. */
import Table from 'cli-table3';

const PLAIN = {
  ...{ top: '', 'top-mid': '', 'top-left': '', 'top-right': '', bottom: '', 'bottom-mid': '', 'bottom-left': '' },
  ...{ 'bottom-right': '', left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '  ' },
};

export interface OutputOptions {
  readonly json?: boolean;
  readonly quiet?: boolean;
}

let isQuiet = false;
/** `--quiet`: nothing is said to people. */
export function setQuiet(quiet: boolean): void {
  isQuiet = quiet;
}

function hasColour(): boolean {
  return process.stdout.isTTY && (process.env['NO_COLOR'] ?? '') === '' && process.env['TERM'] !== 'dumb';
}

const COLOURS = { red: 31, green: 32, yellow: 33, grey: 90 } as const;

export function coloured(text: string, colour: keyof typeof COLOURS): string {
  return hasColour() ? `\x1b[${COLOURS[colour]}m${text}\x1b[39m` : text;
}

/** State of a process, in the colour that says whether to worry. */
export function stateText(state: string): string {
  if (state === 'running') return coloured(state, 'green');
  if (state === 'failed') return coloured(state, 'red');
  return coloured(state, state === 'stopped' ? 'grey' : 'yellow');
}

export function printTable(head: readonly string[], rows: ReadonlyArray<readonly string[]>): void {
  const style = { 'padding-left': 0, 'padding-right': 0, head: hasColour() ? ['bold'] : [], border: [] };
  const table = new Table({ head: [...head], chars: PLAIN, style });
  table.push(...rows.map((row) => [...row]));
  const text = table.toString().replace(/[ \t]+$/gm, '');
  process.stdout.write(`${text}\n`);
}

/** "name: value" lines, for one thing. */
export function printFields(fields: ReadonlyArray<readonly [name: string, value: string]>): void {
  const width = Math.max(...fields.map(([name]) => name.length)) + 2;
  for (const [name, value] of fields) process.stdout.write(`${`${name}:`.padEnd(width)}${value}\n`);
}

/** bigint as number where it is exact, else as text. */
function jsonValue(_key: string, value: unknown): unknown {
  if (typeof value !== 'bigint') return value;
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value.toString();
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, jsonValue, 2)}\n`);
}

export function printLine(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** A list: JSON, names only, or a table. */
export function printList<T extends { readonly name: string }>(
  options: OutputOptions,
  items: readonly T[],
  table: (items: readonly T[]) => void,
): void {
  if (options.json) printJson(items);
  else if (options.quiet) for (const item of items) printLine(item.name);
  else table(items);
}

/** For people; not on stdout. */
export function say(text: string): void {
  if (!isQuiet) process.stderr.write(`${text}\n`);
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

export function formatBytes(bytes: number | bigint): string {
  let value = Number(bytes);
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

/** "2026-11-29 03:15:00", UTC; a dash when not known. */
export function formatTime(timeMs: number | bigint): string {
  if (Number(timeMs) === 0) return '-';
  return new Date(Number(timeMs)).toISOString().slice(0, 19).replace('T', ' ');
}

export function formatDuration(seconds: number): string {
  for (const [unit, size] of [
    ['d', 86_400],
    ['h', 3600],
    ['min', 60],
  ] as const) {
    if (seconds >= size && seconds % size === 0) return `${seconds / size} ${unit}`;
  }
  return `${seconds} s`;
}
