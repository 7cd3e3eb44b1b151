/** Credentials for the S3 client, which takes them from the environment as every AWS program does. */
export interface Credentials {
  readonly accessKey: string;
  readonly secretKey: string;
}

export function credentialsEnv({ accessKey, secretKey }: Credentials): Record<string, string> {
  return { AWS_ACCESS_KEY_ID: accessKey, AWS_SECRET_ACCESS_KEY: secretKey, AWS_REGION: 'us-east-1' };
}

/** For this process; returns what puts the former ones back. */
export function useCredentials(credentials: Credentials): () => void {
  const wanted = credentialsEnv(credentials);
  const former = Object.keys(wanted).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, wanted);
  return () => {
    for (const [name, value] of former) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  };
}
