/** Files of users and password hashes as `htpasswd -B` writes them. Pure. */
import { AppError } from '#core';

/** User name to bcrypt hash. */
export type Users = ReadonlyMap<string, string>;

/** 10,000 users are about a megabyte. */
export const htpasswdBytesMax = 2 * 1024 * 1024;

const bcryptPattern = /^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$/;

/** A hash of cost 14 takes seconds to check; beyond that, a few logins would keep a gateway busy. */
const costMax = 14;
const costMin = 4;

/** What a user name may be made of: it stands in rules, tokens and log lines. */
const userPattern = /^[A-Za-z0-9._@+-]{1,128}$/;

const otherHashes: readonly (readonly [RegExp, string])[] = [
  [/^\$apr1\$/, 'Apache MD5'],
  [/^\{SHA\}/, 'SHA-1'],
  [/^\$[56]\$/, 'SHA-2 crypt'],
  [/^\$1\$/, 'MD5 crypt'],
  [/^\$2x\$/, 'a bcrypt variant with a known flaw'],
  [/^[./A-Za-z0-9]{13}$/, 'DES crypt'],
];

/** Throws `invalid-argument`, naming the line, for anything but bcrypt. */
export function parseHtpasswd(text: string): Users {
  const users = new Map<string, string>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const colon = line.indexOf(':');
    const [user, hash] = [line.slice(0, Math.max(0, colon)), line.slice(colon + 1).trimEnd()];
    const fault = users.has(user) ? `the user ${user} stands here a second time: drop one of the lines` : faultOf(user, hash);
    if (fault !== undefined) throw new AppError('invalid-argument', `htpasswd file, line ${index + 1}: ${fault}`);
    users.set(user, hash);
  }
  return users;
}

function faultOf(user: string, hash: string): string | undefined {
  if (user === '') return 'not a user: write USER:HASH, as `htpasswd -B` does';
  if (!userPattern.test(user)) return 'a user name is 1 to 128 of letters, digits, ".", "_", "@", "+" and "-"';
  const cost = Number(bcryptPattern.exec(hash)?.[1] ?? Number.NaN);
  if (Number.isNaN(cost)) {
    const kind = otherHashes.find(([pattern]) => pattern.test(hash))?.[1] ?? 'no hash that is known here';
    return `the password of ${user} is ${kind}; only bcrypt is accepted: htpasswd -B FILE ${user}`;
  }
  return cost < costMin || cost > costMax ? `the bcrypt cost of ${user} is ${cost}: use ${costMin} to ${costMax}` : undefined;
}

/** A hash that no password has, as costly as the costliest of the file: an unknown user takes as long to refuse as a known one. */
export function decoyHash(users: Users): string {
  const cost = Math.max(costMin, ...[...users.values()].map((hash) => Number(hash.slice(4, 6))));
  return `$2b$${String(cost).padStart(2, '0')}$${'.'.repeat(53)}`;
}
