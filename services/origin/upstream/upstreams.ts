/** The upstreams of this origin: rules from the config, each with a client, and which of them a repository belongs to. */
import { readFileSync } from 'node:fs';
import { rootCertificates } from 'node:tls';
import { AppError, type Clock, type Logger, parseRepositoryName, type RepositoryName, type Rng, toAppError } from '#core';
import {
  type Credentials,
  credentialsOfHeader,
  HttpClient,
  loadCredentials,
  matchUpstream,
  Session,
  UpstreamClient,
  type UpstreamNamespace,
} from '#upstream';
import { hostsOf, type UpstreamConfig } from './config.ts';

export interface Upstream extends UpstreamNamespace {
  readonly client: UpstreamClient;
  readonly config: UpstreamConfig;
}

/** A repository of an upstream, and who asks for it. */
export interface UpstreamTarget {
  readonly upstream: Upstream;
  /** In the mesh. */
  readonly repository: RepositoryName;
  /** At the upstream. */
  readonly name: string;
  readonly credentials: Credentials;
}

export class Upstreams implements Disposable {
  readonly list: readonly Upstream[];
  readonly #http: readonly HttpClient[];

  /** Throws `failed-precondition` for a certificate file that cannot be read. */
  constructor(configs: readonly UpstreamConfig[], deps: { readonly clock: Clock; readonly rng: Rng; readonly logger: Logger }) {
    const made = configs.map((config) => {
      const http = new HttpClient({ caPem: trustedCertificates(config) }, deps);
      const url = new URL(config.url);
      if (url.protocol === 'http:' && config.credentials.type !== 'none') {
        deps.logger.warn('credentials for an upstream travel unencrypted: use https', { namespace: config.namespace });
      }
      const client = new UpstreamClient({
        session: new Session({ url, forCallers: config.access === 'caller' }, { ...deps, http }),
        clock: deps.clock,
      });
      const upstream: Upstream = {
        config,
        client,
        namespace: parseRepositoryName(config.namespace),
        hosts: hostsOf(config),
        library: config.library ?? url.host === 'registry-1.docker.io',
        checksCaller: config.access === 'caller',
      };
      return { http, upstream };
    });
    this.list = made.map(({ upstream }) => upstream);
    this.#http = made.map(({ http }) => http);
  }

  /** Throws `not-found` (kind `repository`) when no upstream has the repository, `failed-precondition` when its credentials cannot be read. */
  async target(repository: string, authorization: string): Promise<UpstreamTarget> {
    const match = matchUpstream(this.list, repository);
    if (match === undefined) {
      throw new AppError('not-found', 'no upstream is configured for this repository', { data: { kind: 'repository' } });
    }
    const { rule: upstream, rest } = match;
    const { repositoryPrefix, credentials, url } = upstream.config;
    return {
      upstream,
      repository: match.repository,
      name: repositoryPrefix === undefined ? rest : `${repositoryPrefix}/${rest}`,
      credentials: upstream.checksCaller ? credentialsOfHeader(authorization) : await loadCredentials(credentials, new URL(url).host),
    };
  }

  [Symbol.dispose](): void {
    for (const http of this.#http) http[Symbol.dispose]();
  }
}

/** Those of the system and those of the file: the option of Node replaces its own list. */
function trustedCertificates({ caFile }: UpstreamConfig): readonly string[] | undefined {
  if (caFile === undefined) return undefined;
  try {
    return [...rootCertificates, readFileSync(caFile, 'utf8')];
  } catch (error) {
    throw new AppError('failed-precondition', `cannot read the caFile ${caFile} of an upstream: ${toAppError(error).message}`, {
      cause: error,
    });
  }
}

/** An upstream that did not answer, or asks to be left alone. */
export function isDown(error: AppError): boolean {
  return ['unavailable', 'deadline-exceeded', 'resource-exhausted'].includes(error.code) && error.data['kind'] === 'upstream';
}

/** An upstream that does not show a repository to these credentials. */
export function isRefusal(error: AppError): boolean {
  return error.code === 'unauthenticated' || error.code === 'permission-denied';
}
