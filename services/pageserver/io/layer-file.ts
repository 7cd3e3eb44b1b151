/**
 * One layer as this server knows it: its span, its object, its local file (a cache that may be absent) and what is loaded of it. Who
 * loads, and what is evicted, is the layer cache's business.
 */
import { join } from 'node:path';
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../core/key.js';
import type { LruEntry } from '../core/storage/byte-lru.js';
import type { DecodedBlock } from '../core/storage/layer-block.js';
import type { LayerIndex, LayerOwner } from '../core/storage/layer-format.js';
import type { LayerMetadata } from '../core/storage/index-part.js';
import { parseLayerFileName } from '../core/storage/layer-name.js';
import type { LayerSpan } from '../core/storage/layer-name.js';
import { layerKey } from './object-keys.js';

export interface CachedIndex extends LruEntry {
  readonly kind: 'index';
  readonly layer: LayerFile;
  readonly index: LayerIndex;
}

export interface CachedBlock extends LruEntry {
  readonly kind: 'block';
  readonly layer: LayerFile;
  readonly blockNumber: number;
  readonly block: DecodedBlock;
}

export class LayerFile implements LayerSpan {
  readonly kind: LayerSpan['kind'];
  readonly keyStart: Key;
  readonly keyEnd: Key;
  readonly lsnStart: Lsn;
  readonly lsnEnd: Lsn;
  readonly name: string;
  readonly dir: string;
  readonly path: string;
  readonly objectKey: string;
  readonly owner: LayerOwner;
  readonly metadata: LayerMetadata;
  /** The local file is there and complete. */
  resident: boolean;
  /** The object is there. */
  uploaded: boolean;
  /** Uses of the local file under way: it is not evicted meanwhile. */
  pins = 0;
  /** Replaced by other layers: its files are going away; a reader must plan anew. */
  retired = false;
  /** A damaged local file is thrown away once, and fetched again by the next read. */
  refetching: Promise<void> | null = null;

  cachedIndex: CachedIndex | null = null;
  readonly cachedBlocks = new Map<number, CachedBlock>();

  constructor(options: {
    name: string;
    dir: string;
    owner: LayerOwner;
    metadata: LayerMetadata;
    resident: boolean;
    uploaded: boolean;
  }) {
    const { span } = parseLayerFileName(options.name);
    this.kind = span.kind;
    this.keyStart = span.keyStart;
    this.keyEnd = span.keyEnd;
    this.lsnStart = span.lsnStart;
    this.lsnEnd = span.lsnEnd;
    this.name = options.name;
    this.dir = options.dir;
    this.path = join(options.dir, options.name);
    const { ttid } = options.owner;
    const { heldBy } = options.metadata;
    this.objectKey = layerKey(heldBy === undefined ? ttid : { ...ttid, tenantId: heldBy }, options.name);
    this.owner = options.owner;
    this.metadata = options.metadata;
    this.resident = options.resident;
    this.uploaded = options.uploaded;
  }
}
