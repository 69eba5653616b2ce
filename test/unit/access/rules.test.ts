import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Right } from '#registry';
import { matchesRepository, matchesText, repositoryPatternFault } from '../../../services/lib/access/glob.ts';
import { type Groups, grantsOf, type Rule } from '../../../services/lib/access/rules.ts';
import { anonymous, principalOf, type Subject, subjectOf } from '../../../services/lib/access/subject.ts';

const rights: readonly Right[] = ['pull', 'push', 'delete'];
const user = (name: string, groups: readonly string[] = []): Subject => ({ kind: 'user', name, groups });

const component = fc.constantFrom('a', 'b', 'ab', 'aab', 'a-b');
const repository = fc.array(component, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));
const pattern = fc
  .array(fc.constantFrom('a', 'b', 'ab', '*', 'a*', '*b', 'a*b', '**'), { minLength: 1, maxLength: 4 })
  .map((parts) => parts.join('/'));
const who = fc.constantFrom('anonymous', 'authenticated', 'user:alice', 'user:bob', 'user:*', 'group:ci', 'token:repo:*');
const rule: fc.Arbitrary<Rule> = fc.record({
  who: fc.array(who, { minLength: 1, maxLength: 3 }),
  repositories: fc.array(pattern, { minLength: 1, maxLength: 3 }),
  allow: fc.uniqueArray(fc.constantFrom(...rights), { minLength: 1 }),
});
const subject = fc.constantFrom<Subject>(
  anonymous,
  user('alice'),
  user('bob'),
  user('carol', ['ci']),
  { kind: 'token', name: 'repo:x/y', groups: [] },
  { kind: 'certificate', name: 'builder', groups: [] },
);
const groups: Groups = { ci: ['bob', 'certificate:builder'] };

/** The matcher written as its definition says, by backtracking. */
function slowMatch(steps: readonly string[], parts: readonly string[]): boolean {
  const [step, ...rest] = steps;
  if (step === undefined) return parts.length === 0;
  if (step === '**') {
    const least = rest.length === 0 ? 1 : 0;
    return Array.from({ length: parts.length + 1 }, (_, count) => count).some(
      (count) => count >= least && slowMatch(rest, parts.slice(count)),
    );
  }
  const [part, ...others] = parts;
  return part !== undefined && slowText(step, part) && slowMatch(rest, others);
}

function slowText(text: string, part: string): boolean {
  if (text === '') return part === '';
  if (text[0] !== '*') return part[0] === text[0] && slowText(text.slice(1), part.slice(1));
  return Array.from({ length: part.length + 1 }, (_, count) => count).some((count) => slowText(text.slice(1), part.slice(count)));
}

test('patterns match what their definition says', () => {
  fc.assert(
    fc.property(pattern, repository, (glob, name) => {
      assert.equal(matchesRepository(glob, name), slowMatch(glob.split('/'), name.split('/')));
    }),
    { numRuns: 3000 },
  );
});

test('stars in a text match any part of it', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '*'), maxLength: 8 });
  const plain = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 8 });
  fc.assert(
    fc.property(text, plain, (glob, name) => assert.equal(matchesText(glob, name), slowText(glob, name))),
    { numRuns: 3000 },
  );
});

test('a pattern of many stars is matched in no time', () => {
  const startedMs = performance.now();
  matchesRepository(`${'*a'.repeat(100)}b`, 'a'.repeat(255));
  matchesRepository('**/*/'.repeat(40).concat('x'), 'a/'.repeat(127).concat('b'));
  assert.ok(performance.now() - startedMs < 200);
});

test('examples of patterns', () => {
  const cases: readonly (readonly [string, string, boolean])[] = [
    ['**', 'a', true],
    ['**', 'a/b/c', true],
    ['team/**', 'team/app', true],
    ['team/**', 'team/app/x', true],
    ['team/**', 'team', false],
    ['team/**', 'teams/app', false],
    ['team/*', 'team/app', true],
    ['team/*', 'team/app/x', false],
    ['**/base', 'base', true],
    ['**/base', 'a/b/base', true],
    ['**/base', 'a/database', false],
    ['app-*', 'app-1', true],
    ['app', 'app', true],
  ];
  for (const [glob, name, expected] of cases) assert.equal(matchesRepository(glob, name), expected, `${glob} ${name}`);
});

