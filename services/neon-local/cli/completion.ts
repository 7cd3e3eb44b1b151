/**
 * Completion scripts for bash, zsh and fish. The scripts are small: they ask `neon __complete WORDS…`, which knows the commands, their
 * options and, from the catalog, the names.
 */
import type { Command } from 'commander';
import { StorageError } from '#shared/core/errors.js';
import type { Catalog } from '../core/catalog-schema.js';
import { openRepo } from './client.js';
import type { GlobalOptions } from './client.js';
import { printLine } from './output.js';

const SCRIPTS: Readonly<Record<string, string>> = {
  bash: `_neon() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(neon __complete "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _neon neon`,
  zsh: `#compdef neon
_neon() {
  local -a found
  found=(\${(f)"$(neon __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)"})
  compadd -- $found
}
compdef _neon neon`,
  fish: `complete -c neon -f -a '(neon __complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'`,
};

/** Kinds of names that the first argument of a command may be. */
function namesFor(path: readonly string[], catalog: Catalog): string[] {
  const [group, action] = path;
  if (action === undefined || ['create', 'attach', 'list', 'tree', 'import'].includes(action)) return [];
  if (group === 'pg') return catalog.computes.map((entry) => entry.name);
  if (group === 'branch' || group === 'pitr') return catalog.branches.map((entry) => entry.name);
  if (group === 'snapshot') return catalog.snapshots.map((entry) => entry.name);
  if (group === 'storage') return catalog.storages.map((entry) => entry.name);
  return [];
}

const NAME_OPTIONS: Readonly<Record<string, (catalog: Catalog) => string[]>> = {
  '--from': (catalog) => catalog.branches.map((entry) => entry.name),
  '--branch': (catalog) => catalog.branches.map((entry) => entry.name),
  '-b': (catalog) => catalog.branches.map((entry) => entry.name),
  '--storage': (catalog) => catalog.storages.map((entry) => entry.name),
  '-s': (catalog) => catalog.storages.map((entry) => entry.name),
  '--snapshot': (catalog) => catalog.snapshots.map((entry) => entry.name),
};

/** What may stand in the place of the last word. */
export function completionsOf(program: Command, words: readonly string[], catalog: Catalog | null): string[] {
  const before = words.slice(0, -1);
  const last = words.at(-1) ?? '';
  let command = program;
  const path: string[] = [];
  for (const word of before) {
    const next = command.commands.find((entry) => entry.name() === word || entry.aliases().includes(word));
    if (!next) continue;
    command = next;
    path.push(next.name());
  }
  const names = NAME_OPTIONS[before.at(-1) ?? ''];
  if (names && catalog) return names(catalog);
  if (last.startsWith('-')) {
    return [...command.options, ...program.options].flatMap((option) => (option.long ? [option.long] : []));
  }
  const commands = command.commands.filter((entry) => !entry.name().startsWith('__')).map((entry) => entry.name());
  return commands.length > 0 || catalog === null ? commands : namesFor(path, catalog);
}

export function addCompletionCommands(program: Command, options: () => GlobalOptions): void {
  program
    .command('completion <shell>')
    .description('print a completion script for bash, zsh or fish, such as: source <(neon completion bash)')
    .action((shell: string) => {
      const script = SCRIPTS[shell];
      if (script === undefined)
        throw new StorageError('invalid', `"${shell}" is no shell known here; bash, zsh and fish are`);
      printLine(script);
    });
  program
    .command('__complete [words...]', { hidden: true })
    .allowUnknownOption()
    .helpOption(false)
    .action(async (words: string[]) => {
      const catalog = await openRepo(options())
        .catalog()
        .catch(() => null);
      for (const found of completionsOf(program, words, catalog)) printLine(found);
    });
}
