/**
 * `compute_ctl spare [--pgbin <path>] [--pg-user <name>]`: a process that is loaded before anybody knows which compute it will be, so that a
 * start need not wait for Node. A supervisor writes one line of JSON to its standard input, `{"argv": ["--pgdata", …]}`, and it goes on as
 * if it had been started with those arguments. It ends when its input does.
 */
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { StorageError } from '#shared/core/errors.js';
import { silentLogger } from '#shared/runtime/log.js';
import { Host } from './io/host.js';

/** Some hundred arguments; more is a mistake. */
const LINE_BYTES_MAX = 1 << 20;
const lineSchema = z.object({ argv: z.array(z.string()) });

export interface Assignment {
  readonly argv: readonly string[];
  /** When it came, milliseconds since the start of the process. */
  readonly atMs: number;
  readonly host: Host;
}

/** Null: the supervisor went away without having needed it. Throws StorageError `invalid` when it wrote something else. */
export async function waitAsSpare(argv: readonly string[]): Promise<Assignment | null> {
  const text = { type: 'string', default: 'postgres' } as const;
  const { values } = parseArgs({ args: [...argv], options: { pgbin: text, 'pg-user': text } });
  const host = new Host(values.pgbin, values['pg-user']);
  const arrival = firstLine(process.stdin).then((line) => ({ line, atMs: performance.now() }));
  // Needed while it is still loading, it goes on at once.
  const called = new AbortController();
  await Promise.race([getReady(called.signal), arrival]);
  const { line, atMs } = await arrival;
  called.abort();
  return line === null ? null : { argv: parseLine(line), atMs, host };
}

/** Loads what a start would load later, and has it used. */
async function getReady(called: AbortSignal): Promise<void> {
  await import('./context.js');
  const { rehearse } = await import('./rehearsal/rehearsal.js');
  await rehearse(silentLogger, called);
}

function parseLine(line: string): string[] {
  try {
    return lineSchema.parse(JSON.parse(line)).argv;
  } catch (cause) {
    throw new StorageError('invalid', 'a spare compute_ctl got something else than its arguments', { cause });
  }
}

/** Leaves the input paused behind the line. */
function firstLine(input: NodeJS.ReadStream): Promise<string | null> {
  return new Promise((resolve, reject) => {
    let text = '';
    const done = (): void => {
      input.off('data', take);
      input.off('end', end);
      input.off('error', end);
      input.pause();
    };
    const end = (): void => {
      done();
      resolve(null);
    };
    const take = (piece: Buffer): void => {
      text += piece.toString('utf8');
      const length = text.indexOf('\n');
      if (length < 0 && text.length <= LINE_BYTES_MAX) return;
      done();
      if (length < 0) reject(new StorageError('invalid', 'the arguments of a spare compute_ctl are too long'));
      else resolve(text.slice(0, length));
    };
    input.on('data', take);
    input.on('end', end);
    input.on('error', end);
  });
}
