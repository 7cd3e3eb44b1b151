/** The one timeline of a simulated world. */
import { parseTtid } from '#shared/core/ids.js';

export const TTID = parseTtid({ tenantId: '1'.repeat(32), timelineId: '2'.repeat(32) });
