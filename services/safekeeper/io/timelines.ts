/**
 * All timelines of this safekeeper, and their directories:
 *
 *   <datadir>/<tenant>/<timeline>/            safekeeper.control and WAL segments
 *   <datadir>/<tenant>/.new-<timeline>/       being created; means nothing after a restart
 *   <datadir>/<tenant>/.deleted-<timeline>-N/ being removed
 *
 * A timeline appears and disappears by one rename.
 */
import path from 'node:path';
import { errorKind, StorageError } from '#shared/core/errors.js';
import { formatTtid, parseTenantId, parseTimelineId, type TenantTimelineId } from '#shared/core/ids.js';
import { formatLsn, INVALID_LSN } from '#shared/core/lsn.js';
import type { ControlState } from '../core/acceptor-types.js';
import { sameMembership } from '../core/membership.js';
import { readControlFile, writeControlFile } from './control-store.js';
import { Timeline, type TimelineOptions } from './timeline.js';
import { WalStorage } from './wal-storage.js';

const NEW = '.new-';
const DELETED = '.deleted-';
const LOADS_AT_ONCE = 8;
const TIMELINES_COUNT_MAX = 100_000;

export interface TimelinesOptions extends Omit<TimelineOptions, 'dir'> {
  readonly dataDir: string;
  /** Called for each timeline that appears. */
  readonly onOpen?: (timeline: Timeline) => void;
}

export class Timelines {
  private readonly options: TimelinesOptions;
  private readonly open = new Map<string, Timeline>();
  /** Creations and deletions under way; others wait for them. */
  private readonly busy = new Map<string, Promise<unknown>>();
  /** Those that could not be read at start, with why. */
  private readonly broken = new Map<string, StorageError>();
  private deletedCount = 0;

  private constructor(options: TimelinesOptions) {
    this.options = options;
  }

  /** Opens all timelines. One that cannot be read is logged, and answers its error; the others work. */
  static async load(options: TimelinesOptions): Promise<Timelines> {
    const timelines = new Timelines(options);
    const found = await timelines.scan();
    let next = 0;
    const worker = async (): Promise<void> => {
      for (let ttid = found[next++]; ttid !== undefined; ttid = found[next++]) await timelines.loadOne(ttid);
    };
    await Promise.all(Array.from({ length: LOADS_AT_ONCE }, worker));
    return timelines;
  }

  get count(): number {
    return this.open.size;
  }

  all(): Timeline[] {
    return [...this.open.values()];
  }

  find(ttid: TenantTimelineId): Timeline | undefined {
    return this.open.get(formatTtid(ttid));
  }

  /** Throws `not-found`, or why the timeline could not be read. */
  get(ttid: TenantTimelineId): Timeline {
    const key = formatTtid(ttid);
    const timeline = this.open.get(key);
    if (timeline !== undefined) return timeline;
    throw this.broken.get(key) ?? new StorageError('not-found', `timeline ${key} is not on this safekeeper`);
  }

  /** What is on disk at this moment. */
  controlFile(ttid: TenantTimelineId): Promise<ControlState> {
    return readControlFile(this.options.disk, this.dirOf(ttid));
  }

  /** Idempotent for equal parameters; `already-exists` otherwise. */
  async create(control: ControlState): Promise<Timeline> {
    const key = formatTtid(control.ttid);
    for (;;) {
      const { open, broken, busy } = this;
      const existing = open.get(key);
      if (existing !== undefined) {
        checkSameTimeline(existing.view.control, control);
        return existing;
      }
      const problem = broken.get(key);
      if (problem !== undefined) throw problem;
      const other = busy.get(key);
      if (other === undefined) break;
      await other.catch(() => undefined);
    }
    if (this.open.size >= TIMELINES_COUNT_MAX) {
      throw new StorageError('exhausted', `this safekeeper has ${this.open.size} timelines already`);
    }
    return this.exclusively(key, async () => {
      await this.createFiles(control);
      return this.openOne(control.ttid);
    });
  }

  /** Makes a timeline that `fill` writes the WAL of; it returns what the control file will hold. Nothing stays when it throws. */
  async install(
    named: Pick<ControlState, 'ttid' | 'segSize'>,
    fill: (storage: WalStorage) => Promise<ControlState>,
  ): Promise<Timeline> {
    const { ttid, segSize } = named;
    const key = formatTtid(ttid);
    for (let other = this.busy.get(key); other !== undefined; other = this.busy.get(key)) {
      await other.catch(() => undefined);
    }
    if (this.open.has(key) || this.broken.has(key)) {
      throw new StorageError('already-exists', `timeline ${key} is on this safekeeper`);
    }
    return this.exclusively(key, async () => {
      const { disk, counters } = this.options;
      const fresh = path.join(this.tenantDir(ttid), NEW + ttid.timelineId);
      await disk.remove(fresh);
      await disk.ensureDir(fresh);
      const storage = new WalStorage({ disk, dir: fresh, segSize, counters });
      try {
        const control = await fill(storage);
        await storage.close();
        await writeControlFile(disk, fresh, control);
        await disk.rename(fresh, this.dirOf(ttid));
        await disk.syncDir(this.tenantDir(ttid));
      } catch (error) {
        await storage.close().catch(() => undefined);
        await disk.remove(fresh);
        throw error;
      }
      return this.openOne(ttid);
    });
  }

