/**
 * Ids of upload sessions: UUIDs that name their origin, so that any proxy knows whom to ask without asking anybody. A UUID of version 8 (RFC 9562)
 * leaves its content to us: 48 bits of the SHA-256 of the origin's id, then random bits.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Member } from './types.ts';

/** Of a thousand origins two share these bits with a chance of 2 in a billion. */
const nameDigits = 12;

/** A new id of a session at the origin `id`. */
export function newUploadId(id: string): string {
  const bytes = randomBytes(16);
  bytes.set(
    createHash('sha256')
      .update(id)
      .digest()
      .subarray(0, nameDigits / 2),
  );
  bytes[6] = 0x80 | ((bytes[6] ?? 0) & 0x0f);
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f);
  const hex = bytes.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

/** Finds the origin that an id names; undefined for an id that was not made by {@link newUploadId} for one of the members. */
export class UploadIds {
  readonly #members: ReadonlyMap<string, Member>;

  constructor(members: readonly Member[]) {
    this.#members = new Map(members.map((member) => [nameOf(newUploadId(member.id)) ?? '', member]));
  }

  originOf(uploadId: string): Member | undefined {
    const name = nameOf(uploadId);
    return name === undefined ? undefined : this.#members.get(name);
  }
}

/** The digits that name the origin. */
function nameOf(uploadId: string): string | undefined {
  const match = /^([0-9a-f]{8})-([0-9a-f]{4})-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.exec(uploadId);
  return match === null ? undefined : `${match[1]}${match[2]}`;
}
