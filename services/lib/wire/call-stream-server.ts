/** The serving end of a stream that carries calls of one unary method: each is answered by the method's own handler, and failed alone. */
import { AppError, toAppError } from '#core';
import type { HandlerDeps, UnaryFunction } from './handler-deps.ts';
import { callsPerMessageMax, callsServedMax, repliesPerMessageMax } from './limits.ts';
import { loggedFailure, statusMessageFrom } from './status.ts';
import type { CallsMessage, RepliesMessage, StreamedCall, StreamedReply } from './streamed-calls.ts';
import type { CallContext } from './types.ts';

/** The calls of one stream on their way through the handler. */
class ServedCalls {
  readonly #path: string;
  readonly #handler: UnaryFunction;
  readonly #context: CallContext;
  readonly #deps: HandlerDeps;
  #replies: StreamedReply[] = [];
  /** Calls under way, and answers that the transport has not taken: one who does not read is not served. */
  #count = 0;
  #over: { readonly error: AppError | undefined } | undefined;
  #wakeWriter: () => void = () => undefined;
  #wakeReader: () => void = () => undefined;

  constructor(path: string, handler: UnaryFunction, context: CallContext, deps: HandlerDeps) {
    this.#path = path;
    this.#handler = handler;
    this.#context = context;
    this.#deps = deps;
  }

  /** No further calls. With an error the stream ends at once, otherwise when the calls under way are answered. */
  end(error: AppError | undefined): void {
    this.#over ??= { error };
    this.#wakeWriter();
    this.#wakeReader();
  }

  async read(requests: AsyncIterable<CallsMessage>): Promise<void> {
    for await (const { calls } of requests) {
      if (calls.length > callsPerMessageMax) throw new AppError('invalid-argument', `calls: at most ${callsPerMessageMax} in a message`);
      for (const call of calls) {
        while (this.#count >= callsServedMax && this.#over === undefined) {
          await new Promise<void>((resolve) => {
            this.#wakeReader = resolve;
          });
        }
        if (this.#over !== undefined) return;
        this.#count += 1;
        void this.#answer(call).then((reply) => {
          this.#replies.push(reply);
          this.#wakeWriter();
        });
      }
    }
  }

  async *replies(): AsyncGenerator<RepliesMessage> {
    for (;;) {
      if (this.#over?.error !== undefined) throw this.#over.error;
      const replies = this.#replies.splice(0, repliesPerMessageMax);
      if (replies.length > 0) {
        yield { replies };
        this.#count -= replies.length;
        this.#wakeReader();
      } else if (this.#over !== undefined && this.#count === 0) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wakeWriter = resolve;
        });
      }
    }
  }

  async #answer({ number, traceparent, request }: StreamedCall): Promise<StreamedReply> {
    const observed = this.#deps.gate.observe(this.#path, this.#context.caller, traceparent === '' ? undefined : traceparent);
    try {
      if (request === undefined) throw new AppError('invalid-argument', 'calls: one without a request');
      const response = await observed.span.run(() => this.#handler(request, this.#context));
      observed.end(undefined);
      return { number, result: { $case: 'response', response } };
    } catch (error) {
      observed.end(error);
      return { number, result: { $case: 'failure', failure: statusMessageFrom(loggedFailure(error, this.#path, this.#deps.logger)) } };
    }
  }
}

/** A handler of the stream that carries calls of the method at `path`, whose handler is `handler`. */
export function servedCalls(path: string, handler: UnaryFunction, deps: HandlerDeps) {
  return async function* (requests: AsyncIterable<unknown>, context: CallContext): AsyncGenerator<unknown> {
    const { signal } = context;
    const calls = new ServedCalls(path, handler, context, deps);
    const onAbort = (): void => calls.end(toAppError(signal.reason));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    // The stream's own deserializer made them.
    calls.read(requests as AsyncIterable<CallsMessage>).then(
      () => calls.end(undefined),
      (error: unknown) => calls.end(toAppError(error)),
    );
    try {
      yield* calls.replies();
    } finally {
      signal.removeEventListener('abort', onAbort);
      calls.end(undefined);
    }
  };
}
