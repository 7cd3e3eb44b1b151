/** Tests that take long and whose commonest case another test has: they run with NEON_LONG=1, as in `npm run test:long`. */
export const LONG = process.env['NEON_LONG'] === '1';

export const long = LONG ? it : it.skip;
