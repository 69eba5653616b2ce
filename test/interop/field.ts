/** What every client meets: a cluster, something to push, and a look at what an agent then serves. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Content, digestOf, mediaTypes } from '../conformance/content.ts';
import { Registry } from '../conformance/registry.ts';
import type { TestCluster } from '../support/cluster-process.ts';
import { runOk } from '../support/processes.ts';
import type { Images } from './layout.ts';

export interface Field {
  /** Scratch folder. */
  readonly root: string;
  readonly cluster: TestCluster;
  /** `host:port` of the proxy. */
  readonly proxy: string;
  /** `host:port` of the agents. */
  readonly agents: readonly [string, string];
  readonly images: Images;
  /** An OCI layout with the tags `multi` (the index), `amd64` and `arm64`. */
  readonly layout: string;
}

/** What one client is asked to do; undefined is what it cannot do at all. Each throws when it fails. */
export interface Client extends Partial<AsyncDisposable> {
  readonly name: string;
  readonly version: string;
  /** What the table says about how it was used. */
  readonly remarks: string;
  /** Pushes an image, or what the client has in its place, to the proxy. */
  readonly push: () => Promise<void>;
  /** Pulls it from an agent. */
  readonly pull: () => Promise<void>;
  /** Pushes an index of two platforms and pulls it from an agent. */
  readonly index: (() => Promise<void>) | undefined;
  /** Pushes something that is no image and pulls it from an agent. */
  readonly artifact: (() => Promise<void>) | undefined;
}

/** Starts what the client needs; it is disposed of when its turn is over. */
export type ClientFactory = (field: Field, version: (tool: string) => string) => Promise<Client>;

/** A folder of its own for one client. */
export const folderOf = (field: Field, client: string): string => join(field.root, client);

/** The manifest that a node serves under a reference, with its digest checked. */
export async function manifestAt(address: string, repository: string, reference: string): Promise<Content> {
  using registry = new Registry({ url: `http://${address}` });
  const accept = Object.values(mediaTypes).join(', ');
  const reply = await registry.expect(200, 'GET', `/v2/${repository}/manifests/${reference}`, { headers: { accept } });
  const content = { bytes: reply.body, digest: digestOf(reply.body) };
  assert.equal(reply.headers['docker-content-digest'], content.digest);
  return content;
}

/** The digests of the children of the index that a node serves. */
export async function childrenAt(address: string, repository: string, reference: string): Promise<string[]> {
  const { bytes } = await manifestAt(address, repository, reference);
  const { manifests } = JSON.parse(bytes.toString('utf8')) as { readonly manifests: readonly { readonly digest: string }[] };
  return manifests.map(({ digest }) => digest);
}

/** The image id: the digest of the config of an image. */
export function configOf({ bytes }: Content): string {
  return (JSON.parse(bytes.toString('utf8')) as { readonly config: { readonly digest: string } }).config.digest;
}

/** A registry that nobody runs: what is pulled from it came from its mirror. */
export const absentRegistry = 'registry.example.com';

/** Lets `shoal agent configure` write the mirror configuration of a runtime below `root`. */
export async function configureMirror(root: string, runtime: string, agent: string, ...args: readonly string[]): Promise<void> {
  mkdirSync(root, { recursive: true });
  const command = ['dist/shoal.mjs', 'agent', 'configure', '--root', root, '--runtime', runtime, '--agent', agent, ...args, '--apply'];
  await runOk(process.execPath, command);
}
