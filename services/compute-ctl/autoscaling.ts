/** The vm-monitor of this compute, loaded only when it is asked for. */
import { totalmem } from 'node:os';
import { errorText } from '#shared/core/errors.js';
import { ControlGroup } from '#shared/io/control-group.js';
import type { Logger } from '#shared/runtime/log.js';
import type { Compute } from './compute.js';
import type { ComputeConfig } from './config.js';
import { setFileCacheMib } from './io/file-cache-size.js';
import { startVmMonitor, type MonitoredMemory, type VmMonitorServer } from './vm-monitor-server.js';

export function startAutoscaling(config: ComputeConfig, compute: Compute, log: Logger): Promise<VmMonitorServer> {
  return startVmMonitor({
    addr: config.vmMonitorAddr,
    log,
    measure: () => measure(config.cgroup, log),
    setCacheMib: (mib) => {
      if (compute.isCacheFixed) return Promise.resolve(null);
      return setFileCacheMib(compute.server(), mib);
    },
  });
}

/** The group may be made after this compute, by the one who scales it. */
async function measure(cgroup: string, log: Logger): Promise<MonitoredMemory> {
  const group = await ControlGroup.find(cgroup).catch((error: unknown) => {
    log.info({ reason: errorText(error) }, 'memory is not watched');
    return null;
  });
  if (group === null) return { totalBytes: totalmem(), usedBytes: null };
  return { totalBytes: await group.totalBytes(), usedBytes: () => group.usedBytes() };
}
