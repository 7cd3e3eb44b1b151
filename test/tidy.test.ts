/** The house rules that can be checked by reading the sources. docs/style.md says why they are there. */
import { strict as assert } from 'node:assert';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import ts from 'typescript';

const ROOT = resolve(import.meta.dirname, '..');
const FILE_LINES_MAX = 600;
const FUNCTION_LINES_MAX = 70;

/** What code under core/ may not mention: everything that is time, chance, outside world, or waits. */
const CORE_BANS: ReadonlyArray<readonly [RegExp, string]> = [
  [/\bDate\.now\b|\bnew Date\(\)/, 'the clock'],
  [/\bMath\.random\b/, 'randomness'],
  [/\bsetTimeout\b|\bsetInterval\b|\bsetImmediate\b/, 'timers'],
  [/\bprocess\./, 'process'],
  [/\bconsole\./, 'console'],
  [/from 'node:(?!buffer|zlib|crypto|assert)/, 'a node module that does IO'],
  [/from '#gen\//, 'generated messages'],
  [/\/(?:io|rpc|runtime)\/[a-z-]+\.js'/, 'an outer layer'],
];

/**
 * Below the pageserver's core these read through the asynchronous TimelineStore interface; the rest of every core is synchronous.
 */
const ASYNC_CORE = [
  'services/pageserver/core/storage/store.ts',
  'services/pageserver/core/ingest/',
  'services/pageserver/core/view/',
  'services/pageserver/core/basebackup/',
  'services/pageserver/core/import/',
];

function walk(dir: string, out: string[] = []): string[] {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) walk(path, out);
    else out.push(path);
  }
  return out;
}

const files = ['services', 'test']
  .flatMap((dir) => walk(join(ROOT, dir)))
  .filter((path) => /\.(ts|c|h)$/.test(path))
  .map((path) => ({ path: relative(ROOT, path), text: readFileSync(path, 'utf8') }));
const sources = files.filter(({ path }) => path.endsWith('.ts'));
/** Tests and what serves only them may touch the world. */
const isTestOnly = (path: string) => path.endsWith('.test.ts') || path.includes('/testing/');
const core = sources.filter(({ path }) => /^services\/[a-z-]+\/core\//.test(path) && !isTestOnly(path));

function report(problems: readonly string[]): void {
  assert.equal(problems.length, 0, `\n  ${problems.join('\n  ')}`);
}

/** Code without comments, so that prose may name what code may not. */
function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1');
}

function serviceOf(path: string): string | null {
  return /^services\/([a-z-]+)\//.exec(path)?.[1] ?? null;
}

describe('tidy', () => {
  it(`has no file of more than ${FILE_LINES_MAX} lines`, () => {
    report(
      files
        .map(({ path, text }) => ({ path, lines: text.split('\n').length - 1 }))
        .filter(({ lines }) => lines > FILE_LINES_MAX)
        .map(({ path, lines }) => `${path}: ${lines} lines`),
    );
  });

  it(`has no function of more than ${FUNCTION_LINES_MAX} lines`, () => {
    const problems: string[] = [];
    for (const { path, text } of sources.filter((file) => !file.path.endsWith('.test.ts'))) {
      const source = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
      const visit = (node: ts.Node): void => {
        if (ts.isFunctionLike(node) && 'body' in node && node.body !== undefined) {
          const from = source.getLineAndCharacterOfPosition(node.getStart()).line;
          const lines = source.getLineAndCharacterOfPosition(node.getEnd()).line - from + 1;
          if (lines > FUNCTION_LINES_MAX) problems.push(`${path}:${from + 1}: a function of ${lines} lines`);
        }
        ts.forEachChild(node, visit);
      };
      visit(source);
    }
    report(problems);
  });

  it('has no default export and no enum', () => {
    report(
      sources
        .filter(({ text }) => /^export default\b|^(export )?(const )?enum\b/m.test(text))
        .map(({ path }) => `${path}: default export or enum`),
    );
  });

  it('names files in kebab case', () => {
    report(sources.filter(({ path }) => !/\/[a-z0-9]+(-[a-z0-9]+)*(\.test)?\.ts$/.test(path)).map(({ path }) => path));
  });

  it('keeps the outside world out of core/', () => {
    const problems: string[] = [];
    for (const { path, text } of core) {
      const code = withoutComments(text);
      for (const [ban, what] of CORE_BANS) if (ban.test(code)) problems.push(`${path}: mentions ${what}`);
      const mayWait = ASYNC_CORE.some((prefix) => path.startsWith(prefix));
      if (!mayWait && /\bawait\b|\bPromise\b/.test(code)) problems.push(`${path}: waits`);
    }
    report(problems);
  });

  it('lets services import shared, and never each other', () => {
    const problems: string[] = [];
    for (const { path, text } of sources) {
      const own = serviceOf(path);
      for (const [, target] of text.matchAll(/from '([^']+)'/g)) {
        if (target === undefined) continue;
        if (target.startsWith('../../..')) problems.push(`${path}: ${target} climbs too high`);
        if (own === null || !target.startsWith('.')) continue;
        const other = serviceOf(relative(ROOT, resolve(ROOT, dirname(path), target)));
        if (other !== null && other !== own) problems.push(`${path}: imports ${target} of another service`);
      }
    }
    report(problems);
  });

  it('has a README in each service', () => {
    const services = readdirSync(join(ROOT, 'services')).filter((name) =>
      statSync(join(ROOT, 'services', name)).isDirectory(),
    );
    report(
      services
        .filter((name) => !existsSync(join(ROOT, 'services', name, 'README.md')))
        .map((name) => `services/${name}`),
    );
  });

  it('has no unfinished marks', () => {
    const marks = new RegExp(
      `\\b(${['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'not impl' + 'emented yet'].join('|')})\\b`,
    );
    report(files.filter(({ text }) => marks.test(text)).map(({ path }) => path));
  });
});
