/** Handlers as the wire sees them, and what it needs to run them. */
import type { Clock, Logger } from '#core';
import type { CallGate } from './call-gate.ts';
import type { CallContext } from './types.ts';

/** Handlers without their types; `WireServer.addService` has checked them. */
export type UnaryFunction = (request: unknown, context: CallContext) => Promise<unknown>;
export type ServerStreamFunction = (request: unknown, context: CallContext) => AsyncIterable<unknown>;
export type BidiFunction = (requests: AsyncIterable<unknown>, context: CallContext) => AsyncIterable<unknown>;

export interface HandlerDeps {
  readonly gate: CallGate;
  readonly clock: Clock;
  readonly logger: Logger;
}
