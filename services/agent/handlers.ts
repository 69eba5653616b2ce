/** AgentService: fetch an image before anybody asks, and clear a blob from this host. */
import { AppError, type Clock, type ImageReader, parseRepositoryName } from '#core';
import type { AgentServiceService } from '#gen/shoal/agent/v1/agent_service';
import type { BlobFetcher } from '#peer';
import type { BlobStore } from '#storage';
import { digestFromProto, type Handlers } from '#wire';
import { parseReference, preload } from './preload.ts';

export interface AgentHandlerDeps {
  readonly reader: ImageReader;
  readonly blobs: BlobFetcher;
  readonly store: BlobStore;
  readonly clock: Clock;
}

export function agentHandlers(deps: AgentHandlerDeps): Handlers<typeof AgentServiceService> {
  return {
    preload(request, { signal }) {
      const image = { repository: parseRepositoryName(request.repository), reference: parseReference(request.reference) };
      return preload(image, deps, { signal });
    },
    async evictBlob(request) {
      const digest = digestFromProto(request.digest);
      // An unfinished one is found among the partial blobs.
      const blob = deps.store.stat(digest) ?? deps.store.partials().find((partial) => partial.digest === digest);
      if (blob === undefined || !(await deps.store.delete(digest))) {
        throw new AppError('not-found', 'this host has no such blob', { data: { kind: 'blob', digest } });
      }
      return { freedBytes: BigInt(blob.sizeBytes) };
    },
  };
}
