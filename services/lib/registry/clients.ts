/** What one client may have of this server: requests a second, requests at a time, uploads at a time. */
import { isIPv6 } from 'node:net';
import type { Clock } from '#core';
import type { Caller } from './access.ts';
import { RegistryError } from './errors.ts';
import type { RegistryLimits } from './options.ts';

/** How many of the least recently seen clients are looked at for one that can be forgotten. */
const evictionLooks = 16;

type ClientLimits = Pick<RegistryLimits, 'requestsPerSec' | 'requestBurst' | 'requestsPerClient' | 'uploadsPerClient' | 'clientsTracked'>;

interface Client {
  tokens: number;
  refilledMs: number;
  requestCount: number;
  uploadCount: number;
}

/** Who a request counts for: a login together with where it comes from, so that hosts that share one of both are told apart. */
export function clientKeyOf(caller: Caller | undefined, address: string | undefined): string {
  return `${caller?.principal ?? 'anonymous'} ${networkOf(address ?? '')}`;
}

/** An IPv6 host can choose among the addresses of its /64, so these are one client. */
function networkOf(address: string): string {
  if (!isIPv6(address)) return address;
  const [head = '', tail] = address.split('%')[0]?.split('::') ?? [];
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? [] : Array.from({ length: Math.max(0, 8 - before.length - after.length) }, () => '0');
  return [...before, ...zeros, ...after].slice(0, 4).join(':');
}

export class Clients {
  readonly #limits: ClientLimits;
  readonly #clock: Pick<Clock, 'nowMs'>;
  /** Least recently seen first. */
  readonly #clients = new Map<string, Client>();

  constructor(limits: ClientLimits, deps: { readonly clock: Pick<Clock, 'nowMs'> }) {
    this.#limits = limits;
    this.#clock = deps.clock;
  }

  get trackedCount(): number {
    return this.#clients.size;
  }

  /** Takes the place of one request, until the returned function is called. Throws `tooManyRequests`. */
  enter(key: string, isUpload: boolean): () => void {
    const client = this.#seen(key);
    const { requestsPerClient, uploadsPerClient } = this.#limits;
    const waitMs = this.#takeToken(client);
    if (waitMs > 0) throw tooMany('too many requests in a short time; slow down', waitMs);
    if (client.requestCount >= requestsPerClient) throw tooMany(`more than ${requestsPerClient} requests at once; wait for some to end`);
    if (isUpload && client.uploadCount >= uploadsPerClient) {
      throw tooMany(`more than ${uploadsPerClient} uploads at once; wait for some to end`);
    }
    client.requestCount += 1;
    if (isUpload) client.uploadCount += 1;
    return () => {
      client.requestCount -= 1;
      if (isUpload) client.uploadCount -= 1;
    };
  }

  /** Milliseconds until there is a token; 0 when one has been taken. */
  #takeToken(client: Client): number {
    const { requestsPerSec, requestBurst } = this.#limits;
    const nowMs = this.#clock.nowMs();
    client.tokens = Math.min(requestBurst, client.tokens + ((nowMs - client.refilledMs) * requestsPerSec) / 1000);
    client.refilledMs = nowMs;
    if (client.tokens < 1) return ((1 - client.tokens) * 1000) / requestsPerSec;
    client.tokens -= 1;
    return 0;
  }

  #seen(key: string): Client {
    const known = this.#clients.get(key);
    if (known !== undefined) {
      this.#clients.delete(key);
      this.#clients.set(key, known);
      return known;
    }
    if (this.#clients.size >= this.#limits.clientsTracked) this.#forgetOne();
    const client = { tokens: this.#limits.requestBurst, refilledMs: this.#clock.nowMs(), requestCount: 0, uploadCount: 0 };
    this.#clients.set(key, client);
    return client;
  }

  /** A client with requests under way is not forgotten, or it could have as many again. */
  #forgetOne(): void {
    let looks = 0;
    for (const [key, client] of this.#clients) {
      looks += 1;
      if (client.requestCount === 0) this.#clients.delete(key);
      if (client.requestCount === 0 || looks === evictionLooks) return;
    }
  }
}

function tooMany(message: string, waitMs = 1000): RegistryError {
  return new RegistryError('tooManyRequests', message, { headers: { 'retry-after': String(Math.max(1, Math.ceil(waitMs / 1000))) } });
}
