/** A client of one other registry: manifests, blobs that go on where they broke off, and whether a repository may be read. */
import { AppError, algorithmOf, type Clock, type Digest, digestOf, isAppError, isDigest, type Reference } from '#core';
import type { Credentials } from './credentials.ts';
import type { HttpReply } from './http.ts';
import { backoffMs, manifestBytesMax, resumesWithoutProgressMax } from './limits.ts';
import { readUpTo } from './read-up-to.ts';
import type { Session } from './session.ts';

export interface UpstreamCall {
  readonly credentials: Credentials;
  readonly signal: AbortSignal;
}

/** What a HEAD says of a manifest. */
export interface UpstreamManifestHead {
  /** Undefined when the upstream does not say. */
  readonly digest: Digest | undefined;
}

export interface UpstreamManifest {
  readonly digest: Digest;
  /** As the upstream sent it, without parameters; may be empty. */
  readonly mediaType: string;
  readonly bytes: Buffer;
}

export interface UpstreamBlob {
  /** Undefined when the upstream does not say. */
  readonly sizeBytes: number | undefined;
  /** The bytes, unverified. Throws `unavailable` when the upstream is lost in the middle for good. */
  readonly chunks: AsyncGenerator<Uint8Array>;
  /** Gives up a blob whose bytes nobody will read. */
  drop(): void;
}

/** Everything that is a manifest today. */
const accept = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.oci.artifact.manifest.v1+json',
  '*/*',
].join(', ');

export class UpstreamClient {
  readonly #session: Pick<Session, 'send'>;
  readonly #clock: Clock;

  constructor(deps: { readonly session: Pick<Session, 'send'>; readonly clock: Clock }) {
    this.#session = deps.session;
    this.#clock = deps.clock;
  }

  /** Throws as {@link Session.send}. */
  async headManifest(name: string, reference: Reference, call: UpstreamCall): Promise<UpstreamManifestHead> {
    const path = `manifests/${textOf(reference)}`;
    const reply = await this.#session.send({ method: 'HEAD', name, path, headers: { accept }, kind: 'manifest', ...call });
    reply.drop();
    return { digest: digestHeader(reply) };
  }

  /** Throws as {@link Session.send}, and `unavailable` when the bytes are not what was asked for or what the upstream says they are. */
  async getManifest(name: string, reference: Reference, call: UpstreamCall): Promise<UpstreamManifest> {
    const path = `manifests/${textOf(reference)}`;
    const reply = await this.#session.send({ method: 'GET', name, path, headers: { accept }, kind: 'manifest', ...call });
    const bytes = await readUpTo(reply.body(), manifestBytesMax);
    const expected = 'digest' in reference ? reference.digest : digestHeader(reply);
    const digest = digestOf(bytes, expected === undefined ? 'sha256' : algorithmOf(expected));
    if (expected !== undefined && digest !== expected) {
      throw new AppError('unavailable', 'the upstream sent a manifest that does not have its digest; ask its operator', {
        data: { kind: 'upstream', expected, actual: digest },
      });
    }
    const mediaType = (reply.headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '';
    return { digest, mediaType, bytes };
  }

  /** The size of a blob; undefined when the upstream does not say. Throws as {@link Session.send}. */
  async headBlob(name: string, digest: Digest, call: UpstreamCall): Promise<number | undefined> {
    const reply = await this.#session.send({ method: 'HEAD', name, path: `blobs/${digest}`, kind: 'blob', ...call });
    reply.drop();
    return lengthOf(reply);
  }

  /** Begins a blob; resolves with the head of the reply. Throws as {@link Session.send}. */
  async openBlob(name: string, digest: Digest, call: UpstreamCall): Promise<UpstreamBlob> {
    const ask = (startByte: number): Promise<HttpReply> => {
      const headers = startByte === 0 ? {} : { headers: { range: `bytes=${startByte}-` } };
      return this.#session.send({ method: 'GET', name, path: `blobs/${digest}`, kind: 'blob', ...headers, ...call });
    };
    const first = await ask(0);
    return { sizeBytes: lengthOf(first), chunks: this.#resumed(first, ask, call.signal), drop: first.drop };
  }

  /** Resolves when the repository may be read with these credentials. Throws as {@link Session.send}. */
  async probeRepository(name: string, call: UpstreamCall): Promise<void> {
    const reply = await this.#session.send({ method: 'GET', name, path: 'tags/list?n=1', kind: 'repository', ...call });
    reply.drop();
  }

  /** The bytes; after a break the rest is asked for, until nothing new comes several times in a row. */
  async *#resumed(first: HttpReply, ask: (startByte: number) => Promise<HttpReply>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    let reply = first;
    let atByte = 0;
    let failures = 0;
    for (;;) {
      try {
        for await (const chunk of from(reply, atByte)) {
          failures = 0;
          atByte += chunk.byteLength;
          yield chunk;
        }
        return;
      } catch (error) {
        signal.throwIfAborted();
        failures += 1;
        if (!isAppError(error, 'unavailable') || failures > resumesWithoutProgressMax) throw error;
      }
      await this.#clock.sleep(backoffMs * failures, { signal });
      reply = await ask(atByte);
    }
  }
}

/** The bytes of a reply from `startByte` of the blob on: a server may ignore the range and send everything. */
async function* from(reply: HttpReply, startByte: number): AsyncGenerator<Uint8Array> {
  const starts = reply.status === 206 ? Number(/^bytes (\d+)-/.exec(reply.headers['content-range'] ?? '')?.[1] ?? Number.NaN) : 0;
  if (!(starts <= startByte)) {
    reply.drop();
    throw new AppError('unavailable', 'the upstream answered with another range than was asked for', { data: { kind: 'upstream' } });
  }
  let skipBytes = startByte - starts;
  for await (const chunk of reply.body()) {
    const skipped = Math.min(skipBytes, chunk.byteLength);
    skipBytes -= skipped;
    if (skipped < chunk.byteLength) yield chunk.subarray(skipped);
  }
}

function textOf(reference: Reference): string {
  return 'tag' in reference ? reference.tag : reference.digest;
}

function digestHeader({ headers }: HttpReply): Digest | undefined {
  const text = headers['docker-content-digest'];
  return typeof text === 'string' && isDigest(text) ? text : undefined;
}

function lengthOf({ headers }: HttpReply): number | undefined {
  const length = Number(headers['content-length'] ?? Number.NaN);
  return Number.isSafeInteger(length) && length >= 0 ? length : undefined;
}
