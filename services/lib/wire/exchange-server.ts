/** The serving end of exchanges: reads the small frames of a downloader, sends pieces with backpressure. */
import { constants } from 'node:http2';
import { type handleBidiStreamingCall, type ServerDuplexStream, status as Status } from '@grpc/grpc-js';
import {
  AppError,
  assert,
  assertNever,
  type Bitfield,
  type Counter,
  type Digest,
  type NodeIdentity,
  type PeerId,
  peerIdOf,
  toAppError,
} from '#core';
import { type Accepted, ExchangeRequest } from '#gen/shoal/peer/v1/exchange';
import { digestFromProto } from './codec.ts';
import { checkedIndexes, indexChunks, refusalToProto } from './exchange-frames.ts';
import type { HandlerDeps } from './handler-deps.ts';
import { http2StreamOf } from './http2-stream.ts';
import { exchangeRequestSizeBytesMax } from './limits.ts';
import { OutgoingMessage } from './outgoing-message.ts';
import { encodeFrame, encodePiece } from './piece-frames.ts';
import { statusFromError } from './status.ts';
import type { ExchangeRefusal, InboundExchange, InboundExchangeEvents, PieceFrame } from './types.ts';

export interface ExchangeServerDeps extends HandlerDeps {
  readonly sentBytes: Counter;
  readonly openTimeoutMs: number;
  readonly flushTimeoutMs: number;
}

/** Frames that may wait for the receiver before its own are not read any more; each frame of requests adds at most 256. */
const waitingFrameCountMax = 256;

type RequestFrame = NonNullable<ExchangeRequest['frame']>;
type FrameStream = ServerDuplexStream<Buffer, Buffer | OutgoingMessage>;

/** The grpc-js handler of `PeerService.Exchange`. */
export function exchangeHandler(
  accept: (exchange: InboundExchange) => void,
  deps: ExchangeServerDeps,
): handleBidiStreamingCall<Buffer, Buffer | OutgoingMessage> {
  return (stream) => {
    const { caller, span } = deps.gate.admitted(stream.metadata);
    const link = new ServedExchange(stream, caller, deps);
    span.run(() => link.open(accept));
  };
}

class ServedExchange implements InboundExchange {
  readonly caller: NodeIdentity;
  readonly peer: PeerId;
  readonly #stream: FrameStream;
  readonly #deps: ExchangeServerDeps;
  #state: 'waiting' | 'open' | 'closed' = 'waiting';
  #digest: Digest | undefined;
  #events: InboundExchangeEvents | undefined;
  /** Pieces handed to the stream, and pieces the transport has taken from it; both only grow. */
  #writtenCount = 0;
  #takenCount = 0;
  readonly #waiters: { readonly takenCount: number; resolve(): void; reject(error: AppError): void }[] = [];
  #acknowledges = false;
  /** One for each piece that the downloader is to say has arrived, oldest first. */
  readonly #underWay: { resolve(): void; reject(error: AppError): void }[] = [];
  #release: () => void = () => undefined;

  constructor(stream: FrameStream, caller: NodeIdentity, deps: ExchangeServerDeps) {
    this.#stream = stream;
    this.#deps = deps;
    this.caller = caller;
    this.peer = peerIdOf(caller);
  }

