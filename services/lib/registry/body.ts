/** The body of a request: its bytes as they arrive, under an idle limit and, where asked, a limit on the whole. */
import type { IncomingMessage } from 'node:http';
import { AppError, type Clock } from '#core';

export interface BodyLimits {
  /** How long the client may send nothing, in milliseconds. Time in which nobody reads does not count. */
  readonly idleMs: number;
  /** How long the whole body may take, in milliseconds. */
  readonly totalMs?: number;
}

/**
 * Reads the body. Throws `cancelled` when the client goes away and `deadline-exceeded` when it is too slow, in which case the
 * connection is cut. Ending early leaves the connection usable for the reply.
 */
export async function* readBody(
  request: IncomingMessage,
  limits: BodyLimits,
  deps: { readonly clock: Clock; readonly onBytes: (count: number) => void },
): AsyncGenerator<Uint8Array> {
  const { clock } = deps;
  const startedMs = clock.nowMs();
  let waitingSinceMs: number | undefined;
  let isLate = false;
  // One timer that re-arms itself is cheaper than one for each chunk.
  const check = (): void => {
    const nowMs = clock.nowMs();
    const idleLeftMs = waitingSinceMs === undefined ? limits.idleMs : waitingSinceMs + limits.idleMs - nowMs;
    const totalLeftMs = limits.totalMs === undefined ? idleLeftMs : startedMs + limits.totalMs - nowMs;
    const leftMs = Math.min(idleLeftMs, totalLeftMs);
    if (leftMs > 0) {
      disarm = clock.after(leftMs, check);
      return;
    }
    isLate = true;
    request.destroy();
  };
  let disarm = clock.after(Math.min(limits.idleMs, limits.totalMs ?? limits.idleMs), check);
  const chunks: AsyncIterator<Uint8Array> = request.iterator({ destroyOnReturn: false });
  try {
    while (true) {
      waitingSinceMs = clock.nowMs();
      const next = await chunks.next();
      waitingSinceMs = undefined;
      if (next.done === true) break;
      deps.onBytes(next.value.byteLength);
      yield next.value;
    }
  } catch (error) {
    throw isLate
      ? new AppError('deadline-exceeded', 'the body came too slowly; send it faster', { cause: error })
      : new AppError('cancelled', 'the client went away', { cause: error });
  } finally {
    disarm();
    await chunks.return?.();
  }
  if (!request.complete) throw new AppError('cancelled', 'the client went away');
}

/** False when the request says that it has no body. */
export function hasBody(request: IncomingMessage): boolean {
  return request.headers['transfer-encoding'] !== undefined || (contentLengthOf(request) ?? 0) > 0;
}

/** The declared length in bytes. */
export function contentLengthOf(request: IncomingMessage): number | undefined {
  const text = request.headers['content-length'];
  return text === undefined ? undefined : Number(text);
}
