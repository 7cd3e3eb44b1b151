/**
 * Runs simulated schedules from the command line:
 *
 *   main.ts --schedules N [--seed S]   N schedules with the seeds from S (1) on. A failure prints its seed and runs it again with a trace.
 *   main.ts --seed S                   that schedule alone, with its trace when it fails.
 *   main.ts --planted [--schedules N]  every planted fault, for at most N schedules each.
 *
 * Exit code 1 when a schedule failed, a planted fault went unnoticed, or one called harmless was not.
 */
import { parseArgs } from 'node:util';
import { PLANTED_FAULTS } from './planted-faults.js';
import { runPlanted } from './run-planted.js';
import { runSchedule } from './schedule.js';
import type { ScheduleReport } from './schedule.js';

const PLANTED_SCHEDULES_MAX = 20_000;
const HARMLESS_SCHEDULES = 1_000;
const TRACE_LINES = 60;
const FAILURES_MAX = 5;
const PROGRESS_EVERY = 20_000;

const print = (text: string): boolean => process.stdout.write(`${text}\n`);

/** From the command line; throws for anything but a whole number of at least 1. */
function count(name: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new Error(`--${name} takes a whole number from 1 on, not ${text}`);
  return value;
}

/** Runs a seed again and shows how it came to fail. Returns whether it went the same way. */
function replay(report: ScheduleReport): boolean {
  const lines: string[] = [];
  const again = runSchedule(report.seed, { trace: (line) => lines.push(line) });
  for (const line of lines.slice(-TRACE_LINES)) print(`    ${line}`);
  const isSame = again.digest === report.digest && again.failure === report.failure;
  print(isSame ? '  replayed exactly' : `  NOT REPLAYED: the second time ${again.failure ?? 'it held'}`);
  return isSame;
}

class Totals {
  readonly startMs = performance.now();
  schedules = 0;
  failures = 0;
  private readonly sums = new Map<string, number>();

  add(report: ScheduleReport): void {
    this.schedules += 1;
    const { terms, counts } = report;
    for (const [name, value] of Object.entries({ terms, ...counts })) {
      this.sums.set(name, (this.sums.get(name) ?? 0) + value);
    }
  }

  print(): void {
    const seconds = (performance.now() - this.startMs) / 1000;
    const sums = [...this.sums].map(([name, value]) => `${name} ${value}`).join(', ');
    const rate = `${(this.schedules / seconds).toFixed(0)} schedules/s`;
    print(`${this.schedules} schedules in ${seconds.toFixed(1)} s (${rate}), ${this.failures} failed; ${sums}`);
  }
}

function runSchedules(firstSeed: number, schedules: number): boolean {
  const totals = new Totals();
  for (let seed = firstSeed; seed < firstSeed + schedules && totals.failures < FAILURES_MAX; seed++) {
    const report = runSchedule(seed);
    totals.add(report);
    if (report.failure !== null) {
      totals.failures += 1;
      print(`FAILED with ${report.safekeepers} safekeepers: ${report.failure}`);
      print(`  again: --seed ${seed}`);
      replay(report);
    }
    if (totals.schedules % PROGRESS_EVERY === 0) totals.print();
  }
  totals.print();
  return totals.failures === 0;
}

function runAllPlanted(firstSeed: number, schedulesMax: number): boolean {
  let wrong = 0;
  for (const fault of PLANTED_FAULTS) {
    const isHarmless = fault.harmless !== undefined;
    const report = runPlanted(fault, firstSeed, isHarmless ? Math.min(HARMLESS_SCHEDULES, schedulesMax) : schedulesMax);
    const { failure, seed, schedules, isAsExpected } = report;
    if (!isAsExpected) wrong += 1;
    const found =
      failure === null ? `nothing in ${schedules} schedules` : `seed ${seed}: ${failure.split('\n')[0] ?? ''}`;
    print(`${isAsExpected ? 'ok' : 'WRONG'}  ${fault.name}: ${fault.about}`);
    print(`      ${found}`);
    if (fault.harmless !== undefined) print(`      harmless: ${fault.harmless}`);
  }
  const harmless = PLANTED_FAULTS.filter((fault) => fault.harmless !== undefined).length;
  const planted = PLANTED_FAULTS.length;
  print(
    `${planted} faults planted, ${planted - harmless} to be noticed, ${harmless} harmless; ${wrong} not as expected`,
  );
  return wrong === 0;
}

const { values } = parseArgs({
  options: { schedules: { type: 'string' }, seed: { type: 'string' }, planted: { type: 'boolean', default: false } },
});
const seed = count('seed', values.seed, 1);
const otherwise = values.planted ? PLANTED_SCHEDULES_MAX : values.seed === undefined ? 1_000 : 1;
const schedules = count('schedules', values.schedules, otherwise);
const isGood = values.planted ? runAllPlanted(seed, schedules) : runSchedules(seed, schedules);
process.exitCode = isGood ? 0 : 1;