  get digest(): Digest {
    assert(this.#digest !== undefined, 'the hello has been read before anyone sees the exchange');
    return this.#digest;
  }

  open(accept: (exchange: InboundExchange) => void): void {
    const { draining } = this.#deps.gate;
    const onDrain = (): void => this.#fail(draining.reason);
    const cancelTimer = this.#deps.clock.after(this.#deps.openTimeoutMs, () => {
      if (this.#state === 'waiting') this.#fail(new AppError('deadline-exceeded', 'exchange: no hello came in time'));
    });
    this.#release = () => {
      cancelTimer();
      draining.removeEventListener('abort', onDrain);
    };
    draining.addEventListener('abort', onDrain, { once: true });
    this.#stream.on('data', (bytes: Buffer) => this.#received(bytes, accept));
    this.#stream.on('end', () => this.close());
    this.#stream.on('cancelled', () => this.#closed(undefined));
    this.#stream.on('error', () => undefined);
  }

  listen(events: InboundExchangeEvents): void {
    assert(this.#events === undefined, 'an exchange has one listener');
    this.#events = events;
  }

  accept(have: Bitfield): void {
    const accepted: Accepted = { complete: have.isFull, bitfield: have.isFull ? new Uint8Array(0) : have.toBytes() };
    this.#send(encodeFrame({ $case: 'accepted', accepted }));
  }

  refuse(reason: ExchangeRefusal, retryAfterMs: number): void {
    this.#send(
      encodeFrame({ $case: 'refused', refused: { reason: refusalToProto(reason), retryAfterMs: Math.max(0, Math.ceil(retryAfterMs)) } }),
    );
    this.close();
  }

  have(pieces: readonly number[]): void {
    for (const chunk of indexChunks(pieces)) this.#send(encodeFrame({ $case: 'have', have: { pieces: chunk } }));
  }

  async piece(index: number, frame: PieceFrame): Promise<void> {
    await this.#write(index, frame, false);
  }

  async pieceAcknowledged(index: number, frame: PieceFrame, taken: () => void): Promise<void> {
    if (!this.#acknowledges) {
      await this.#write(index, frame, false);
      taken();
      return;
    }
    if (this.#state === 'closed') throw goneError();
    const arrived = new Promise<void>((resolve, reject) => this.#underWay.push({ resolve, reject }));
    arrived.catch(() => undefined);
    await this.#write(index, frame, true);
    taken();
    await arrived;
  }

  async #write(index: number, frame: PieceFrame, acknowledge: boolean): Promise<void> {
    if (this.#state === 'closed') throw goneError();
    const sizeBytes = frame.body.byteLength;
    const earlierCount = this.#writtenCount;
    this.#writtenCount += 1;
    const message = new OutgoingMessage([encodePiece(index, frame, acknowledge)], () => frame.taken());
    this.#stream.write(message, (error?: Error | null) => {
      if (error != null) return;
      message.written();
      this.#taken(sizeBytes);
    });
    // One piece is on its way while the caller reads the next from disk: a link needs the memory of two.
    if (this.#takenCount >= earlierCount) return;
    await new Promise<void>((resolve, reject) => this.#waiters.push({ takenCount: earlierCount, resolve, reject }));
  }

  pieceRefused(index: number, reason: ExchangeRefusal): void {
    this.#send(encodeFrame({ $case: 'pieceRefused', pieceRefused: { index, reason: refusalToProto(reason) } }));
    // One who does not read the answers is not asked for more questions.
    if (this.#stream.writableLength <= waitingFrameCountMax || this.#stream.isPaused() || !this.#stream.writableNeedDrain) return;
    this.#stream.pause();
    this.#stream.once('drain', () => this.#stream.resume());
  }

  close(): void {
    if (this.#state === 'closed') return;
    this.#stream.end();
    this.#closed(undefined);
  }

  #received(bytes: Buffer, accept: (exchange: InboundExchange) => void): void {
    if (this.#state === 'closed') return;
    try {
      const frame = decodeRequest(bytes);
      if (frame === undefined) return;
      if (this.#state === 'waiting') this.#begin(frame, accept);
      else this.#dispatch(frame);
    } catch (error) {
      this.#fail(toAppError(error));
    }
  }

  #begin(frame: RequestFrame, accept: (exchange: InboundExchange) => void): void {
    if (frame.$case !== 'hello') throw new AppError('invalid-argument', 'exchange: the first frame must be a hello');
    this.#digest = digestFromProto(frame.hello.digest);
    this.#acknowledges = frame.hello.acknowledges;
    this.#state = 'open';
    accept(this);
    assert(this.#events !== undefined, 'the acceptor listens before it returns');
  }

  #dispatch(frame: RequestFrame): void {
    switch (frame.$case) {
      case 'hello':
        throw new AppError('invalid-argument', 'exchange: a second hello');
      case 'request':
        this.#events?.requested(checkedIndexes(frame.request.pieces));
        return;
      case 'cancel':
        this.#events?.cancelled(checkedIndexes(frame.cancel.pieces));
        return;
      case 'arrived':
        if (frame.arrived.count > this.#underWay.length)
          throw new AppError('invalid-argument', 'exchange: more pieces arrived than were sent');
        for (const { resolve } of this.#underWay.splice(0, frame.arrived.count)) resolve();
        return;
      default:
        assertNever(frame);
    }
  }

  #send(bytes: Buffer): void {
    if (this.#state !== 'closed') this.#stream.write(bytes);
  }

  #taken(sizeBytes: number): void {
    this.#takenCount += 1;
    this.#deps.sentBytes.add(sizeBytes);
    while (this.#waiters[0] !== undefined && this.#waiters[0].takenCount <= this.#takenCount) this.#waiters.shift()?.resolve();
  }

  /** Ends the stream with an error, after what has been written. */
  #fail(error: AppError): void {
    if (this.#state === 'closed') return;
    const status = statusFromError(error);
    if (status.code === Status.INTERNAL) this.#deps.logger.error('exchange failed', { peer: this.peer, error });
    this.#stream.emit('error', Object.assign(new Error(status.details), status));
    this.#closed(error);
  }

  #closed(error: AppError | undefined): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#release();
    this.#resetLater();
    for (const waiter of [...this.#waiters.splice(0), ...this.#underWay.splice(0)]) waiter.reject(goneError());
    this.#events?.closed(error);
  }

  /** A receiver that takes nothing would keep what waits for it in memory for as long as its connection lives. */
  #resetLater(): void {
    const transport = http2StreamOf(this.#stream);
    if (transport === undefined || transport.closed) return;
    const cancelTimer = this.#deps.clock.after(this.#deps.flushTimeoutMs, () => transport.close(constants.NGHTTP2_CANCEL));
    transport.once('close', cancelTimer);
  }
}

function goneError(): AppError {
  return new AppError('unavailable', 'the exchange is closed');
}

/** The frame, or undefined for one that this version does not know. */
function decodeRequest(bytes: Buffer): RequestFrame | undefined {
  if (bytes.byteLength > exchangeRequestSizeBytesMax) throw new AppError('invalid-argument', 'exchange: the frame is too large');
  try {
    return ExchangeRequest.decode(bytes).frame;
  } catch (error) {
    throw new AppError('invalid-argument', 'exchange: the frame is malformed', { cause: error });
  }
}
