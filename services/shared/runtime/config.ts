/**
 * Configuration of a service: each option is declared once and may come, in falling order of precedence, from a flag, from the
 * environment (`NEON_<SERVICE>_<OPTION>`), from a JSON file (`--config-file`), or from its default. All mistakes are reported at once.
 */
import { readFileSync } from 'node:fs';
import { Command, CommanderError, Option } from 'commander';
import { z } from 'zod';
import { StorageError } from '../core/errors.js';
import { LOG_LEVELS } from './log.js';
import { VERSION } from './version.js';

export interface OptionSpec<T> {
  /** As commander wants it: "-D, --datadir <path>", "--id <number>", "--no-sync". The long name in camelCase is the config key. */
  readonly flags: string;
  readonly help: string;
  /** Checks and converts; texts arrive as strings, so numbers want `z.coerce.number()`. A default belongs in here. */
  readonly schema: z.ZodType<T>;
  /** The same under other names, with the same kind of value: "-l, --listen-addr <addr>". */
  readonly aliases?: readonly string[];
}
export type OptionSpecs = Record<string, OptionSpec<unknown>>;
export type ConfigOf<S extends OptionSpecs> = { readonly [K in keyof S]: S[K] extends OptionSpec<infer T> ? T : never };

export interface AppInfo {
  /** Name of the program, such as "pageserver". */
  readonly name: string;
  readonly description: string;
}

export function option<T>(
  flags: string,
  help: string,
  schema: z.ZodType<T>,
  aliases: readonly string[] = [],
): OptionSpec<T> {
  return { flags, help, schema, aliases };
}

/** Options that every service has. */
export const commonOptions = {
  logLevel: option(
    '--log-level <level>',
    `least level logged: ${LOG_LEVELS.join(', ')}`,
    z.enum(LOG_LEVELS).default('info'),
  ),
  logPretty: option('--log-pretty', 'readable log lines even when stderr is no terminal', z.boolean().optional()),
};

/** host:port; port 0 = a free one. */
export function addrSchema(): z.ZodType<string> {
  return z.string().regex(/^(\[[0-9A-Fa-f:.]+\]|[^:[\]]+):\d{1,5}$/, 'must be host:port');
}

function envName(app: string, key: string): string {
  const snake = (text: string) =>
    text
      .replace(/([A-Z])/g, '_$1')
      .replace(/[^A-Za-z0-9]+/g, '_')
      .toUpperCase();
  return `NEON_${snake(app)}_${snake(key)}`;
}

function readConfigFile(path: string): Record<string, unknown> {
  try {
    return z.record(z.string(), z.unknown()).parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (cause) {
    throw new StorageError('invalid', `could not read the configuration file ${path} (a JSON object is wanted)`, {
      cause,
    });
  }
}

function buildCommand(app: AppInfo, specs: OptionSpecs): Command {
  const command = new Command(app.name)
    .description(app.description)
    .version(VERSION)
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput({ writeErr: () => undefined })
    .option('--config-file <path>', 'JSON file with options by their camelCase names');
  for (const [key, spec] of Object.entries(specs)) {
    command.addOption(new Option(spec.flags, `${spec.help} [env ${envName(app.name, key)}]`));
    for (const alias of spec.aliases ?? []) command.addOption(new Option(alias, `the same as ${longName(spec.flags)}`));
  }
  return command;
}

function longName(flags: string): string {
  return /--[a-z-]+/.exec(flags)?.[0] ?? flags;
}

/** The value of an option, under its own name or another one. */
function givenValue(flags: Record<string, unknown>, key: string, spec: OptionSpec<unknown>): unknown {
  const names = (spec.aliases ?? []).map((alias) => new Option(alias).attributeName());
  return [key, ...names].map((name) => flags[name]).find((value) => value !== undefined);
}

/** Values given by flags only; commander's own defaults (such as true for --no-x) are left out. */
function givenFlags(command: Command): Record<string, unknown> {
  const given: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(command.opts())) {
    if (command.getOptionValueSource(key) === 'cli') given[key] = value;
  }
  return given;
}

/**
 * Parses `argv` (without node and script). Throws StorageError `invalid` that lists every mistake. `--help` and `--version` print
 * and end the process with 0.
 */
export function parseConfig<S extends OptionSpecs>(
  app: AppInfo,
  specs: S,
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): ConfigOf<S> {
  const command = buildCommand(app, specs);
  try {
    command.parse([...argv], { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) process.exit(0);
    const text = error instanceof CommanderError ? error.message.replace(/^error: /, '') : String(error);
    throw new StorageError('invalid', `${text}; see ${app.name} --help`);
  }
  const flags = givenFlags(command);
  const file = typeof flags['configFile'] === 'string' ? readConfigFile(flags['configFile']) : {};
  const problems: string[] = Object.keys(file)
    .filter((key) => !(key in specs))
    .map((key) => `${key}: unknown option in the configuration file`);
  const config: Record<string, unknown> = {};
  for (const [key, spec] of Object.entries(specs)) {
    const given = givenValue(flags, key, spec) ?? env[envName(app.name, key)] ?? file[key];
    const parsed = spec.schema.safeParse(given);
    if (parsed.success) config[key] = parsed.data;
    else problems.push(`${spec.flags}: ${parsed.error.issues.map((issue) => issue.message).join('; ')}`);
  }
  if (problems.length > 0) {
    throw new StorageError(
      'invalid',
      `${app.name}: wrong configuration\n  ${problems.join('\n  ')}\nsee ${app.name} --help`,
    );
  }
  return Object.freeze(config) as ConfigOf<S>;
}
