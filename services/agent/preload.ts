/** Fetches an image to this host: the manifest, the children of an index, and every blob. */

import { z } from 'zod';
import type { Clock } from '#core';
import {
  AppError,
  type Digest,
  type ImageReader,
  isDigest,
  parseDigest,
  parseTag,
  type Reference,
  type RepositoryName,
  toAppError,
} from '#core';
import type { PreloadResponse } from '#gen/shoal/agent/v1/agent_service';
import type { BlobFetcher } from '#peer';

/** Images of the field have far fewer; a manifest that reaches more is refused. */
const blobCountMax = 10_000;
/** As many as docker pulls at once. */
const concurrency = 3;
const progressIntervalMs = 500;

export interface PreloadDeps {
  readonly reader: ImageReader;
  readonly blobs: BlobFetcher;
  readonly clock: Clock;
}

interface Descriptor {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

/** A tag, or a digest in text form. Throws `invalid-argument`. */
export function parseReference(text: string): Reference {
  return isDigest(text) ? { digest: text } : { tag: parseTag(text) };
}

/** Yields progress at most every 500 ms and once at the end. Throws what the first failing blob throws. */
export async function* preload(
  image: { readonly repository: RepositoryName; readonly reference: Reference },
  deps: PreloadDeps,
  options: { readonly signal: AbortSignal },
): AsyncGenerator<PreloadResponse> {
  const abort = new AbortController();
  const signal = AbortSignal.any([options.signal, abort.signal]);
  const blobs = await collectBlobs(image, deps.reader, signal);
  const progress = { totalBytes: sum(blobs), presentBytes: 0, completeCount: 0 };
  const snapshot = (): PreloadResponse => ({
    totalBytes: BigInt(progress.totalBytes),
    presentBytes: BigInt(progress.presentBytes),
    blobCount: blobs.length,
    completeCount: progress.completeCount,
  });
  const queue = [...blobs];
  const worker = async (): Promise<void> => {
    for (let blob = queue.shift(); blob !== undefined; blob = queue.shift()) {
      await deps.blobs.fetch(blob.digest, { sizeBytes: blob.sizeBytes }, { signal });
      progress.presentBytes += blob.sizeBytes;
      progress.completeCount += 1;
    }
  };
  const work = Promise.all(Array.from({ length: concurrency }, worker)).then(
    () => undefined,
    (error: unknown) => toAppError(error),
  );
  try {
    for (;;) {
      const outcome = await Promise.race([work.then((error) => ({ error })), deps.clock.sleep(progressIntervalMs, { signal })]);
      yield snapshot();
      if (outcome?.error !== undefined) throw outcome.error;
      if (outcome !== undefined) return;
    }
  } finally {
    abort.abort(new AppError('cancelled', 'the preload ended'));
  }
}

const descriptorSchema = z.object({ digest: z.string(), size: z.number().int().nonnegative(), urls: z.array(z.string()).optional() });
const manifestSchema = z.object({
  config: descriptorSchema.optional(),
  layers: z.array(descriptorSchema).optional(),
  manifests: z.array(descriptorSchema).optional(),
});

async function collectBlobs(
  image: { readonly repository: RepositoryName; readonly reference: Reference },
  reader: ImageReader,
  signal: AbortSignal,
): Promise<readonly Descriptor[]> {
  const found = new Map<Digest, Descriptor>();
  const pending: Reference[] = [image.reference];
  const seen = new Set<Digest>();
  for (let reference = pending.shift(); reference !== undefined; reference = pending.shift()) {
    const manifest = await reader.getManifest(image.repository, reference, { signal });
    if (seen.has(manifest.digest)) continue;
    seen.add(manifest.digest);
    const { blobs, children } = referencesOf(manifest.bytes);
    for (const blob of blobs) found.set(blob.digest, blob);
    pending.push(...children);
    if (found.size + seen.size + pending.length > blobCountMax) {
      throw new AppError('resource-exhausted', `the image reaches more than ${blobCountMax} blobs; preload its parts one by one`);
    }
  }
  return [...found.values()];
}

/** The blobs and child manifests that a manifest names; layers that live elsewhere (`urls`) are left out. */
function referencesOf(bytes: Uint8Array): { readonly blobs: readonly Descriptor[]; readonly children: readonly Reference[] } {
  const { config, layers = [], manifests = [] } = manifestSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
  const own = layers.filter(({ urls = [] }) => urls.length === 0);
  return {
    blobs: (config === undefined ? own : [config, ...own]).map(({ digest, size }) => ({ digest: parseDigest(digest), sizeBytes: size })),
    children: manifests.map(({ digest }) => ({ digest: parseDigest(digest) })),
  };
}

function sum(blobs: readonly Descriptor[]): number {
  return blobs.reduce((total, { sizeBytes }) => total + sizeBytes, 0);
}
