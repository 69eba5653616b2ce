/** One request as the handlers see it, and the checks of names, tags and digests that they share. */
import type { IncomingHttpHeaders } from 'node:http';
import {
  type Digest,
  type ImageStore,
  type ImageWriter,
  isDigest,
  isRepositoryName,
  isTag,
  type Logger,
  type RepositoryName,
  type Tag,
} from '#core';
import type { AccessControl, AccessState, Caller, Evidence } from './access.ts';
import { RegistryError } from './errors.ts';
import type { RegistrySettings } from './options.ts';
import type { Query } from './router.ts';

/** How long a body may take. */
export interface BodyOptions {
  /** Limit on the whole body, in milliseconds; without it only standing still is limited. */
  readonly totalMs?: number;
}

export interface Call {
  readonly method: string;
  readonly query: Query;
  readonly headers: IncomingHttpHeaders;
  /** As sent, before anything was normalised. */
  readonly contentType: string | undefined;
  /** What it shows of who sends it. */
  readonly evidence: Evidence;
  readonly access: AccessState;
  /** Handed to the store, which may ask another registry what these credentials may read; undefined where this registry has its own use for them. */
  readonly authorization: string | undefined;
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
  /** False when the request says that it has no body; a chunked body may still turn out empty. */
  readonly hasBody: boolean;
  /** The declared length in bytes, when there is one. */
  readonly contentLength: number | undefined;
  /** The bytes as they arrive. May be read once. */
  body(options?: BodyOptions): AsyncIterable<Uint8Array>;
}

/** A call that has been allowed. */
export interface AllowedCall extends Call {
  readonly caller: Caller;
}

/** What the handlers work on. */
export interface Surface {
  readonly store: ImageStore;
  readonly access: AccessControl;
  readonly settings: RegistrySettings;
  readonly logger: Logger;
}

/** Throws `nameInvalid`. */
export function repositoryOf(name: string): RepositoryName {
  if (isRepositoryName(name)) return name;
  throw new RegistryError('nameInvalid', 'invalid repository name: use lower-case components joined by "/"', {
    detail: { name: name.slice(0, 300) },
  });
}

/** Throws `digestInvalid`, also when there is none. */
export function digestOfText(text: string | undefined): Digest {
  if (text !== undefined && isDigest(text)) return text;
  throw new RegistryError('digestInvalid', 'not a digest: expected sha256:<64 hex> or sha512:<128 hex>', {
    detail: { digest: (text ?? '').slice(0, 160) },
  });
}

/** Throws `tagInvalid`. */
export function tagOfText(text: string): Tag {
  if (isTag(text)) return text;
  throw new RegistryError('tagInvalid', 'invalid tag: use up to 128 of letters, digits, "_", "." and "-"', {
    detail: { tag: text.slice(0, 160) },
  });
}

/** The writer of a store that has one. Throws `methodUnsupported` otherwise. */
export function writerOf(surface: Surface): ImageWriter {
  if (surface.store.writer !== undefined) return surface.store.writer;
  throw readOnlyError();
}

/** What a push to a pull-only node meets. */
export function readOnlyError(): RegistryError {
  return new RegistryError('methodUnsupported', 'this registry is read-only; push to the proxy of the cluster instead', {
    headers: { allow: 'GET, HEAD' },
  });
}

/** The first value of a header that may be repeated. */
export function headerOf(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}
