#!/usr/bin/env node
/** The command `neon`. */
import { runMain } from '#shared/runtime/main.js';
import { buildProgram } from './cli/program.js';

await runMain(async (argv) => {
  await buildProgram().parseAsync([...argv], { from: 'user' });
});
