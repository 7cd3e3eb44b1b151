import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { Registry, TIMELINE_QUEUE_COUNT_MAX, type MessageKind, type Subscription } from './registry.js';
import { Ring } from './ring.js';

const INFO: ReadonlySet<MessageKind> = new Set(['info']);

function drain<M>(subscription: Subscription<M>): M[] {
  const out: M[] = [];
  for (let message = subscription.take(); message !== undefined; message = subscription.take()) out.push(message);
  return out;
}

describe('ring', () => {
  it('equals an array that is cut at its front', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5 }), fc.array(fc.option(fc.nat())), (capacity, operations) => {
        const ring = new Ring<number>(capacity);
        const twin: number[] = [];
        let dropped = 0;
        for (const value of operations) {
          if (value === null) {
            assert.equal(ring.shift(), twin.shift());
          } else {
            ring.push(value);
            twin.push(value);
            if (twin.length > capacity) dropped += twin.splice(0, 1).length;
          }
          assert.equal(ring.count, twin.length);
        }
        assert.equal(ring.droppedCount, dropped);
      }),
    );
  });
});

describe('broker registry', () => {
  it('delivers by kind and timeline, in order', () => {
    const registry = new Registry<string>();
    const all = registry.subscribe({ kinds: INFO, timeline: null }, () => undefined);
    const one = registry.subscribe(
      { kinds: new Set<MessageKind>(['info', 'discovery-request']), timeline: 'a/1' },
      () => undefined,
    );
    assert.equal(registry.publish('info', 'a/1', 'x'), 2);
    assert.equal(registry.publish('info', 'a/2', 'y'), 1);
    assert.equal(registry.publish('discovery-request', 'a/1', 'z'), 1);
    assert.equal(registry.publish('discovery-response', 'a/1', 'nobody'), 0);
    assert.deepEqual(drain(all), ['x', 'y']);
    assert.deepEqual(drain(one), ['x', 'z']);
    assert.equal(registry.publishedCount, 4);
    assert.equal(registry.deliveredCount, 4);
  });

  it('wakes once per burst, drops the oldest for the slow and counts it', () => {
    const registry = new Registry<number>();
    let wakes = 0;
    const slow = registry.subscribe({ kinds: INFO, timeline: 't' }, () => wakes++);
    for (let n = 0; n < TIMELINE_QUEUE_COUNT_MAX + 5; n++) registry.publish('info', 't', n);
    assert.equal(wakes, 1);
    assert.equal(slow.droppedCount, 5);
    assert.equal(registry.droppedCount, 5);
    assert.deepEqual(
      drain(slow),
      Array.from({ length: TIMELINE_QUEUE_COUNT_MAX }, (_, index) => index + 5),
    );
    registry.publish('info', 't', 1);
    assert.equal(wakes, 2);
  });

  it('forgets closed subscriptions and their timelines', () => {
    const registry = new Registry<number>();
    const one = registry.subscribe({ kinds: INFO, timeline: 't' }, () => undefined);
    const two = registry.subscribe({ kinds: INFO, timeline: 't' }, () => undefined);
    one.close();
    one.close();
    assert.equal(registry.subscriberCount, 1);
    assert.equal(registry.timelineCount, 1);
    two.close();
    assert.equal(registry.subscriberCount, 0);
    assert.equal(registry.timelineCount, 0);
    assert.equal(registry.publish('info', 't', 1), 0);
  });
});
