/** Signals to the command that runs a development cluster: the first asks it to stop, a second one does not wait any longer. */
import type { Clock } from '#core';

/** A terminal and a program between it and this one may both pass on the same Ctrl-C. */
const sameKeystrokeMs = 300;

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export interface SignalSource {
  on(signal: (typeof signals)[number], listener: () => void): unknown;
}

export interface StopSignals {
  /** Resolves at the first signal. */
  readonly stopped: Promise<void>;
  /** Lets the event loop end; the handlers stay. */
  release(): void;
}

/** Installs handlers that stay, so that no later signal ends this process before its nodes. `onSecond` is called at a second signal. */
export function watchSignals(source: SignalSource, onSecond: () => void, clock: Pick<Clock, 'nowMs'>): StopSignals {
  const keepAlive = setInterval(() => undefined, 2 ** 30);
  const release = (): void => clearInterval(keepAlive);
  const stopped = new Promise<void>((resolve) => {
    let firstMs: number | undefined;
    const onSignal = (): void => {
      if (firstMs === undefined) {
        firstMs = clock.nowMs();
        resolve();
      } else if (clock.nowMs() - firstMs >= sameKeystrokeMs) onSecond();
    };
    for (const signal of signals) source.on(signal, onSignal);
  });
  return { stopped, release };
}
