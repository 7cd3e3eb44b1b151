/** The vm-monitor of this compute, when the environment asks for one. */
import { errorText } from '#shared/core/errors.js';
import type { Logger } from '#shared/runtime/log.js';
import type { Compute } from './compute.js';
import type { ComputeConfig } from './config.js';
import { CgroupMemory, systemMemoryBytes } from './io/cgroup-memory.js';
import { setFileCacheMib } from './io/file-cache-size.js';
import { startVmMonitor, type VmMonitorServer } from './vm-monitor-server.js';

/** Null: not asked for (AUTOSCALING is not set). */
export async function startAutoscaling(
  config: ComputeConfig,
  compute: Compute,
  log: Logger,
): Promise<VmMonitorServer | null> {
  if (process.env['AUTOSCALING'] === undefined) return null;
  const memory = await CgroupMemory.find(config.cgroup).catch((error: unknown) => {
    log.warn({ reason: errorText(error) }, 'memory is not watched');
    return null;
  });
  return startVmMonitor({
    addr: config.vmMonitorAddr,
    log,
    totalBytes: systemMemoryBytes(),
    usedBytes: memory === null ? null : () => memory.usedBytes(),
    setCacheMib: (mib) => setFileCacheMib(compute.server(), mib),
  });
}
