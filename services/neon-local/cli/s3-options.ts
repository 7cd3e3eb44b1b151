/** Options by which commands reach an S3 server. */
import { text } from 'node:stream/consumers';
import type { Command } from 'commander';
import type { S3Options } from '#gen/neon/control/v1/storage.js';

export interface S3Flags {
  readonly endpoint?: string;
  readonly region?: string;
  readonly accessKeyId?: string;
  readonly secretAccessKey?: string;
  readonly sessionToken?: string;
  readonly pathStyle?: boolean;
}

export function addS3Keys(command: Command): Command {
  return command
    .option('--access-key-id <id>', "S3: key; default: the AWS chain of the daemon's environment")
    .option(
      '--secret-access-key <key>',
      'S3: secret key; "-" reads it from standard input, so that no process list shows it',
    )
    .option('--session-token <token>', 'S3: token of temporary keys');
}

export function addS3Options(command: Command): Command {
  const placed = command
    .option('--endpoint <url>', 'S3: server, such as http://127.0.0.1:9000; default: AWS')
    .option('--region <region>', 'S3: region');
  return addS3Keys(placed).option('--no-path-style', 'S3: name the bucket by host instead of by path');
}

export async function s3Options(given: S3Flags): Promise<S3Options> {
  const secret = given.secretAccessKey === '-' ? (await text(process.stdin)).trim() : given.secretAccessKey;
  return {
    ...{ endpoint: given.endpoint ?? '', region: given.region ?? '', accessKeyId: given.accessKeyId ?? '' },
    ...{ secretAccessKey: secret ?? '', sessionToken: given.sessionToken ?? '' },
    virtualHostStyle: given.pathStyle === false,
  };
}
