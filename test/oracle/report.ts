/** Counts per resource manager, and the table that is printed. */
import { RMGR_NAMES } from '#shared/postgres/rmgr.js';
import Table from 'cli-table3';

export interface RmgrCounts {
  records: number;
  /** Page changes redone. */
  redone: number;
  comparisons: number;
  mismatches: number;
  /** Page changes of resource managers that redo does not have. */
  unimplemented: number;
}

const EXAMPLES_MAX = 20;

export class OracleReport {
  readonly counts = new Map<number, RmgrCounts>();
  /** Number of page changes by resource manager, operation and block id: what the load reached. */
  readonly reached = new Map<string, number>();
  /** The first mismatches and errors, in words. */
  readonly examples: string[] = [];
  errors = 0;
  /** Pages whose records were also applied in one call. */
  chains = 0;
  redoMs = 0;

  of(rmid: number): RmgrCounts {
    let counts = this.counts.get(rmid);
    if (counts === undefined) {
      counts = { records: 0, redone: 0, comparisons: 0, mismatches: 0, unimplemented: 0 };
      this.counts.set(rmid, counts);
    }
    return counts;
  }

  reach(rmid: number, operation: number, blockId: number): void {
    const name = `${RMGR_NAMES[rmid] ?? rmid} ${operation.toString(16).padStart(2, '0')} block ${blockId}`;
    this.reached.set(name, (this.reached.get(name) ?? 0) + 1);
  }

  note(example: string): void {
    if (this.examples.length < EXAMPLES_MAX) this.examples.push(example);
  }

  error(example: string): void {
    this.errors++;
    this.note(example);
  }

  total(field: keyof RmgrCounts): number {
    let sum = 0;
    for (const counts of this.counts.values()) sum += counts[field];
    return sum;
  }

  get passed(): boolean {
    return this.errors === 0 && this.total('mismatches') === 0 && this.total('comparisons') > 0;
  }

  toTable(): string {
    const table = new Table({
      head: ['resource manager', 'records', 'redone', 'comparisons', 'mismatches', 'unimplemented'],
      style: { head: [], border: [] },
    });
    // All that there are, so that one which the loads do not reach is seen.
    for (const [rmid, name] of RMGR_NAMES.entries()) {
      const c = this.of(rmid);
      table.push([name, c.records, c.redone, c.comparisons, c.mismatches, c.unimplemented]);
    }
    return table.toString();
  }
}
