/** A server that takes connections and says nothing, as a process does that is held, or a network that swallows everything. */
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';

export class MuteServer implements AsyncDisposable {
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.server = server;
    server.on('connection', (socket) => {
      this.sockets.add(socket);
      socket.on('error', () => undefined).on('close', () => this.sockets.delete(socket));
      // A close of the other side is only noticed by who reads.
      socket.resume();
    });
  }

  static async listen(): Promise<MuteServer> {
    const mute = new MuteServer(createServer());
    mute.server.listen(0, '127.0.0.1');
    await once(mute.server, 'listening');
    return mute;
  }

  get addr(): string {
    return `127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Connections that are open. */
  get openCount(): number {
    return this.sockets.size;
  }

  /** Resolves at the next connection. */
  async connected(): Promise<void> {
    await once(this.server, 'connection');
  }

  /** Its port is free for another; what is open stays open, as behind a firewall that lost its memory. */
  stopListening(): void {
    this.server.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    if (this.server.listening) this.server.close();
    return Promise.resolve();
  }
}
