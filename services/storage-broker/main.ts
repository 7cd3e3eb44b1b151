/** storage-broker: in-memory publish and subscribe between safekeepers and page servers. */
import { runMain } from '#shared/runtime/main.js';
import { exitWithParent } from '#shared/runtime/parent.js';
import { announceReady } from '#shared/runtime/ready.js';
import { onShutdown } from '#shared/runtime/shutdown.js';
import { initTracing } from '#shared/runtime/tracing.js';
import { readConfig } from './config.js';
import { startBroker } from './context.js';

await runMain(async (argv) => {
  const config = readConfig(argv);
  const tracing = await initTracing('storage-broker', process.env);
  const broker = await startBroker(config);
  const shutdown = onShutdown(broker.log, async () => {
    await broker.stop();
    await tracing.close();
  });
  exitWithParent(shutdown);
  broker.log.info({ grpc: broker.grpcAddr, http: broker.httpAddr }, 'started');
  announceReady({ service: 'storage-broker', grpc: broker.grpcAddr, http: broker.httpAddr });
});
