/** What the container runtimes of a host are to be told: where the agent is, and for which registries it stands in. */
import { isIPv4 } from 'node:net';
import { AppError } from '#core';
import { formatEndpoint, parseEndpoint } from '#runtime';

export const runtimes = ['containerd', 'docker', 'podman'] as const;
export type Runtime = (typeof runtimes)[number];

export interface AgentAddress {
  /** `http://host:port` or `https://host:port`. */
  readonly url: string;
  /** `host:port`. */
  readonly host: string;
  readonly isSecure: boolean;
  /** On this host: docker needs no permission for plain HTTP then. */
  readonly isLoopback: boolean;
}

export interface MirrorSettings {
  readonly agent: AgentAddress;
  /** Registries the agent stands in for, as they stand in image names. */
  readonly upstreams: readonly string[];
  /** It stands in for all of them, where the runtime can be told so. */
  readonly catchAll: boolean;
}

/** Docker Hub is called by this name in images, and lives at others. */
export const dockerHub = 'docker.io';

/** Accepts `host:port` and `http(s)://host:port`. Throws `invalid-argument`. */
export function parseAgentAddress(text: string): AgentAddress {
  const [, scheme = 'http', rest = ''] = /^(?:(https?):\/\/)?([^/]+)\/?$/.exec(text) ?? [];
  const { host, port } = parseEndpoint(rest);
  if (!/^[A-Za-z0-9.:-]+$/.test(host) || port === 0) {
    throw new AppError(
      'invalid-argument',
      `--agent ${text}: write it like 127.0.0.1:16000, with the host that runtimes of this machine use`,
    );
  }
  const name = formatEndpoint({ host, port });
  const isLoopback = host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
  return { url: `${scheme}://${name}`, host: name, isSecure: scheme === 'https', isLoopback };
}

const upstreamPattern = /^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*(?::[0-9]{1,5})?$/;

/** A registry as it stands in image names: `registry.example.com` or `registry.example.com:5000`. Throws `invalid-argument`. */
export function parseUpstream(text: string): string {
  if (upstreamPattern.test(text) && text.length <= 255) return text;
  throw new AppError(
    'invalid-argument',
    `--upstream ${text}: write a registry as it stands in image names, like registry.example.com:5000`,
  );
}
