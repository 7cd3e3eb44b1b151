/** The one logger of a process: pino, JSON lines on stderr, pretty on a terminal. stdout is for results (the ready line, listings). */
import { destination, pino } from 'pino';
import type { Logger } from 'pino';
import pretty from 'pino-pretty';

export type { Logger };

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface LogOptions {
  readonly service: string;
  readonly level: LogLevel;
  /** Human-readable lines; default: when stderr is a terminal. */
  readonly pretty?: boolean;
  /** Appended to, instead of stderr. */
  readonly file?: string;
}

export function createLogger(options: LogOptions): Logger {
  const settings = {
    level: options.level,
    base: { service: options.service, pid: process.pid },
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  // Synchronous writes: the last lines before a crash are the ones that matter.
  const dest = options.file ?? 2;
  if (options.pretty ?? (options.file === undefined && process.stderr.isTTY)) {
    return pino(
      settings,
      pretty({ destination: dest, sync: true, ignore: 'pid,service', translateTime: 'SYS:HH:MM:ss.l' }),
    );
  }
  return pino(settings, destination({ dest, sync: true }));
}

/** A logger that says nothing, for tests and libraries that were given none. */
export const silentLogger: Logger = pino({ level: 'silent' });
