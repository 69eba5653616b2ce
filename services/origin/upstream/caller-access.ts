/**
 * Whether a caller may read a repository whose rule goes by the caller's own credentials. The upstream decides; what it said is believed for a minute,
 * and while it is down for as long as its tags are. Kept by a hash of the credentials.
 */
import { type AppError, type Clock, toAppError } from '#core';
import { BoundedMap, credentialKey, SingleFlight } from '#upstream';
import { isDown, isRefusal, type UpstreamTarget } from './upstreams.ts';

/** As long as a registry's own tokens are at least valid. */
const allowedMs = 60_000;
/** Long enough for one pull that is refused. */
const refusedMs = 5000;
const entriesMax = 20_000;

type Entry =
  | { readonly type: 'allowed'; readonly atMs: number }
  | { readonly type: 'refused'; readonly error: AppError; readonly atMs: number };

/** Asks the upstream for something in the repository that the caller wants. */
export type Probe = () => Promise<unknown>;

export class CallerAccess {
  readonly #clock: Clock;
  readonly #entries = new BoundedMap<Entry>({ entriesMax });
  readonly #flights = new SingleFlight<void>();

  constructor(deps: { readonly clock: Clock }) {
    this.#clock = deps.clock;
  }

  /**
   * Resolves when the target may be read: at once unless its rule checks callers. Throws what the upstream answers to the probe: `not-found`,
   * `unauthenticated`, `permission-denied`, `unavailable`.
   */
  async require(target: UpstreamTarget, probe: Probe, options: { readonly signal: AbortSignal }): Promise<void> {
    if (!target.upstream.checksCaller) return;
    const key = `${credentialKey(target.credentials)} ${target.repository}`;
    const entry = this.#entries.get(key);
    const ageMs = entry === undefined ? Number.POSITIVE_INFINITY : this.#clock.nowMs() - entry.atMs;
    if (entry?.type === 'allowed' && ageMs < allowedMs) return;
    if (entry?.type === 'refused' && ageMs < refusedMs) throw entry.error;
    try {
      await this.#flights.run(key, async () => this.#ask(key, probe), options);
    } catch (error) {
      if (entry?.type === 'allowed' && ageMs < target.upstream.config.stale && isDown(toAppError(error))) return;
      throw error;
    }
  }

  async #ask(key: string, probe: Probe): Promise<void> {
    try {
      await probe();
      this.#entries.set(key, { type: 'allowed', atMs: this.#clock.nowMs() });
    } catch (error) {
      const failure = toAppError(error);
      if (isRefusal(failure)) this.#entries.set(key, { type: 'refused', error: failure, atMs: this.#clock.nowMs() });
      throw failure;
    }
  }
}
