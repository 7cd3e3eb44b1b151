/** What every service's main does around its own start: mistakes in flags end with 2 and a plain text, failures with 1 and a log line. */
import { flushCompileCache } from 'node:module';
import { errorKind, errorText } from '../core/errors.js';

/** When a start is over and whoever waited for it is served. */
const FLUSH_AFTER_MS = 3_000;

export async function runMain(start: (argv: readonly string[]) => Promise<void>): Promise<void> {
  try {
    await start(process.argv.slice(2));
    // Code compiled so far is kept for the next start, which a process that is killed later would not do at its end.
    setTimeout(() => flushCompileCache(), FLUSH_AFTER_MS).unref();
  } catch (error) {
    process.stderr.write(`${errorText(error)}\n`);
    if (errorKind(error) === 'internal' && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`);
    process.exit(errorKind(error) === 'invalid' ? 2 : 1);
  }
}
