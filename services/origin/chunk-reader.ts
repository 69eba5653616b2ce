/** The bytes of a chunk, read from the proxy that receives them. */
import { AppError, type Clock, giveBackMessage } from '#core';
import { UploadSourceServiceService } from '#gen/shoal/proxy/v1/upload_source_service';
import type { ChannelPool } from '#wire';

/** A proxy gives up on a client that is silent for two minutes; one that says nothing for longer hangs. */
const idleMs = 600_000;

export interface ChunkReaderDeps {
  readonly channels: Pick<ChannelPool, 'client'>;
  readonly clock: Pick<Clock, 'nowMs' | 'after'>;
}

export interface ChunkAddress {
  /** The proxy. */
  readonly id: string;
  readonly endpoint: string;
  readonly token: Uint8Array;
}

/**
 * Reads at the pace of the caller, who is done with the bytes when it asks for the next. Throws what the proxy's side of the chunk broke off with, `unavailable` when the proxy died, and
 * `deadline-exceeded` when it says nothing for ten minutes. Aborting the signal ends a wait.
 */
export async function* readChunk(
  { id, endpoint, token }: ChunkAddress,
  { signal }: { readonly signal: AbortSignal },
  { channels, clock }: ChunkReaderDeps,
): AsyncGenerator<Uint8Array> {
  const late = new AbortController();
  let heardMs = clock.nowMs();
  const check = (): void => {
    const leftMs = heardMs + idleMs - clock.nowMs();
    if (leftMs > 0) cancel = clock.after(leftMs, check);
    else late.abort(new AppError('deadline-exceeded', 'the proxy sends no more bytes of the chunk; send it again', { retryAfterMs: 1000 }));
  };
  let cancel = clock.after(idleMs, check);
  try {
    const client = channels.client(UploadSourceServiceService, { endpoint, role: 'proxy', id });
    for await (const { data } of client.readChunk({ token }, { signal: AbortSignal.any([signal, late.signal]) })) {
      yield data;
      giveBackMessage(data);
      heardMs = clock.nowMs();
    }
  } finally {
    cancel();
  }
}
