import assert from 'node:assert/strict';
import { test } from 'node:test';
import bcrypt from 'bcryptjs';
import { isAppError } from '#core';
import { ManualClock } from '#test/support/manual-clock';
import { BcryptWorker } from '../../../services/lib/access/bcrypt-worker.ts';
import { decoyHash, parseHtpasswd, type Users } from '../../../services/lib/access/htpasswd.ts';
import { Passwords } from '../../../services/lib/access/passwords.ts';

const hash = (password: string): string => bcrypt.hashSync(password, 4);

test('bcrypt lines are read, with comments and blank lines between', () => {
  const line = hash('x');
  const users = parseHtpasswd(`# people\n\nalice:${line}\r\nbob:${line.replace('$2b$', '$2y$')}\n`);
  assert.deepEqual([...users.keys()], ['alice', 'bob']);
  assert.equal(users.get('alice'), line);
});

test('other hashes are refused with the line, the user, the kind and what to do', () => {
  const kinds: Readonly<Record<string, RegExp>> = {
    $apr1$abcdefgh$0123456789012345678901: /line 2: the password of eve is Apache MD5; .*htpasswd -B/,
    '{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=': /SHA-1/,
    $6$salt$hash: /SHA-2 crypt/,
    rqXexS6ZhobKA: /DES crypt/,
    [hash('x').replace('$2b$', '$2x$')]: /known flaw/,
    [hash('x').replace('$2b$04', '$2b$31')]: /cost of eve is 31/,
    plain: /no hash that is known/,
    '': /no hash that is known/,
  };
  for (const [text, message] of Object.entries(kinds)) {
    assert.throws(() => parseHtpasswd(`# x\neve:${text}`), { code: 'invalid-argument', message }, text);
  }
  assert.throws(() => parseHtpasswd('nobody'), /line 1: not a user/);
  assert.throws(() => parseHtpasswd(`a b:${hash('x')}`), /user name/);
  assert.throws(() => parseHtpasswd(`a:${hash('x')}\na:${hash('y')}`), /line 2: .*second time/);
});

test('an unknown user costs as much as a known one', () => {
  assert.match(decoyHash(new Map([['a', hash('x').replace('$04$', '$12$')]])), /^\$2b\$12\$/);
  assert.equal(bcrypt.compareSync('', decoyHash(new Map())), false);
});

test('the thread tells right from wrong, and starts again after it was ended', async () => {
  await using worker = new BcryptWorker();
  const right = hash('secret');
  assert.deepEqual(await Promise.all([worker.check('secret', right), worker.check('Secret', right)]), [true, false]);
  await worker[Symbol.asyncDispose]();
  assert.equal(await worker.check('secret', right), true);
});

test('a check on the thread leaves the event loop free', async () => {
  await using worker = new BcryptWorker();
  const costly = bcrypt.hashSync('x', 10);
  await worker.check('x', hash('x'));
  let turns = 0;
  let isDone = false;
  const check = worker.check('x', costly).finally(() => {
    isDone = true;
  });
  let longestMs = 0;
  while (!isDone) {
    const startedMs = performance.now();
    await new Promise(setImmediate);
    longestMs = Math.max(longestMs, performance.now() - startedMs);
    turns += 1;
  }
  assert.equal(await check, true);
  assert.ok(turns > 10, `${turns} turns, the longest ${longestMs} ms`);
});

function counting(users: Users) {
  const clock = new ManualClock();
  let current = users;
  let checks = 0;
  const worker = {
    check: async (password: string, line: string) => {
      checks += 1;
      return bcrypt.compareSync(password, line);
    },
  };
  const passwords = new Passwords({ clock, worker, users: { current: async () => current } });
  return {
    clock,
    passwords,
    checks: () => checks,
    replace: (next: Users) => {
      current = next;
    },
  };
}

test('a right password is checked once for five minutes, and asked for at the same time only once', async () => {
  const { passwords, clock, checks } = counting(new Map([['alice', hash('pw')]]));
  assert.deepEqual(await Promise.all([1, 2, 3].map(() => passwords.check('alice', 'pw'))), [true, true, true]);
  assert.equal(checks(), 1);
  clock.advance(299_000);
  assert.equal(await passwords.check('alice', 'pw'), true);
  assert.equal(checks(), 1);
  clock.advance(2000);
  await passwords.check('alice', 'pw');
  assert.equal(checks(), 2);
});

test('a wrong password, an unknown user and the hash itself are refused, and remembered for seconds', async () => {
  const line = hash('pw');
  const { passwords, clock, checks } = counting(new Map([['alice', line]]));
  for (const [name, password] of [
    ['alice', 'no'],
    ['bob', 'pw'],
    ['alice', line],
    ['alice', ''],
  ] as const) {
    assert.equal(await passwords.check(name, password), false);
    assert.equal(await passwords.check(name, password), false);
  }
  assert.equal(checks(), 4);
  clock.advance(10_001);
  await passwords.check('alice', 'no');
  assert.equal(checks(), 5);
});

test('a new password in the file counts at once, the old one no longer', async () => {
  const { passwords, replace } = counting(new Map([['alice', hash('old')]]));
  assert.equal(await passwords.check('alice', 'old'), true);
  replace(new Map([['alice', hash('new')]]));
  assert.equal(await passwords.check('alice', 'old'), false);
  assert.equal(await passwords.check('alice', 'new'), true);
  replace(new Map());
  assert.equal(await passwords.check('alice', 'new'), false);
});

test('one address cannot keep the others from logging in', async () => {
  await using worker = new BcryptWorker();
  const users: Users = new Map([['alice', hash('pw')]]);
  const passwords = new Passwords({ clock: new ManualClock(), worker, users: { current: async () => users } });
  const guesses = Promise.allSettled(Array.from({ length: 300 }, (_, index) => passwords.check('alice', `guess ${index}`, '10.0.0.1')));
  assert.equal(await passwords.check('alice', 'pw', '10.0.0.2'), true);
  assert.equal((await guesses).filter((one) => one.status === 'rejected').length, 250);
  assert.equal(await passwords.check('alice', 'other', '10.0.0.1'), false);
});

test('too many checks at once are refused and not remembered', async () => {
  await using worker = new BcryptWorker();
  const users: Users = new Map([['alice', hash('pw')]]);
  const passwords = new Passwords({ clock: new ManualClock(), worker, users: { current: async () => users } });
  const asked = await Promise.allSettled(
    Array.from({ length: 150 }, (_, index) => passwords.check('alice', `guess ${index}`, `10.0.0.${index}`)),
  );
  const refused = asked.filter((one) => one.status === 'rejected');
  assert.equal(refused.length, 50);
  assert.ok(refused.every((one) => isAppError(one.reason, 'resource-exhausted') && one.reason.retryAfterMs !== undefined));
  assert.equal(await passwords.check('alice', 'pw'), true);
  assert.equal(await passwords.check('alice', 'guess 149'), false);
});
