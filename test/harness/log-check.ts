/**
 * What services may say at level WARN and above while tests run. Anything else in their logs is a failure of the test that made them
 * say it: an ERROR nobody expects is a bug even if all answers were right.
 */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';

interface Allowed {
  readonly message: RegExp;
  readonly why: string;
}

const ALWAYS: readonly Allowed[] = [
  {
    message: /^left out settings that a stock server does not know$/,
    why: 'specs made for a patched server are served too',
  },
  { message: /^running without fsync/, why: 'tests may ask for it' },
];

/** Said by those that survive when a test kills, holds or fences somebody else; at any other time they are failures too. */
const AROUND_FAULTS: readonly Allowed[] = [
  { message: /^process died$/, why: 'it was killed' },
  { message: /^process did not stop in time, killing it$/, why: 'it was held' },
  { message: /^compute did not terminate by request/, why: 'it was killed or held' },
  { message: /^restart failed$/, why: 'a port or a directory was still taken' },
  { message: /^a port was taken by somebody else/, why: 'by the process that was there before' },
  { message: /^lost the storage broker, reconnecting$/, why: 'the broker was killed' },
  { message: /^could not .*, trying again$/, why: 'a peer of compute_ctl was killed' },
  { message: /^some safekeepers did not take the new timeline$/, why: 'one was killed; a quorum took it' },
  { message: /^refused a message$/, why: 'of a proposer with a lower term' },
  { message: /^attaching to the walsender again$/, why: 'Postgres was killed' },
  { message: /^Postgres was stopped before a quorum had all its WAL$/, why: 'there was no quorum, or a newer compute' },
  { message: /^could not keep statistics and slots$/, why: 'no quorum takes them any more' },
  { message: /^compute failed$/, why: 'it was fenced, or its Postgres was killed' },
  { message: /newer (?:compute|term|proposer)|fenced|higher term/, why: 'fencing' },
  { message: /^stopping a Postgres left over in the data directory$/, why: 'its supervisor was killed' },
  { message: /^second request to stop, ending at once$/, why: 'the test was in a hurry' },
  { message: /^shutdown took too long, ending at once$/, why: 'somebody it waits for was killed' },
  { message: /^stopped without a full flush$/, why: 'the object store or a peer was gone' },
];

/** NEON_STRICT_LOGS=1: warnings fail tests without faults, too. Not yet every test's logs have been seen to be free of them. */
const STRICT = process.env['NEON_STRICT_LOGS'] === '1';
const BAD_LEVELS: ReadonlySet<unknown> = new Set(['warn', 'error', 'fatal']);
/** What a service prints that ends by an error it did not catch, and what Postgres says that no statement may cause. */
const NOT_JSON = /^(?:\w*Error\b|Uncaught|FATAL ERROR|\s+at .*\(.*:\d+:\d+\))/;
const POSTGRES_BROKE = /PANIC:|TRAP: |was terminated by signal (?:4|6|7|8|11)\b/;

interface LogLine {
  readonly level?: unknown;
  readonly msg?: unknown;
  readonly postgres?: unknown;
}

/** The lines that fail a test, with the name of their file. `faults`: the test killed or fenced processes. */
export async function unexpectedLogLines(paths: readonly string[], faults: boolean): Promise<string[]> {
  const found: string[] = [];
  for (const path of paths) {
    const text = await readFile(path, 'utf8').catch(() => '');
    for (const line of text.split('\n')) if (isUnexpected(line, faults)) found.push(`${basename(path)}: ${line}`);
  }
  return found;
}

export function isUnexpected(line: string, faults: boolean): boolean {
  if (!line.startsWith('{')) return NOT_JSON.test(line);
  const { level, msg, postgres } = parse(line);
  if (typeof postgres === 'string' && POSTGRES_BROKE.test(postgres)) return true;
  if (!BAD_LEVELS.has(level)) return false;
  // Around faults everybody goes on anyway, in many words; errors are what still counts.
  if (level === 'warn' && (faults || !STRICT)) return false;
  const allowed = faults ? [...ALWAYS, ...AROUND_FAULTS] : ALWAYS;
  return !allowed.some(({ message }) => message.test(String(msg)));
}

/** A line that was cut short by a kill says nothing. */
function parse(line: string): LogLine {
  try {
    return JSON.parse(line) as LogLine;
  } catch {
    return {};
  }
}
