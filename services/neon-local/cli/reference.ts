/** docs/cli.md, made from the commands themselves. `neon reference` prints it. */
import type { Argument, Command, Option } from 'commander';
import { printLine } from './output.js';

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function optionRow(option: Option): string {
  const isPlain = option.defaultValue === undefined || typeof option.defaultValue === 'object';
  const fallback =
    isPlain || option.negate || option.description.includes('default')
      ? ''
      : ` (default: ${String(option.defaultValue)})`;
  return `| \`${option.flags.replaceAll('|', '\\|')}\` | ${cell(option.description + fallback)} |`;
}

function argumentText(argument: Argument): string {
  const name = argument.name() + (argument.variadic ? '…' : '');
  return argument.required ? `<${name}>` : `[${name}]`;
}

function optionTable(options: readonly Option[]): string[] {
  if (options.length === 0) return [];
  return ['| option | what |', '| --- | --- |', ...options.map(optionRow), ''];
}

function section(command: Command, path: string): string[] {
  const full = `${path} ${command.name()}`;
  const visible = command.commands.filter((entry) => !entry.name().startsWith('__'));
  if (visible.length > 0) {
    return [`## ${full}`, '', sentence(command.description()), '', ...visible.flatMap((entry) => section(entry, full))];
  }
  const usage = [
    full,
    ...command.registeredArguments.map(argumentText),
    ...(command.options.length > 0 ? ['[options]'] : []),
  ];
  const level = path.includes(' ') ? '###' : '##';
  return [
    `${level} ${full}`,
    '',
    ...['```', usage.join(' '), '```', '', sentence(command.description()), ''],
    ...optionTable(command.options),
  ];
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

export function referenceText(program: Command): string {
  const lines = [
    '# The command `neon`',
    '',
    'Made from the command definitions by `neon reference`; do not edit by hand.',
    '',
    'Results go to stdout, remarks to stderr. Ends with 0 when done, 1 when it failed, 2 when the command was wrong.',
    '',
    '## For every command',
    '',
    ...optionTable(program.options.filter((option) => option.long !== '--version')),
    ...program.commands.filter((entry) => !entry.name().startsWith('__')).flatMap((entry) => section(entry, 'neon')),
  ];
  return `${lines.join('\n').trimEnd()}\n`;
}

export function addReferenceCommand(program: Command): void {
  program
    .command('reference')
    .description('print the reference of all commands in Markdown')
    .action(() => printLine(referenceText(program).trimEnd()));
}
