/** The peer of the page read benchmark: answers each 47-byte request with a page-sized answer from memory. Prints its port. */
import net from 'node:net';
import { ANSWER_BYTES, REQUEST_BYTES } from './page-load.js';

const answer = Buffer.alloc(ANSWER_BYTES);
answer.write('d');
answer.writeUInt32BE(ANSWER_BYTES - 1, 1);
answer.writeUInt8(102, 5);

const server = net.createServer({ noDelay: true, highWaterMark: 256 * 1024 }, (socket) => {
  let have = 0;
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => {
    have += chunk.length;
    socket.cork();
    for (; have >= REQUEST_BYTES; have -= REQUEST_BYTES) socket.write(answer);
    socket.uncork();
  });
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  process.stdout.write(`${typeof address === 'object' && address !== null ? address.port : 0}\n`);
});
// Ends with the process that started it.
process.stdin.resume().on('end', () => process.exit(0));
