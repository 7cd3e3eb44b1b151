import { strict as assert } from 'node:assert';
import { NO_ACTIVITY, noteActivity } from './activity.js';
import type { Activity, ActivitySample } from './activity.js';

const quiet = { nowMs: 0, busySessions: 0, idleSinceMs: null, walSenders: 0, subscriptionWorkers: 0, sessionsBegun: 7 };
/** Looks once a second from 1000 on; returns when the compute was last active after each. */
function watch(...samples: Partial<ActivitySample>[]): (number | null)[] {
  let activity: Activity = NO_ACTIVITY;
  return samples.map((sample, index) => {
    activity = noteActivity(activity, { ...quiet, nowMs: (index + 1) * 1000, ...sample });
    return activity.lastActiveMs;
  });
}

describe('activity', () => {
  it('is none while nobody comes', () => {
    assert.deepEqual(watch({}, {}, {}), [null, null, null]);
  });

  it('lasts while something runs, and then stays where it was', () => {
    for (const busy of ['busySessions', 'walSenders', 'subscriptionWorkers'] as const) {
      assert.deepEqual(watch({}, { [busy]: 1 }, { [busy]: 2 }, {}), [null, 2000, 3000, 3000]);
    }
  });

  it('of an idle session is its last statement, and never goes back', () => {
    assert.deepEqual(watch({ idleSinceMs: 500 }, { idleSinceMs: 500 }, { idleSinceMs: 100 }, {}), [500, 500, 500, 500]);
  });

  it('finds sessions that came and went between two looks, and not our own', () => {
    const looks = [{}, { sessionsBegun: 8 }, { sessionsBegun: 8 }, { sessionsBegun: 6 }, { sessionsBegun: 8 }];
    assert.deepEqual(watch(...looks, { sessionsBegun: 9 }), [null, 2000, 2000, 2000, 2000, 6000]);
  });

  it('goes on after the statistics were reset', () => {
    assert.deepEqual(watch({ sessionsBegun: 900 }, { sessionsBegun: 0 }, { sessionsBegun: 1 }), [null, null, 3000]);
  });
});
