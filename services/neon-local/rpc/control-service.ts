/** neon.control.v1.ControlService over a Daemon. */
import type {
  ControlServiceServer,
  GetStatusRequest,
  GetStatusResponse,
  ServiceStatus,
  ShutdownRequest,
  ShutdownResponse,
} from '#gen/neon/control/v1/control.js';
import { unary } from '#shared/rpc/handlers.js';
import type { Daemon } from '../io/daemon.js';
import { branchHandlers } from './branches.js';
import { computeHandlers, computeMessage } from './computes.js';

function serviceStatuses(daemon: Daemon): ServiceStatus[] {
  return daemon.stack.services().map(({ spec, ports, process }) => {
    const addr = (port: number | undefined) => (port === undefined ? '' : `127.0.0.1:${port}`);
    return {
      name: spec.name,
      state: process.state,
      pid: process.pid,
      grpcAddr: addr(ports.grpc),
      httpAddr: addr(ports.http),
      pgAddr: addr(ports.pg),
      restartCount: process.restartCount,
      logPath: daemon.repo.logPath(spec.name),
    };
  });
}

export function controlService(daemon: Daemon): ControlServiceServer {
  return {
    getStatus: unary<GetStatusRequest, GetStatusResponse>(() =>
      Promise.resolve({
        repoDir: daemon.repo.path,
        services: serviceStatuses(daemon),
        computes: daemon.catalog.computes.map((entry) => computeMessage(daemon, entry)),
        pid: process.pid,
      }),
    ),
    shutdown: unary<ShutdownRequest, ShutdownResponse>(() => {
      // The answer must leave before the server goes.
      setTimeout(() => daemon.requestShutdown(), 50);
      return Promise.resolve({});
    }),
    ...branchHandlers(daemon),
    ...computeHandlers(daemon),
  };
}
