/** neon doctor. */
import type { Command } from 'commander';
import { examine } from '../io/doctor.js';
import { openRepo, pingDaemon } from './client.js';
import type { GlobalOptions } from './client.js';
import { coloured, printJson, printTable, say } from './output.js';

const DEFAULT_PG_BIN = '/usr/lib/postgresql/15/bin';
const COLOUR = { ok: 'green', warning: 'yellow', failure: 'red' } as const;

export function addDoctorCommand(program: Command, options: () => GlobalOptions): void {
  program
    .command('doctor')
    .description('check the machine and the stack, and say what to do; ends with 1 when something does not work')
    .action(async () => {
      const repo = openRepo(options());
      const isRunning = await pingDaemon(repo);
      const pid = (await repo.daemon().catch(() => null))?.pid ?? 0;
      const findings = await examine(repo, process.env['PG_BIN'] ?? DEFAULT_PG_BIN, { isRunning, pid });
      const failed = findings.filter(({ verdict }) => verdict === 'failure').length;
      process.exitCode = failed > 0 ? 1 : 0;
      if (options().json) return printJson(findings);
      printTable(
        ['', 'WHAT', 'FOUND'],
        findings.map(({ verdict, subject, text }) => [coloured(verdict, COLOUR[verdict]), subject, text]),
      );
      const warnings = findings.filter(({ verdict }) => verdict === 'warning').length;
      say(
        failed > 0
          ? `${failed} things do not work`
          : `everything works${warnings > 0 ? `, with ${warnings} warnings` : ''}`,
      );
    });
}
