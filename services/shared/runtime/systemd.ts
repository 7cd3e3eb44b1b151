/**
 * Tells systemd that the service is ready, when it was started by a unit of Type=notify (sd_notify(3)). The protocol wants a datagram on a
 * unix socket, which Node cannot send; `systemd-notify` comes with systemd, and the unit allows it by NotifyAccess=all.
 */
import { execFile } from 'node:child_process';

const TIMEOUT_MS = 5_000;

export function notifyReady(env: Readonly<Record<string, string | undefined>> = process.env): void {
  if (env['NOTIFY_SOCKET'] === undefined) return;
  const pid = `--pid=${process.pid}`;
  execFile('systemd-notify', [pid, '--ready'], { env, timeout: TIMEOUT_MS }, (error) => {
    if (error !== null) process.stderr.write(`could not tell systemd that the service is ready: ${error.message}\n`);
  });
}
