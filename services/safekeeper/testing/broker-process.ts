/** For tests: a storage broker as a real process. */
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseReadyLine } from '#shared/runtime/ready.js';

const BROKER_MAIN = fileURLToPath(new URL('../../storage-broker/main.ts', import.meta.url));

export interface BrokerProcess {
  readonly child: ChildProcess;
  readonly addr: string;
}

export async function startBroker(addr = '127.0.0.1:0'): Promise<BrokerProcess> {
  const args = ['--conditions=source', '--import', 'tsx', BROKER_MAIN, '--listen-grpc', addr, '--log-level', 'error'];
  const child = spawn(process.execPath, [...args, '--listen-http', '127.0.0.1:0'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  if (child.stdout === null) throw new Error('no output');
  for await (const text of createInterface({ input: child.stdout })) {
    const ready = parseReadyLine(text);
    if (ready?.grpc !== undefined) return { child, addr: ready.grpc };
  }
  throw new Error('the broker did not start');
}
