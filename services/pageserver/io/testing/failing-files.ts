/**
 * File operations below one directory that fail on command, for tests in one thread. The functions of node:fs themselves are replaced
 * while it is installed, so the code under test is the production code, and no operation can be forgotten in a wrapper.
 *
 * A power cut is `failFrom` and then `losePower`: what was written and not synced is gone. Renames and removals count as done at once,
 * which is one of the two states that a file system may be in before its directory is synced.
 */
import fs from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { sep } from 'node:path';

type AnyFunction = (...args: never[]) => unknown;

/** How the operation numbered `failFrom` fails: without effect, with it, or (a write) with half of it. */
export type FailureEffect = 'none' | 'whole' | 'half';

const ASYNC_BY_PATH = ['open', 'rename', 'rm', 'mkdir', 'stat', 'readdir', 'readFile'] as const;
const SYNC_BY_PATH = ['openSync', 'renameSync', 'rmSync'] as const;
const SYNC_BY_FD = ['writeSync', 'fsyncSync', 'readSync'] as const;

interface Written {
  syncedBytes: number;
  bytes: number;
}

export class FailingFiles implements Disposable {
  /** Operations seen so far. */
  callCount = 0;
  failFrom = Infinity;
  /** Later operations work again. */
  failOnce = false;
  effect: FailureEffect = 'none';
  private readonly dir: string;
  private readonly originals: (() => void)[] = [];
  private readonly pathOfFd = new Map<number, string>();
  private readonly written = new Map<string, Written>();

  constructor(dir: string) {
    this.dir = dir + sep;
    for (const name of ASYNC_BY_PATH) this.replace(fs.promises, name, (inner) => this.byPath(name, inner));
    for (const name of SYNC_BY_PATH) this.replace(fs, name, (inner) => this.byPathSync(name, inner));
    for (const name of SYNC_BY_FD) this.replace(fs, name, (inner) => this.byFdSync(name, inner));
    this.replace(fs, 'closeSync', (inner) => this.closingSync(inner));
    this.replace(fs, 'read', (inner) => this.readCallback(inner));
    syncBuiltinESMExports();
  }

  /** Cuts files back to what was synced. Nothing fails from here on. */
  losePower(): void {
    this.failFrom = Infinity;
    for (const [path, { syncedBytes, bytes }] of this.written) {
      if (bytes > syncedBytes && fs.existsSync(path)) fs.truncateSync(path, syncedBytes);
    }
  }

  [Symbol.dispose](): void {
    for (const restore of this.originals) restore();
    syncBuiltinESMExports();
  }

  private replace(module: object, name: string, make: (inner: AnyFunction) => AnyFunction): void {
    const functions = module as Record<string, AnyFunction>;
    const inner = functions[name]!;
    this.originals.push(() => (functions[name] = inner));
    functions[name] = make(inner);
  }

  private isOurs(path: unknown): path is string {
    return typeof path === 'string' && `${path}${sep}`.startsWith(this.dir);
  }

  /** Counts an operation. What it shall do: null = what it always does. */
  private next(): FailureEffect | null {
    const call = this.callCount++;
    if (call === this.failFrom) return this.effect;
    return call > this.failFrom && !this.failOnce ? 'none' : null;
  }

  private failure(what: string): Error {
    return Object.assign(new Error(`EIO: injected failure of ${what}`), { code: 'EIO', errno: -5, syscall: what });
  }

  private byPath(name: string, inner: AnyFunction): AnyFunction {
    const act = inner as (...args: unknown[]) => Promise<unknown>;
    return async (...args: unknown[]) => {
      if (!this.isOurs(args[0])) return act(...args);
      const failing = this.next();
      if (failing === 'none' || failing === 'half') throw this.failure(name);
      const result = await act(...args);
      this.note(name, args);
      if (failing === 'whole') {
        if (name === 'open') await (result as FileHandle).close();
        throw this.failure(name);
      }
      return name === 'open' ? this.watch(result as FileHandle, args[0]) : result;
    };
  }

  private byPathSync(name: string, inner: AnyFunction): AnyFunction {
    const act = inner as (...args: unknown[]) => unknown;
    return (...args: unknown[]) => {
      if (!this.isOurs(args[0])) return act(...args);
      const failing = this.next();
      if (failing === 'none' || failing === 'half') throw this.failure(name);
      const result = act(...args);
      this.note(name, args);
      if (name === 'openSync') this.pathOfFd.set(result as number, args[0]);
      if (failing === 'whole') throw this.failure(name);
      return result;
    };
  }

  private byFdSync(name: string, inner: AnyFunction): AnyFunction {
    const act = inner as (...args: unknown[]) => unknown;
    return (...args: unknown[]) => {
      const path = this.pathOfFd.get(args[0] as number);
      if (path === undefined) return act(...args);
      const failing = this.next();
      if (failing === 'none') throw this.failure(name);
      if (failing === 'half' && name === 'writeSync') args[3] = Math.floor((args[3] as number) / 2);
      const result = act(...args);
      if (name === 'writeSync') this.wrote(path, result as number);
      if (name === 'fsyncSync') this.synced(path);
      if (failing !== null) throw this.failure(name);
      return result;
    };
  }

  /** A descriptor is gone also when closing it fails. */
  private closingSync(inner: AnyFunction): AnyFunction {
    const act = inner as (fd: number) => void;
    return (fd: number) => {
      const isOurs = this.pathOfFd.delete(fd);
      act(fd);
      if (isOurs && this.next() !== null) throw this.failure('closeSync');
    };
  }

  private readCallback(inner: AnyFunction): AnyFunction {
    const act = inner as (...args: unknown[]) => void;
    return (...args: unknown[]) => {
      if (!this.pathOfFd.has(args[0] as number) || this.next() === null) return act(...args);
      const callback = args.at(-1) as (error: Error) => void;
      setImmediate(() => callback(this.failure('read')));
    };
  }

  private watch(handle: FileHandle, path: string): FileHandle {
    const { fd } = handle;
    this.pathOfFd.set(fd, path);
    const [write, sync, close] = [handle.write.bind(handle), handle.sync.bind(handle), handle.close.bind(handle)];
    handle.write = (async (bytes: Uint8Array, offset: number, length: number, position: number | null) => {
      const failing = this.next();
      if (failing === 'none') throw this.failure('write');
      const result = await write(bytes, offset, failing === 'half' ? Math.floor(length / 2) : length, position);
      this.wrote(path, result.bytesWritten);
      if (failing !== null) throw this.failure('write');
      return result;
    }) as FileHandle['write'];
    handle.sync = async () => {
      const failing = this.next();
      if (failing === 'none' || failing === 'half') throw this.failure('sync');
      await sync();
      this.synced(path);
      if (failing === 'whole') throw this.failure('sync');
    };
    handle.close = async () => {
      this.pathOfFd.delete(fd);
      await close();
      if (this.next() !== null) throw this.failure('close');
    };
    return handle;
  }

  private wrote(path: string, bytes: number): void {
    const file = this.written.get(path) ?? { syncedBytes: 0, bytes: 0 };
    this.written.set(path, { ...file, bytes: file.bytes + bytes });
  }

  private synced(path: string): void {
    const file = this.written.get(path);
    if (file !== undefined) file.syncedBytes = file.bytes;
  }

  private note(name: string, [from, to]: unknown[]): void {
    if (name.startsWith('rm')) this.written.delete(from as string);
    if (!name.startsWith('rename')) return;
    const file = this.written.get(from as string);
    this.written.delete(from as string);
    if (file !== undefined) this.written.set(to as string, file);
  }
}
