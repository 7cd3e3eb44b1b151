/** compute_ctl: one compute's life, from an empty directory to a Postgres on remote storage. */
import { setTimeout as sleep } from 'node:timers/promises';
import { runMain } from '#shared/runtime/main.js';
import { exitWithParent } from '#shared/runtime/parent.js';
import { announceReady } from '#shared/runtime/ready.js';
import { onShutdown } from '#shared/runtime/shutdown.js';
import { initTracing } from '#shared/runtime/tracing.js';
import { Compute } from './compute.js';
import { makeLogger, readConfig, specSource } from './config.js';
import { Host } from './io/host.js';
import { waitAsSpare } from './spare.js';

/** The status of a start that takes longer than this can be read while it goes on. */
const SERVERS_AFTER_MS = 250;
/** On top of the limits that a stop has inside. */
const SHUTDOWN_MARGIN_MS = 15_000;

await runMain(async (args) => {
  const spare = args[0] === 'spare' ? await waitAsSpare(args.slice(1)) : undefined;
  if (spare === null) return;
  const config = readConfig(spare?.argv ?? args);
  const log = makeLogger(config);
  const tracing = await initTracing('compute_ctl', process.env);
  const host = spare?.host.serves(config) === true ? spare.host : new Host(config.pgbin, config.pgUser);
  const compute = new Compute({ config, log, host, bornMs: spare?.atMs ?? 0 }, specSource(config));
  const starting = compute.start();
  // Loading what the servers need would hold up the start, except while it waits for Postgres or, longer, for storage.
  await Promise.race([compute.idles, starting, sleep(SERVERS_AFTER_MS, undefined, { ref: false })]);
  const { startServers } = await import('./context.js');
  const servers = await startServers(config, compute, log);
  const isScaled = config.autoscaling === true || process.env['AUTOSCALING'] !== undefined;
  const monitor = starting.then(async (state) => {
    if (!isScaled || state === 'ended') return null;
    const { startAutoscaling } = await import('./autoscaling.js');
    return startAutoscaling(config, compute, log);
  });
  let stopping = false;
  let rehearsing: Promise<unknown> = Promise.resolve();
  const stop = async (): Promise<void> => {
    stopping = true;
    const exitCode = await compute.shutDown();
    await rehearsing;
    await (await monitor)?.close();
    await servers.stop();
    await tracing.close();
    if (exitCode !== 0) process.exit(exitCode);
  };
  const shutdown = onShutdown(log, stop, config.stopTimeoutMs + SHUTDOWN_MARGIN_MS);
  exitWithParent({
    request: (reason) => {
      compute.orphan();
      shutdown.request(reason);
    },
  });
  void compute.ended.then((exitCode) => {
    if (!stopping) shutdown.request('the compute has ended', exitCode);
  });
  const started = await starting;
  if (started === 'ended') return;
  const { grpcAddr: grpc, httpAddr: http } = servers;
  const pg = compute.instance?.pgAddr ?? '';
  const monitorAddr = (await monitor)?.addr;
  const addrs = { ...(pg === '' ? {} : { pg }), ...(monitorAddr === undefined ? {} : { monitor: monitorAddr }) };
  announceReady({ service: 'compute_ctl', grpc, http, ...addrs });
  if (started === 'empty') {
    const { rehearse } = await import('./rehearsal/rehearsal.js');
    rehearsing = rehearse(log, compute.called);
  }
});
