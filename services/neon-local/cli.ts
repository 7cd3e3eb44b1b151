#!/usr/bin/env node
/** The command `neon`. */
import { Command } from 'commander';
import { runMain } from '#shared/runtime/main.js';
import { VERSION } from '#shared/runtime/version.js';
import { addObjectCommands } from './cli/object-commands.js';
import { addStackCommands } from './cli/stack-commands.js';

await runMain(async (argv) => {
  const program = new Command('neon')
    .description('Serverless Postgres on this machine: storage services, branches, computes')
    .version(VERSION)
    .option('--repo-dir <path>', 'directory of the stack [env NEON_REPO_DIR] (default: .neon)')
    .option('--json', 'results as JSON on stdout')
    .showHelpAfterError('(add --help for what is possible)');
  addStackCommands(program);
  addObjectCommands(program);
  await program.parseAsync([...argv], { from: 'user' });
});
