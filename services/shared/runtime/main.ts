/** What every service's main does around its own start: mistakes in flags end with 2 and a plain text, failures with 1 and a log line. */
import { errorKind, errorText } from '../core/errors.js';

export async function runMain(start: (argv: readonly string[]) => Promise<void>): Promise<void> {
  try {
    await start(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`${errorText(error)}\n`);
    if (errorKind(error) === 'internal' && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`);
    process.exit(errorKind(error) === 'invalid' ? 2 : 1);
  }
}
