/**
 * A page server and safekeepers for a rehearsal: they give the answers of an empty timeline, keep nothing, and are reached by nobody but this
 * process.
 */
import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { pack } from 'tar-stream';
import { ManagementServiceService, TimelineInfo } from '#gen/neon/pageserver/v1/management.js';
import type { GetTimelineRequest, GetTimelineResponse } from '#gen/neon/pageserver/v1/management.js';
import { PageServiceService } from '#gen/neon/pageserver/v1/page_service.js';
import type { GetBaseBackupRequest, GetBaseBackupResponse } from '#gen/neon/pageserver/v1/page_service.js';
import { ConsensusServiceService } from '#gen/neon/safekeeper/v1/safekeeper.js';
import type { ProposeRequest, ProposeResponse } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { lsn, lsnToWire } from '#shared/core/lsn.js';
import { placeholderControlFile } from '#shared/postgres/control-file.js';
import { crc32c } from '#shared/postgres/crc32c.js';
import { DATA_DIRECTORIES } from '#shared/postgres/data-directories.js';
import { bidi, serverStream, unary } from '#shared/rpc/handlers.js';
import type { ResponseWriter } from '#shared/rpc/handlers.js';

export const SEG_SIZE = 16 << 20;
const SYSTEM_ID = 1n;
export const PG_MAJOR = 15;
/** Behind the headers of the first segment that a server writes. */
const START_LSN = lsnToWire(lsn(SEG_SIZE + 40));
const SEGMENT = '000000010000000000000001';
/** Files of the usual number and size. */
const FILES = 30;
const FILE_BYTES = 512;

type Writer = ResponseWriter<GetBaseBackupResponse>;
type Requests = AsyncIterable<ProposeRequest>;
type Replies = ResponseWriter<ProposeResponse>;
type Services = ReadonlyArray<readonly [ServiceDefinition, UntypedServiceImplementation]>;

export async function standIns(): Promise<Services> {
  const tar = await emptyCluster();
  let nodes = 0;
  return [
    [ManagementServiceService, { getTimeline: unary(getTimeline) }],
    [
      PageServiceService,
      { getBaseBackup: serverStream((_: GetBaseBackupRequest, writer: Writer) => send(writer, tar)) },
    ],
    [
      ConsensusServiceService,
      { propose: bidi((requests: Requests, writer: Replies) => accept(requests, writer, BigInt(++nodes))) },
    ],
  ];
}

function getTimeline({ ttid }: GetTimelineRequest): Promise<GetTimelineResponse> {
  const facts = { pgMajorVersion: PG_MAJOR, systemId: SYSTEM_ID, walSegSize: SEG_SIZE, lastRecordLsn: START_LSN };
  return Promise.resolve({ timeline: TimelineInfo.fromPartial({ ttid, ...facts }) });
}

async function emptyCluster(): Promise<Buffer> {
  const tar = pack();
  for (const name of [...DATA_DIRECTORIES, 'base/1']) tar.entry({ name, type: 'directory' });
  for (let index = 0; index < FILES; index++) tar.entry({ name: `base/1/${index}` }, Buffer.alloc(FILE_BYTES, index));
  tar.entry({ name: 'global/pg_control' }, Buffer.from(placeholderControlFile(SEG_SIZE)));
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function send(writer: Writer, tar: Buffer): Promise<void> {
  const piece = Buffer.alloc(FILE_BYTES, 1);
  const header = {
    lsn: START_LSN,
    prevRecordLsn: 0n,
    checkpointLsn: START_LSN,
    systemId: SYSTEM_ID,
    pgMajorVersion: PG_MAJOR,
    walSegSize: SEG_SIZE,
  };
  const segment = { name: SEGMENT, sizeBytes: SEG_SIZE, pieces: [{ offset: 0, data: piece }] };
  const all = Buffer.concat([tar, piece]);
  const trailer = { totalBytes: BigInt(all.length), crc32c: crc32c(all, 0, all.length) };
  await writer.write({ part: { $case: 'header', value: header } });
  await writer.write({ part: { $case: 'chunk', value: tar } });
  await writer.write({ part: { $case: 'walSegment', value: segment } });
  await writer.write({ part: { $case: 'trailer', value: trailer } });
}

/** A safekeeper that has nothing, and votes for whoever asks. */
async function accept(requests: Requests, writer: Replies, nodeId: bigint): Promise<void> {
  for await (const { message } of requests) {
    const answer = answerTo(message, nodeId);
    if (answer !== null) await writer.write({ message: answer });
  }
}

function answerTo(message: ProposeRequest['message'], nodeId: bigint): NonNullable<ProposeResponse['message']> | null {
  switch (message?.$case) {
    case 'greeting':
      return { $case: 'greeting', value: { nodeId, mconf: undefined, term: 0n } };
    case 'vote': {
      const { generation, term } = message.value;
      const nothing = { flushLsn: 0n, truncateLsn: 0n, termHistory: [] };
      return { $case: 'vote', value: { generation, term, voteGiven: true, ...nothing } };
    }
    case 'append': {
      const { generation, term, beginLsn, commitLsn } = message.value;
      const noFeedback = { pageserverFeedback: undefined, hotStandbyFeedback: undefined };
      return { $case: 'append', value: { generation, term, flushLsn: beginLsn, commitLsn, ...noFeedback } };
    }
    default:
      return null;
  }
}
