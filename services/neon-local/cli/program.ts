/** All commands of `neon`. The completion scripts and docs/cli.md are made from this tree. */
import { Command } from 'commander';
import { VERSION } from '#shared/runtime/version.js';
import { addBranchCommands, addPitrCommands } from './branch-commands.js';
import type { GlobalOptions } from './client.js';
import { addLayerCommands, addScrubCommand } from './layer-commands.js';
import { addCompletionCommands } from './completion.js';
import { addDoctorCommand } from './doctor-command.js';
import { addPgCommands } from './pg-commands.js';
import { addSafekeeperCommands } from './safekeeper-commands.js';
import { addReferenceCommand } from './reference.js';
import { addSnapshotCommands } from './snapshot-commands.js';
import { addStackCommands } from './stack-commands.js';
import { addStorageCommands, addTenantCommands } from './storage-commands.js';
import { setQuiet } from './output.js';

export function buildProgram(): Command {
  const program = new Command('neon')
    .description('Serverless Postgres on this machine: storage services, branches, computes')
    .version(VERSION)
    .option('--repo-dir <path>', 'directory of the stack [env NEON_REPO_DIR] (default: .neon)')
    .option('--json', 'results as JSON on stdout')
    .option('-q, --quiet', 'results only: names in lists, no remarks')
    .showHelpAfterError('(add --help for what is possible)')
    .hook('preAction', () => setQuiet(program.opts<GlobalOptions>().quiet ?? false));
  const options = () => program.opts<GlobalOptions>();
  addStackCommands(program, options);
  addStorageCommands(program, options);
  addScrubCommand(program, options);
  addTenantCommands(program, options);
  addPgCommands(program, options);
  addBranchCommands(program, options);
  addSnapshotCommands(program, options);
  addPitrCommands(program, options);
  addSafekeeperCommands(program, options);
  addLayerCommands(program, options);
  addDoctorCommand(program, options);
  addCompletionCommands(program, options);
  addReferenceCommand(program);
  return program;
}
