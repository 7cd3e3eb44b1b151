/**
 * The size of the set of pages that a compute works on, from how many different pages it needed in the last 1, 2, 3, … minutes. Such a
 * curve rises while pages of the working set are met for the first time, flattens when all of them have been, and rises again where
 * the window reaches back to something else, such as a scan of an hour ago. The end of the flat part is the size. Pure.
 */

/** Minutes at a time over which rises are compared. */
const WINDOW_MINUTES = 5;
/** The first minutes say too little. */
const FIRST_MINUTE = 5;
/** A rise so many times that of before is the beginning of something else. */
const RISE_FACTOR = 3;

/** `series[n]`: within the last n + 1 minutes. 0 when there is none. */
export function estimateWorkingSet(series: readonly number[]): number {
  const at = (index: number): number => series[index] ?? 0;
  const steps = WINDOW_MINUTES - 1;
  for (let index = FIRST_MINUTE - 1; index + steps < series.length; index++) {
    const before = at(index) - at(index - steps);
    const after = at(index + steps) - at(index);
    if (after > RISE_FACTOR * before) return at(index);
  }
  return at(series.length - 1);
}

/** The highest value that the series has, or would reach in `ahead` steps more at the pace of its last one. */
export function projectHighest(series: readonly number[], ahead: number): number {
  let highest = 0;
  let previous = 0;
  for (const value of series) {
    highest = Math.max(highest, value + (value - previous) * ahead);
    previous = value;
  }
  return highest;
}
