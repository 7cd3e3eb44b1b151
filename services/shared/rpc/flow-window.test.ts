import { strict as assert } from 'node:assert';
import { connect } from 'node:http2';
import { once } from 'node:events';
import { silentLogger } from '../runtime/log.js';
import { FLOW_WINDOW_BYTES } from './flow-window.js';
import { startGrpcServer } from './server.js';

describe('the window of a gRPC server', () => {
  it('lets a client send a piece of WAL without waiting', async () => {
    const server = await startGrpcServer({ addr: '127.0.0.1:0', log: silentLogger, services: [] });
    const session = connect(`http://${server.addr}`);
    try {
      await once(session, 'remoteSettings');
      assert.equal(session.remoteSettings.initialWindowSize, FLOW_WINDOW_BYTES);
      // Of the connection; it comes by a frame of its own.
      await new Promise((resolve) => session.ping(() => resolve(undefined)));
      assert.equal(session.state.remoteWindowSize, FLOW_WINDOW_BYTES);
    } finally {
      session.destroy();
      await server.shutdown(0);
    }
  });
});
