/** What takes long: it runs in the background, can be asked for and cancelled. They live as long as the daemon. */
import { randomUUID } from 'node:crypto';
import type { Operation } from '#gen/neon/control/v1/transfer.js';
import { errorText, StorageError } from '#shared/core/errors.js';

/** Ended ones that are remembered. */
const KEPT_MAX = 100;
/** Each uses the network and the page server to the full. */
const RUNNING_MAX = 4;

export interface Progress {
  readonly signal: AbortSignal;
  /** What is going on; `totalBytes` 0 = not known. */
  phase(text: string, totalBytes: number): void;
  /** Bytes in all so far. */
  done(bytes: number, reusedBytes: number): void;
}

interface Entry {
  operation: Operation;
  readonly controller: AbortController;
  readonly ended: Promise<void>;
}

export class Operations {
  private readonly entries = new Map<string, Entry>();

  /** Runs `act`; its result is a text for people. */
  start(kind: string, act: (progress: Progress) => Promise<string>): Operation {
    const running = [...this.entries.values()].filter((entry) => entry.operation.state === 'running');
    if (running.length >= RUNNING_MAX) {
      throw new StorageError('exhausted', `${RUNNING_MAX} transfers run already; wait for one to end`);
    }
    const id = randomUUID().slice(0, 8);
    const controller = new AbortController();
    const operation: Operation = {
      ...{ id, kind, state: 'running', phase: '', doneBytes: 0n, totalBytes: 0n, reusedBytes: 0n },
      ...{ startedAtMs: BigInt(Date.now()), endedAtMs: 0n, error: '', result: '' },
    };
    const change = (part: Partial<Operation>) => {
      const entry = this.entries.get(id);
      if (entry) entry.operation = { ...entry.operation, ...part };
    };
    const progress: Progress = {
      signal: controller.signal,
      phase: (phase, totalBytes) => change({ phase, totalBytes: BigInt(totalBytes), doneBytes: 0n, reusedBytes: 0n }),
      done: (bytes, reused) => change({ doneBytes: BigInt(bytes), reusedBytes: BigInt(reused) }),
    };
    // Begins when the entry is there.
    const ended = Promise.resolve()
      .then(() => act(progress))
      .then(
        (result) => change({ state: 'done', phase: '', result, endedAtMs: BigInt(Date.now()) }),
        (error: unknown) => {
          const state = controller.signal.aborted ? 'cancelled' : 'failed';
          change({ state, error: errorText(error), endedAtMs: BigInt(Date.now()) });
        },
      );
    this.entries.set(id, { operation, controller, ended });
    this.forgetOld();
    return operation;
  }

  private forgetOld(): void {
    for (const [id, { operation }] of this.entries) {
      if (this.entries.size <= KEPT_MAX) return;
      if (operation.state !== 'running') this.entries.delete(id);
    }
  }

  find(id: string): Operation {
    return this.entry(id).operation;
  }

  private entry(id: string): Entry {
    const entry = this.entries.get(id);
    if (!entry) throw new StorageError('not-found', `operation "${id}" does not exist, or ended long ago`);
    return entry;
  }

  list(): Operation[] {
    return [...this.entries.values()].map((entry) => entry.operation);
  }

  async cancel(id: string): Promise<Operation> {
    const { controller, ended } = this.entry(id);
    controller.abort(new StorageError('cancelled', 'cancelled'));
    await ended;
    return this.find(id);
  }

  async close(): Promise<void> {
    const running = [...this.entries].filter(([, { operation }]) => operation.state === 'running');
    await Promise.all(running.map(([id]) => this.cancel(id)));
  }
}
