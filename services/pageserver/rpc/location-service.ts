/** neon.pageserver.v1.LocationService: message in, call of the tenant manager, message out. */
import type { Location as WireLocation, LocationServiceServer } from '#gen/neon/pageserver/v1/location.js';
import { LocationMode as WireMode } from '#gen/neon/pageserver/v1/location.js';
import { StorageError } from '#shared/core/errors.js';
import { parseShardId } from '#shared/core/shard.js';
import { unary } from '#shared/rpc/handlers.js';
import type { Location, LocationMode } from '../tenant/location.js';
import type { TenantManager } from '../tenant/tenant-manager.js';

const MODES: ReadonlyArray<readonly [LocationMode, WireMode]> = [
  ['attached-single', WireMode.ATTACHED_SINGLE],
  ['attached-multi', WireMode.ATTACHED_MULTI],
  ['attached-stale', WireMode.ATTACHED_STALE],
  ['secondary', WireMode.SECONDARY],
  ['detached', WireMode.DETACHED],
];

function toWire({ mode, generation }: Location): WireLocation {
  return { mode: MODES.find(([own]) => own === mode)?.[1] ?? WireMode.UNSPECIFIED, generation };
}

function fromWire(location: WireLocation | undefined): Location {
  const mode = MODES.find(([, wire]) => wire === location?.mode)?.[0];
  if (location === undefined || mode === undefined)
    throw new StorageError('invalid', 'the request names no location mode');
  return { mode, generation: location.generation };
}

export function locationService({ tenants }: { readonly tenants: TenantManager }): LocationServiceServer {
  return {
    setLocation: unary(async (request) => {
      const tenantId = parseShardId(request.tenantId);
      const location = fromWire(request.location);
      const set = request.create ? tenants.attachOrCreate(tenantId, location) : tenants.setLocation(tenantId, location);
      await set;
      return { location: toWire(tenants.location(tenantId)) };
    }),
    getLocation: unary(async ({ tenantId }) => ({ location: toWire(tenants.location(parseShardId(tenantId))) })),
    listLocations: unary(async () => ({
      locations: tenants.locations().map(({ tenantId, location }) => ({ tenantId, location: toWire(location) })),
    })),
    downloadSecondary: unary(async ({ tenantId }) => {
      const progress = await tenants.downloadSecondary(parseShardId(tenantId));
      const { layersTotal, layersDownloaded, bytesTotal, bytesDownloaded } = progress;
      return {
        layersTotal,
        layersDownloaded,
        bytesTotal: BigInt(bytesTotal),
        bytesDownloaded: BigInt(bytesDownloaded),
      };
    }),
  };
}