  /** Returns whether it existed. `onlyLocal`: its WAL stays in the object store, and the other safekeepers keep the timeline. */
  async delete(ttid: TenantTimelineId, onlyLocal = false): Promise<boolean> {
    const key = formatTtid(ttid);
    for (let other = this.busy.get(key); other !== undefined; other = this.busy.get(key)) {
      await other.catch(() => undefined);
    }
    const timeline = this.open.get(key);
    if (timeline === undefined && !this.broken.has(key)) return false;
    return this.exclusively(key, async () => {
      this.open.delete(key);
      await timeline?.close();
      const { disk, log } = this.options;
      const doomed = path.join(this.tenantDir(ttid), `${DELETED}${ttid.timelineId}-${++this.deletedCount}`);
      await disk.remove(doomed);
      await disk.rename(this.dirOf(ttid), doomed);
      await disk.syncDir(this.tenantDir(ttid));
      this.broken.delete(key);
      await disk.remove(doomed);
      if (!onlyLocal) await this.options.objects?.deleteAll(ttid);
      log.info({ tenant: ttid.tenantId, timeline: ttid.timelineId }, 'deleted timeline');
      return true;
    });
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.busy.values());
    await Promise.all(this.all().map((timeline) => timeline.close()));
    this.open.clear();
  }

  private async exclusively<T>(key: string, act: () => Promise<T>): Promise<T> {
    const running = act().finally(() => this.busy.delete(key));
    this.busy.set(key, running);
    return running;
  }

  private async createFiles(control: ControlState): Promise<void> {
    const { disk, counters } = this.options;
    const { ttid, segSize, timelineStartLsn, systemId } = control;
    const fresh = path.join(this.tenantDir(ttid), NEW + ttid.timelineId);
    await disk.remove(fresh);
    await disk.ensureDir(fresh);
    if (timelineStartLsn !== INVALID_LSN) {
      const storage = new WalStorage({ disk, dir: fresh, segSize, counters });
      await storage.start(timelineStartLsn, systemId);
      await storage.close();
    }
    await writeControlFile(disk, fresh, control);
    await disk.rename(fresh, this.dirOf(ttid));
    await disk.syncDir(this.tenantDir(ttid));
    const { tenantId: tenant, timelineId: timeline } = ttid;
    this.options.log.info({ tenant, timeline, startLsn: formatLsn(timelineStartLsn) }, 'created timeline');
  }

  private async openOne(ttid: TenantTimelineId): Promise<Timeline> {
    const timeline = await Timeline.open({ ...this.options, dir: this.dirOf(ttid) });
    if (formatTtid(timeline.ttid) !== formatTtid(ttid)) {
      await timeline.close();
      throw new StorageError('corrupt', `the control file in ${this.dirOf(ttid)} is of ${formatTtid(timeline.ttid)}`);
    }
    this.open.set(formatTtid(ttid), timeline);
    this.options.onOpen?.(timeline);
    return timeline;
  }

  private async loadOne(ttid: TenantTimelineId): Promise<void> {
    try {
      await this.openOne(ttid);
    } catch (err) {
      this.options.log.error({ err, timeline: formatTtid(ttid) }, 'could not open timeline');
      const why = new StorageError(errorKind(err), `timeline ${formatTtid(ttid)} could not be opened`, { cause: err });
      this.broken.set(formatTtid(ttid), why);
    }
  }

  /** Timelines on disk. Removes what creations and deletions left behind. */
  private async scan(): Promise<TenantTimelineId[]> {
    const { disk, dataDir } = this.options;
    const found: TenantTimelineId[] = [];
    for (const tenant of (await disk.list(dataDir)).filter(isId).sort()) {
      const tenantDir = path.join(dataDir, tenant);
      for (const name of (await disk.list(tenantDir)).sort()) {
        if (name.startsWith(NEW) || name.startsWith(DELETED)) await disk.remove(path.join(tenantDir, name));
        if (isId(name)) found.push({ tenantId: parseTenantId(tenant), timelineId: parseTimelineId(name) });
      }
    }
    return found;
  }

  private tenantDir(ttid: TenantTimelineId): string {
    return path.join(this.options.dataDir, ttid.tenantId);
  }

  private dirOf(ttid: TenantTimelineId): string {
    return path.join(this.tenantDir(ttid), ttid.timelineId);
  }
}

function isId(name: string): boolean {
  return /^[0-9a-f]{32}$/.test(name);
}

/** What has not been known so far does not contradict. */
function checkSameTimeline(existing: ControlState, wanted: ControlState): void {
  const differs = <T>(a: T, b: T, unknown: T): boolean => a !== b && a !== unknown && b !== unknown;
  const problem = differs(existing.timelineStartLsn, wanted.timelineStartLsn, INVALID_LSN)
    ? `begins at ${formatLsn(existing.timelineStartLsn)}`
    : differs(existing.systemId, wanted.systemId, 0n)
      ? `has the system identifier ${existing.systemId}`
      : existing.segSize !== wanted.segSize
        ? `has WAL segments of ${existing.segSize} bytes`
        : differs(Math.floor(existing.pgVersion / 10000), Math.floor(wanted.pgVersion / 10000), 0)
          ? `belongs to PostgreSQL ${Math.floor(existing.pgVersion / 10000)}`
          : wanted.membership.generation > 0 && !sameMembership(existing.membership, wanted.membership)
            ? `is in membership configuration ${existing.membership.generation}`
            : null;
  if (problem !== null) throw new StorageError('already-exists', `timeline ${formatTtid(existing.ttid)} ${problem}`);
}
