/** The downloading end of exchanges: one stream, decoded frame by frame, that can be paused so that pieces wait at the sender. */
import { type Client, type ClientDuplexStream, InterceptingCall, type Metadata, type ServiceError, status as Status } from '@grpc/grpc-js';
import { AppError, assertNever, type Clock, type Counter, type Digest, toAppError } from '#core';
import { ExchangeRequest, type ExchangeResponse } from '#gen/shoal/peer/v1/exchange';
import { PeerServiceService } from '#gen/shoal/peer/v1/peer_service';
import { digestToProto } from './codec.ts';
import { checkedIndexes, indexChunks, refusalFromProto } from './exchange-frames.ts';
import { decodeFrame } from './piece-frames.ts';
import { errorFromStatus } from './status.ts';
import type { OutboundExchange, OutboundExchangeEvents } from './types.ts';

export interface ExchangeClientDeps {
  readonly clock: Pick<Clock, 'after'>;
  readonly receivedBytes: Counter;
  readonly openTimeoutMs: number;
  /** Called once, when the stream is over, with its gRPC code. */
  readonly ended: (code: number, error: AppError | undefined) => void;
}

type ResponseFrame = NonNullable<ExchangeResponse['frame']>;

/**
 * Holds back the reads of a call. Pausing the object stream alone would let it fill its buffer of 16 messages, which may be 64 MiB of pieces;
 * this way at most one piece and the flow-control window are on this side.
 */
class PausableCall extends InterceptingCall {
  #paused = false;
  #readWaits = false;

  override startRead(): void {
    if (this.#paused) this.#readWaits = true;
    else super.startRead();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    if (!this.#readWaits) return;
    this.#readWaits = false;
    super.startRead();
  }
}

/** Opens an exchange for `digest` on a client that is connected, or connects, to the right peer. */
export function openExchange(
  client: Client,
  digest: Digest,
  metadata: Metadata,
  events: OutboundExchangeEvents,
  deps: ExchangeClientDeps,
): OutboundExchange {
  let gate: PausableCall | undefined;
  const stream = client.makeBidiStreamRequest<Buffer, Buffer>(
    PeerServiceService.exchange.path,
    (bytes) => bytes,
    (bytes) => bytes,
    metadata,
    {
      interceptors: [
        (options, nextCall) => {
          gate = new PausableCall(nextCall(options));
          return gate;
        },
      ],
    },
  );
  return new DialledExchange(stream, () => gate, digest, events, deps);
}

class DialledExchange implements OutboundExchange {
  readonly #stream: ClientDuplexStream<Buffer, Buffer>;
  readonly #gate: () => PausableCall | undefined;
  readonly #events: OutboundExchangeEvents;
  readonly #deps: ExchangeClientDeps;
  readonly #cancelTimer: () => void;
  #state: 'opening' | 'open' | 'refused' | 'closed' = 'opening';

  constructor(
    stream: ClientDuplexStream<Buffer, Buffer>,
    gate: () => PausableCall | undefined,
    digest: Digest,
    events: OutboundExchangeEvents,
    deps: ExchangeClientDeps,
  ) {
    this.#stream = stream;
    this.#gate = gate;
    this.#events = events;
    this.#deps = deps;
    this.#cancelTimer = deps.clock.after(deps.openTimeoutMs, () => {
      if (this.#state === 'opening') this.#abandon(new AppError('deadline-exceeded', 'the peer did not answer the exchange in time'));
    });
    stream.on('data', (bytes: Buffer) => this.#received(bytes));
    stream.on('error', (error: ServiceError) => this.#closed(errorFromStatus(error), error.code));
    // After every piece, unlike the status event.
    stream.on('end', () => this.#ended());
    this.#send({ $case: 'hello', hello: { digest: digestToProto(digest), acknowledges: true } });
  }

  request(pieces: readonly number[]): void {
    for (const chunk of indexChunks(pieces)) this.#send({ $case: 'request', request: { pieces: chunk } });
  }

  cancel(pieces: readonly number[]): void {
    for (const chunk of indexChunks(pieces)) this.#send({ $case: 'cancel', cancel: { pieces: chunk } });
  }

  pause(): void {
    if (this.#state === 'closed') return;
    this.#gate()?.pause();
    this.#stream.pause();
  }

  resume(): void {
    if (this.#state === 'closed') return;
    this.#stream.resume();
    this.#gate()?.resume();
  }

  close(): void {
    this.#abandon(undefined);
  }
  #send(frame: NonNullable<ExchangeRequest['frame']>): void {
    if (this.#state === 'closed' || !this.#stream.writable) return;
    this.#stream.write(Buffer.from(ExchangeRequest.encode({ frame }).finish()));
  }

  #received(bytes: Buffer): void {
    if (this.#state === 'closed') return;
    try {
      const frame = decodeFrame(bytes);
      if (frame !== undefined) this.#dispatch(frame);
    } catch (error) {
      this.#abandon(toAppError(error));
    }
  }

  #dispatch(frame: ResponseFrame): void {
    if (this.#state === 'opening' && frame.$case !== 'accepted' && frame.$case !== 'refused') {
      throw new AppError('invalid-argument', 'exchange: the first frame must accept or refuse');
    }
    switch (frame.$case) {
      case 'piece':
        this.#deps.receivedBytes.add(frame.piece.data.byteLength);
        if (frame.piece.acknowledge) this.#send({ $case: 'arrived', arrived: { count: 1 } });
        this.#events.piece(frame.piece.index, frame.piece.data);
        return;
      case 'have':
        this.#events.have(checkedIndexes(frame.have.pieces));
        return;
      case 'pieceRefused':
        this.#events.pieceRefused(frame.pieceRefused.index, refusalFromProto(frame.pieceRefused.reason));
        return;
      case 'accepted':
        this.#opened('open');
        this.#events.accepted(frame.accepted.complete, frame.accepted.bitfield);
        return;
      case 'refused':
        this.#opened('refused');
        this.#events.refused(refusalFromProto(frame.refused.reason), frame.refused.retryAfterMs);
        // Not left to the peer, which may keep the stream open for ever.
        this.close();
        return;
      default:
        assertNever(frame);
    }
  }

  #opened(state: 'open' | 'refused'): void {
    if (this.#state !== 'opening') throw new AppError('invalid-argument', 'exchange: opened twice');
    this.#state = state;
    this.#cancelTimer();
  }

  #ended(): void {
    const early = this.#state === 'opening';
    this.#closed(early ? new AppError('unavailable', 'the peer ended the exchange before it opened') : undefined, Status.OK);
  }

  /** Ends the stream from this side. */
  #abandon(error: AppError | undefined): void {
    if (this.#state === 'closed') return;
    this.#closed(error, error === undefined ? Status.OK : Status.CANCELLED);
    this.#gate()?.resume();
    this.#stream.resume();
    this.#stream.cancel();
  }

  /** `closed` is told in a microtask, so that a receiver that closes is not called back while it does. */
  #closed(error: AppError | undefined, code: number): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#cancelTimer();
    this.#deps.ended(code, error);
    queueMicrotask(() => this.#events.closed(error));
  }
}
