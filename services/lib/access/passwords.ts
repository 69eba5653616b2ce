/** Users and their passwords: each check of bcrypt is remembered for a while, because clients send their password with every token they fetch. */
import { createHmac, randomBytes } from 'node:crypto';
import { AppError, type Clock } from '#core';
import type { BcryptWorker } from './bcrypt-worker.ts';
import { decoyHash, type Users } from './htpasswd.ts';
import type { WatchedFile } from './watched-file.ts';

/** How long a right password is taken without another check, in milliseconds. A change of the file counts at once. */
const rightTtlMs = 300_000;
/** A wrong one is forgotten soon; until then a client that repeats it costs nothing. */
const wrongTtlMs = 10_000;
const rememberedMax = 10_000;
/** Half of what may wait in all: whoever guesses passwords from one address does not keep the others out. */
const waitingPerAddressMax = 50;
/** Bcrypt looks at 72 bytes; no client sends a thousand. */
const passwordLengthMax = 1024;

interface Remembered {
  readonly isRight: Promise<boolean>;
  readonly untilMs: number;
}

export interface PasswordDeps {
  readonly clock: Pick<Clock, 'nowMs'>;
  readonly worker: Pick<BcryptWorker, 'check'>;
  readonly users: Pick<WatchedFile<Users>, 'current'>;
}

export class Passwords {
  readonly #deps: PasswordDeps;
  /** Passwords are kept as keyed hashes; the key dies with the process. Oldest first. */
  readonly #key = randomBytes(32);
  readonly #remembered = new Map<string, Remembered>();
  /** Checks that wait, by address. */
  readonly #waiting = new Map<string, number>();

  constructor(deps: PasswordDeps) {
    this.#deps = deps;
  }

  /** Whether the user exists and has the password. Throws `resource-exhausted` when too many ask at once. */
  async check(user: string, password: string, address = ''): Promise<boolean> {
    if (password.length > passwordLengthMax || user.length > passwordLengthMax) return false;
    const { clock, worker, users: file } = this.#deps;
    const users = await file.current();
    const hash = users.get(user);
    // The hash is part of the key: with a new password of the user the old entry is never found again.
    const key = createHmac('sha256', this.#key)
      .update(JSON.stringify([user, password, hash]))
      .digest('base64');
    const known = this.#remembered.get(key);
    if (known !== undefined && known.untilMs > clock.nowMs()) return known.isRight;
    this.#admit(address);
    const isRight = worker
      .check(password, hash ?? decoyHash(users))
      .then((matches) => matches && hash !== undefined)
      .finally(() => this.#release(address));
    // Those who ask meanwhile wait for the same check.
    this.#remember(key, { isRight, untilMs: clock.nowMs() + wrongTtlMs });
    try {
      if (await isRight) this.#remember(key, { isRight, untilMs: clock.nowMs() + rightTtlMs });
    } catch (error) {
      this.#remembered.delete(key);
      throw error;
    }
    return isRight;
  }

  #admit(address: string): void {
    const waiting = this.#waiting.get(address) ?? 0;
    if (waiting >= waitingPerAddressMax) {
      throw new AppError('resource-exhausted', 'too many logins at once from this address; try again', { retryAfterMs: 2000 });
    }
    this.#waiting.set(address, waiting + 1);
  }

  #release(address: string): void {
    const waiting = (this.#waiting.get(address) ?? 1) - 1;
    if (waiting > 0) this.#waiting.set(address, waiting);
    else this.#waiting.delete(address);
  }

  #remember(key: string, entry: Remembered): void {
    this.#remembered.delete(key);
    this.#remembered.set(key, entry);
    const oldest = this.#remembered.keys().next();
    if (this.#remembered.size > rememberedMax && oldest.done !== true) this.#remembered.delete(oldest.value);
  }
}
