/** safekeeper: keeps the WAL of timelines safe by quorum and streams it to page servers. */
import { runMain } from '#shared/runtime/main.js';
import { exitWithParent } from '#shared/runtime/parent.js';
import { announceReady } from '#shared/runtime/ready.js';
import { onShutdown } from '#shared/runtime/shutdown.js';
import { initTracing } from '#shared/runtime/tracing.js';
import { readConfig } from './config.js';
import { startSafekeeper } from './context.js';
import { dumpControlFiles } from './io/dump-control.js';

await runMain(async (argv) => {
  const config = readConfig(argv);
  if (config.dumpControlFile) {
    process.stdout.write(`${JSON.stringify(await dumpControlFiles(config.datadir), null, 2)}\n`);
    return;
  }
  const tracing = await initTracing('safekeeper', process.env);
  const safekeeper = await startSafekeeper(config);
  const { log, grpcAddr: grpc, httpAddr: http } = safekeeper;
  const shutdown = onShutdown(log, async () => {
    await safekeeper.stop();
    await tracing.close();
  });
  exitWithParent(shutdown);
  if (!config.sync) log.warn('running without fsync: a crash of the machine loses acknowledged data');
  log.info({ grpc, http, timelines: safekeeper.timelines.count }, 'started');
  announceReady({ service: 'safekeeper', grpc, http });
});
