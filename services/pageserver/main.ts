/** The page server process. */
import { enterBounds } from '#shared/runtime/bounded.js';
import { parseConfig } from '#shared/runtime/config.js';
import { createLogger } from '#shared/runtime/log.js';
import { runMain } from '#shared/runtime/main.js';
import { exitWithParent } from '#shared/runtime/parent.js';
import { announceReady } from '#shared/runtime/ready.js';
import { onShutdown } from '#shared/runtime/shutdown.js';
import { initTracing } from '#shared/runtime/tracing.js';
import { options } from './config.js';
import { expandOverrides } from './config-overrides.js';
import { startPageServer } from './context.js';
import { planMemory } from './memory-plan.js';

const APP = { name: 'pageserver', description: 'Keeps page versions of timelines and serves them at any LSN.' };

await runMain(async (argv) => {
  const config = parseConfig(APP, options, expandOverrides(argv, process.env), process.env);
  if (config.memoryMax !== undefined) enterBounds(planMemory(config.memoryMax).runtime);
  const pretty = config.logPretty === undefined ? {} : { pretty: config.logPretty };
  const log = createLogger({ service: APP.name, level: config.logLevel, ...pretty });
  const tracing = await initTracing(APP.name, process.env);
  const server = await startPageServer(config, log);
  const shutdown = onShutdown(log, async () => {
    await server.stop();
    await tracing.close();
  });
  exitWithParent(shutdown);
  const { pg, grpc, http } = server;
  announceReady({ service: APP.name, pg, grpc, http });
  log.info({ pg, grpc, http, id: config.id }, 'serving');
});
