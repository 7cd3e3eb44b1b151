/** Status and shutdown of the stack. */
import type {
  GetStatusRequest,
  GetStatusResponse,
  ServiceStatus,
  ShutdownRequest,
  ShutdownResponse,
} from '#gen/neon/control/v1/control.js';
import type { PortName } from '../core/stack.js';
import type { Daemon } from '../io/daemon.js';
import { computeMessage } from './computes.js';

/** The answer must leave before the server goes. */
const SHUTDOWN_DELAY_MS = 50;

function serviceStatuses(daemon: Daemon): ServiceStatus[] {
  return daemon.stack.services().map(({ spec, ports, process }) => {
    const reached = (port: PortName) => (ports[port] === undefined ? '' : daemon.stack.advertised(spec.name, port));
    return {
      name: spec.name,
      state: process.state,
      pid: process.pid,
      grpcAddr: reached('grpc'),
      httpAddr: reached('http'),
      pgAddr: reached('pg'),
      restartCount: process.restartCount,
      logPath: daemon.repo.logPath(spec.name),
    };
  });
}

export function statusHandlers(daemon: Daemon) {
  return {
    getStatus: (_request: GetStatusRequest): Promise<GetStatusResponse> =>
      Promise.resolve({
        repoDir: daemon.repo.path,
        services: serviceStatuses(daemon),
        computes: daemon.catalog.computes.map((entry) => computeMessage(daemon, entry)),
        pid: process.pid,
        restUrl: daemon.restUrl,
        connectAddr: daemon.connectAddr,
      }),
    shutdown: (_request: ShutdownRequest): Promise<ShutdownResponse> => {
      setTimeout(() => daemon.requestShutdown(), SHUTDOWN_DELAY_MS);
      return Promise.resolve({});
    },
  };
}
