/** The daemon of a stack: `neon start` runs it in the background. */
import { parseConfig, commonOptions, option } from '#shared/runtime/config.js';
import { createLogger } from '#shared/runtime/log.js';
import { runMain } from '#shared/runtime/main.js';
import { exitWithParent } from '#shared/runtime/parent.js';
import { announceReady } from '#shared/runtime/ready.js';
import { onShutdown } from '#shared/runtime/shutdown.js';
import { initTracing } from '#shared/runtime/tracing.js';
import { z } from 'zod';
import { USUAL_TIMING } from './io/autoscaler.js';
import { Daemon } from './io/daemon.js';
import { RepoDir, repoDirPath } from './io/repo-dir.js';

const STOP_LIMIT_MS = 120_000;
const options = {
  ...commonOptions,
  autoscalePeriodMs: option(
    '--autoscale-period-ms <ms>',
    'how often the sizes of computes are looked at (default 5000)',
    z.coerce.number().int().min(50).default(USUAL_TIMING.periodMs),
  ),
  autoscaleWindowMs: option(
    '--autoscale-window-ms <ms>',
    'load of computes is averaged over this time (default 60000)',
    z.coerce.number().int().min(50).default(USUAL_TIMING.windowMs),
  ),
  repoDir: option('--repo-dir <path>', 'directory of the stack (default: .neon)', z.string().optional()),
};

await runMain(async (argv) => {
  const app = { name: 'neon-local', description: 'Daemon of a local stack: supervises services and computes' };
  const config = parseConfig(app, options, argv, process.env);
  const log = createLogger({
    service: app.name,
    level: config.logLevel,
    ...(config.logPretty ? { pretty: true } : {}),
  });
  const tracing = await initTracing(app.name, process.env);
  const repo = new RepoDir(repoDirPath(config.repoDir, process.env));
  const stop = async () => {
    await daemon.stop();
    await tracing.close();
  };
  const daemon = await Daemon.start({
    repo,
    log,
    env: process.env,
    autoscaler: { periodMs: config.autoscalePeriodMs, windowMs: config.autoscaleWindowMs },
    onShutdownRequest: () => shutdown.request('asked by a client'),
  });
  const shutdown = onShutdown(log, stop, STOP_LIMIT_MS);
  exitWithParent(shutdown);
  announceReady({ service: app.name, grpc: daemon.grpcAddr });
});
