/** neon.safekeeper.v1.TimelineAdminService: moving timelines between safekeepers, and comparing them. */
import { StorageError } from '#shared/core/errors.js';
import { formatTtid, parseTtid } from '#shared/core/ids.js';
import { termFromWire } from '#shared/consensus/term-history.js';
import { unary } from '#shared/rpc/handlers.js';
import type {
  BumpTermRequest,
  BumpTermResponse,
  ExcludeTimelineRequest,
  ExcludeTimelineResponse,
  GetControlFileRequest,
  GetControlFileResponse,
  GetDigestRequest,
  GetDigestResponse,
  PullTimelineRequest,
  PullTimelineResponse,
  SetMembershipRequest,
  SetMembershipResponse,
  TimelineAdminServiceServer,
} from '#gen/neon/safekeeper/v1/timeline_admin.js';
import { digestOf } from '../io/digest.js';
import { controlJson } from '../io/dump-control.js';
import { pullTimeline, type PullDeps } from '../io/pull.js';
import { membershipFromWire, positionFromWire, statusToWire } from './conversion.js';

const SOURCES_COUNT_MAX = 100;

export function timelineAdminService(deps: PullDeps): TimelineAdminServiceServer {
  const { timelines } = deps;
  return {
    pullTimeline: unary(async (request: PullTimelineRequest): Promise<PullTimelineResponse> => {
      if (request.sourceAddrs.length > SOURCES_COUNT_MAX) {
        throw new StorageError('invalid', `a timeline is pulled from at most ${SOURCES_COUNT_MAX} safekeepers`);
      }
      const membership = request.mconf === undefined ? null : membershipFromWire(request.mconf);
      const { ttid, sourceAddrs } = request;
      const { timeline, source } = await pullTimeline(deps, { ttid: parseTtid(ttid), sourceAddrs, membership });
      return { status: statusToWire(timeline), source };
    }),
    setMembership: unary(async (request: SetMembershipRequest): Promise<SetMembershipResponse> => {
      const timeline = timelines.get(parseTtid(request.ttid));
      await timeline.run({ kind: 'membership', membership: membershipFromWire(request.mconf) });
      return { status: statusToWire(timeline) };
    }),
    bumpTerm: unary(async (request: BumpTermRequest): Promise<BumpTermResponse> => {
      const timeline = timelines.get(parseTtid(request.ttid));
      await timeline.run({ kind: 'bump-term', term: termFromWire(request.term) });
      return { status: statusToWire(timeline) };
    }),
    getDigest: unary(async (request: GetDigestRequest): Promise<GetDigestResponse> => {
      const timeline = timelines.get(parseTtid(request.ttid));
      const [from, until] = [positionFromWire(request.fromLsn), positionFromWire(request.untilLsn)];
      return { sha256: await digestOf(timeline, from, until), byteCount: BigInt(until - from) };
    }),
    getControlFile: unary(async (request: GetControlFileRequest): Promise<GetControlFileResponse> => {
      return { json: JSON.stringify(controlJson(await timelines.controlFile(parseTtid(request.ttid)))) };
    }),
    excludeTimeline: unary(async (request: ExcludeTimelineRequest): Promise<ExcludeTimelineResponse> => {
      const ttid = parseTtid(request.ttid);
      const generation = timelines.find(ttid)?.view.control.membership.generation ?? 0;
      if (generation > request.generation) {
        throw new StorageError('precondition', `timeline ${formatTtid(ttid)} is in configuration ${generation} here`);
      }
      return { existed: await timelines.delete(ttid, true) };
    }),
  };
}