test('what is no pattern is told', () => {
  for (const bad of ['', '/a', 'a//b', 'a/', 'a**', 'A', 'a b', 'x'.repeat(256)]) assert.ok(repositoryPatternFault(bad) !== undefined, bad);
  for (const good of ['**', 'a/**', '*', 'a-*/b_c.d', '**/x']) assert.equal(repositoryPatternFault(good), undefined, good);
});

test('the order of rules means nothing', () => {
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 5 }), subject, repository, (rules, who_, name) => {
      const forth = grantsOf(rules, groups, who_);
      const back = grantsOf([...rules].reverse(), groups, who_);
      for (const right of rights) assert.equal(forth.has(right, name), back.has(right, name));
    }),
  );
});

test('another rule never takes a right away, and each right comes from some rule alone', () => {
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 5 }), rule, subject, repository, (rules, another, who_, name) => {
      const before = grantsOf(rules, groups, who_);
      const after = grantsOf([...rules, another], groups, who_);
      for (const right of rights) {
        if (before.has(right, name)) assert.ok(after.has(right, name));
        assert.equal(
          before.has(right, name),
          rules.some((one) => grantsOf([one], groups, who_).has(right, name)),
        );
      }
    }),
  );
});

test('a right is only ever given by a rule that names it: pushing gives no deleting', () => {
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 5 }), subject, repository, fc.constantFrom(...rights), (rules, who_, name, right) => {
      const without = rules.map((one) => ({ ...one, allow: one.allow.filter((given) => given !== right) }));
      assert.equal(grantsOf(without, groups, who_).has(right, name), false);
    }),
  );
});

test('whoever has logged in may do what anybody may', () => {
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 5 }), subject, repository, (rules, who_, name) => {
      for (const right of rights) {
        if (grantsOf(rules, groups, anonymous).has(right, name)) assert.ok(grantsOf(rules, groups, who_).has(right, name));
      }
    }),
  );
});

test('a right that holds everywhere holds for every repository', () => {
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 5 }), subject, repository, (rules, who_, name) => {
      const grants = grantsOf(rules, groups, who_);
      for (const right of rights) {
        if (grants.hasEverywhere(right)) assert.ok(grants.has(right, name));
        if (grants.has(right, name)) assert.ok(grants.hasSomewhere(right));
      }
    }),
  );
});

test('groups are made of users and, with their kind, of others, and of what a token says', () => {
  const rules: readonly Rule[] = [{ who: ['group:ci'], repositories: ['**'], allow: ['pull'] }];
  const may = (one: Subject): boolean => grantsOf(rules, groups, one).has('pull', 'x');
  assert.equal(may(user('bob')), true);
  assert.equal(may(user('alice')), false);
  assert.equal(may({ kind: 'certificate', name: 'builder', groups: [] }), true);
  assert.equal(may({ kind: 'token', name: 'bob', groups: [] }), false);
  assert.equal(may({ kind: 'token', name: 'any', groups: ['ci'] }), true);
  assert.equal(may(anonymous), false);
  assert.equal(grantsOf([{ who: ['group:toString'], repositories: ['**'], allow: ['pull'] }], groups, user('bob')).has('pull', 'x'), false);
});

test('a principal is written and read again', () => {
  const name = fc.string({ minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(fc.constantFrom('user' as const, 'certificate' as const, 'token' as const), name, (kind, text) => {
      const one: Subject = { kind, name: text, groups: [] };
      assert.deepEqual(subjectOf(principalOf(one)), one);
    }),
  );
  assert.deepEqual(subjectOf('anonymous'), anonymous);
  for (const bad of ['', 'user:', 'root:x', 'alice', ':x']) assert.equal(subjectOf(bad), undefined);
});
