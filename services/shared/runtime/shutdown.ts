/** Orderly end of a process: SIGTERM or SIGINT runs the shutdown once; a second signal, or the time limit, ends it the hard way. */
import type { Logger } from './log.js';

const LIMIT_MS = 30_000;

export interface Shutdown {
  /** Starts the shutdown as a signal would; `exitCode` 0 unless it fails. */
  request(reason: string, exitCode?: number): void;
}

export function onShutdown(log: Logger, stop: () => Promise<void>, limitMs: number = LIMIT_MS): Shutdown {
  let requested = false;
  const request = (reason: string, exitCode = 0): void => {
    if (requested) {
      log.warn({ reason }, 'second request to stop, ending at once');
      process.exit(130);
    }
    requested = true;
    log.info({ reason }, 'shutting down');
    setTimeout(() => {
      log.error({ limitMs }, 'shutdown took too long, ending at once');
      process.exit(1);
    }, limitMs).unref();
    stop().then(
      () => {
        log.info('shut down');
        process.exit(exitCode);
      },
      (err: unknown) => {
        log.error({ err }, 'shutdown failed');
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', () => request('SIGTERM'));
  process.on('SIGINT', () => request('SIGINT'));
  process.on('uncaughtException', (err) => {
    log.fatal({ err }, 'uncaught exception');
    process.exit(70);
  });
  process.on('unhandledRejection', (err) => {
    log.fatal({ err }, 'unhandled rejection');
    process.exit(70);
  });
  return { request };
}
