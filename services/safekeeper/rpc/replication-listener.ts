/** Connections that speak the Postgres replication protocol: standbys, pg_receivewal. Owns the set of them. */
import type { Socket } from 'node:net';
import { errorText, StorageError } from '#shared/core/errors.js';
import { formatLsn } from '#shared/core/lsn.js';
import { WireSession } from '#shared/postgres/wire/server-session.js';
import type { Logger } from '#shared/runtime/log.js';
import { parseReplicationCommand, TIMELINE_NUMBER, timelineOfOptions } from '../core/replication-command.js';
import type { Timeline } from '../io/timeline.js';
import type { Timelines } from '../io/timelines.js';
import { StandbySender } from './standby-sender.js';

/** Commands are short, and so is all that a standby reports. */
const MESSAGE_BYTES_MAX = 8_192;
/** As Postgres' authentication_timeout. */
const STARTUP_TIMEOUT_MS = 60_000;
/** For the last words to reach a client that does not read. */
const CLOSE_TIMEOUT_MS = 5_000;
const MIB = 1 << 20;
const PARAMETERS = {
  server_version: '15.0',
  server_encoding: 'UTF8',
  client_encoding: 'UTF8',
  standard_conforming_strings: 'on',
  integer_datetimes: 'on',
  DateStyle: 'ISO, MDY',
};

export interface ReplicationDeps {
  readonly timelines: Timelines;
  /** Aborted when the service stops. */
  readonly stopping: AbortSignal;
  readonly onSent: (bytes: number) => void;
  readonly log: Logger;
}

export class ReplicationListener {
  private readonly deps: ReplicationDeps;
  private readonly sessions = new Map<Socket, WireSession>();

  constructor(deps: ReplicationDeps) {
    this.deps = deps;
  }

  get connectionCount(): number {
    return this.sessions.size;
  }

  /** Takes over a connected socket. */
  accept(socket: Socket): void {
    const connection: Connection = { sender: null };
    const session = new WireSession(socket, {
      messageBytesMax: MESSAGE_BYTES_MAX,
      parameters: PARAMETERS,
      query: (text, at) => this.run(text, at, connection),
    });
    const startupTimer = setTimeout(() => {
      if (!session.isAuthenticated) socket.destroy();
    }, STARTUP_TIMEOUT_MS);
    this.sessions.set(socket, session);
    socket.on('data', (chunk: Buffer) => session.feed(chunk));
    socket.on('drain', () => {
      session.drained();
      connection.sender?.drained();
    });
    socket.on('finish', () => {
      socket.resume();
      socket.setTimeout(CLOSE_TIMEOUT_MS, () => socket.destroy());
    });
    socket.on('error', (error) => this.deps.log.debug({ reason: errorText(error) }, 'a standby’s connection failed'));
    socket.on('close', () => {
      clearTimeout(startupTimer);
      this.sessions.delete(socket);
      session.closed();
    });
  }

  /** Closes all connections, saying why. */
  close(): void {
    for (const [socket, session] of this.sessions) {
      session.abort(new StorageError('unavailable', 'the safekeeper is shutting down'));
      socket.destroySoon();
    }
  }

  private run(text: string, session: WireSession, connection: Connection): void {
    const command = parseReplicationCommand(text);
    const timeline = (): Timeline => this.deps.timelines.get(timelineOfOptions(session.startup.get('options') ?? ''));
    switch (command.kind) {
      case 'identify-system': {
        const { control, commitLsn } = timeline().view;
        if (control.systemId === 0n)
          throw new StorageError('unavailable', 'no compute has written to this timeline yet');
        const row = [String(control.systemId), String(TIMELINE_NUMBER), formatLsn(commitLsn), null];
        session.complete('IDENTIFY_SYSTEM', ['systemid', 'timeline', 'xlogpos', 'dbname'], [row]);
        break;
      }
      case 'timeline-status': {
        const { flushLsn, commitLsn } = timeline().view;
        session.complete('TIMELINE_STATUS', ['flush_lsn', 'commit_lsn'], [[flushLsn, commitLsn].map(formatLsn)]);
        break;
      }
      case 'show':
        session.complete('SHOW', [command.name], [[setting(command.name, timeline)]]);
        break;
      case 'set':
        session.complete('SET');
        break;
      case 'start': {
        const { stopping, onSent } = this.deps;
        const options = { session, timeline: timeline(), startLsn: command.startLsn, stopping, onSent };
        connection.sender = StandbySender.start(options);
        session.startCopyBoth(connection.sender);
        connection.sender.run();
        break;
      }
    }
  }
}

interface Connection {
  sender: StandbySender | null;
}

/** Those that pg_receivewal asks for. */
function setting(name: string, timeline: () => Timeline): string {
  switch (name) {
    case 'wal_segment_size':
      return `${timeline().view.control.segSize / MIB}MB`;
    case 'data_directory_mode':
      return '0700';
    default:
      throw new StorageError('not-found', `there is no parameter "${name}" here`);
  }
}
