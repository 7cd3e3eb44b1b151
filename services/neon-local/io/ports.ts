/** Free TCP ports on loopback. A port found free may be taken by somebody else before it is used; who uses it must cope. */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { StorageError } from '#shared/core/errors.js';

const HOST = '127.0.0.1';

function tryListen(port: number): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE' || error.code === 'EACCES') resolve(null);
      else reject(error);
    });
    server.listen({ host: HOST, port, exclusive: true }, () => {
      const address = server.address();
      const bound = typeof address === 'object' && address !== null ? address.port : port;
      server.close(() => resolve(bound));
    });
  });
}

/** Below the range from which the kernel takes ports of outgoing connections, so that none of those gets in the way later. */
const FREE_PORT_MIN = 12_000;
const FREE_PORT_MAX = 32_000;
const ATTEMPTS_MAX = 200;

/** Whether the text of a failed start says that somebody else has the port. */
export function isPortTaken(text: string): boolean {
  return /EADDRINUSE|address already in use|could not listen on/i.test(text);
}

/** The first of the wanted ports that is free, else a random free one. Ports in `taken` are passed over; the result is added to it. */
export async function choosePort(wanted: readonly number[], taken: Set<number>): Promise<number> {
  for (const port of wanted) {
    if (port > 0 && !taken.has(port) && (await tryListen(port)) !== null) {
      taken.add(port);
      return port;
    }
  }
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const port = randomInt(FREE_PORT_MIN, FREE_PORT_MAX);
    if (!taken.has(port) && (await tryListen(port)) !== null) {
      taken.add(port);
      return port;
    }
  }
  throw new StorageError('exhausted', 'found no free port on 127.0.0.1');
}
