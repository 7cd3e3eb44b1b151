/**
 * Who wants which messages. Publishing puts a message into the queue of every subscription that matches, never waits, and keeps
 * nothing for those who come later. A queue is bounded; a slow subscriber loses its oldest messages.
 */
import { Ring } from './ring.js';

export type MessageKind = 'info' | 'discovery-request' | 'discovery-response';

export interface Filter {
  readonly kinds: ReadonlySet<MessageKind>;
  /** "tenant/timeline"; null = all timelines. */
  readonly timeline: string | null;
}

/** About half a minute of one timeline's messages from three safekeepers at one a second, with room for bursts. */
export const TIMELINE_QUEUE_COUNT_MAX = 32;
/** For those who follow everything. */
export const ALL_QUEUE_COUNT_MAX = 16_384;

export class Subscription<M> {
  readonly filter: Filter;
  private readonly ring: Ring<M>;
  private readonly registry: Registry<M>;
  private readonly wake: () => void;

  /** Made by Registry.subscribe alone. */
  constructor(registry: Registry<M>, filter: Filter, wake: () => void) {
    this.registry = registry;
    this.filter = filter;
    this.wake = wake;
    this.ring = new Ring(filter.timeline === null ? ALL_QUEUE_COUNT_MAX : TIMELINE_QUEUE_COUNT_MAX);
  }

  get droppedCount(): number {
    return this.ring.droppedCount;
  }

  /** The oldest queued message. */
  take(): M | undefined {
    const message = this.ring.shift();
    if (message !== undefined) this.registry.deliveredCount += 1;
    return message;
  }

  offer(message: M): void {
    const dropped = this.ring.droppedCount;
    this.ring.push(message);
    this.registry.droppedCount += this.ring.droppedCount - dropped;
    if (this.ring.count === 1) this.wake();
  }

  close(): void {
    this.registry.remove(this);
  }
}

export class Registry<M> {
  publishedCount = 0;
  deliveredCount = 0;
  droppedCount = 0;
  private readonly byTimeline = new Map<string, Set<Subscription<M>>>();
  private readonly all = new Set<Subscription<M>>();
  private subscribers = 0;

  get subscriberCount(): number {
    return this.subscribers;
  }

  /** Timelines that somebody follows by name. */
  get timelineCount(): number {
    return this.byTimeline.size;
  }

  /** `wake` is called when the first message comes into an empty queue; it must return at once. */
  subscribe(filter: Filter, wake: () => void): Subscription<M> {
    const subscription = new Subscription(this, filter, wake);
    const { timeline } = filter;
    if (timeline === null) {
      this.all.add(subscription);
    } else {
      const set = this.byTimeline.get(timeline) ?? new Set();
      this.byTimeline.set(timeline, set.add(subscription));
    }
    this.subscribers += 1;
    return subscription;
  }

  remove(subscription: Subscription<M>): void {
    const { timeline } = subscription.filter;
    const set = timeline === null ? this.all : this.byTimeline.get(timeline);
    if (set?.delete(subscription) !== true) return;
    this.subscribers -= 1;
    if (timeline !== null && set.size === 0) this.byTimeline.delete(timeline);
  }

  /** Returns to how many subscribers it went. */
  publish(kind: MessageKind, timeline: string, message: M): number {
    this.publishedCount += 1;
    let count = 0;
    for (const set of [this.all, this.byTimeline.get(timeline)]) {
      if (set === undefined) continue;
      for (const subscription of set) {
        if (!subscription.filter.kinds.has(kind)) continue;
        subscription.offer(message);
        count += 1;
      }
    }
    return count;
  }
}
