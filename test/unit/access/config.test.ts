import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { z } from 'zod';
import { accessPart } from '#access';
import { loadConfig, parseConfig } from '#runtime';

const schema = z.strictObject({ access: accessPart });
const everything = { who: ['anonymous'], repositories: ['**'], allow: ['pull'] };

function faultOf(access: object): string {
  try {
    parseConfig(schema, stringify({ access: { rules: [everything], ...access } }), 'x.yaml');
    return '';
  } catch (error) {
    return error instanceof Error ? error.message : '';
  }
}

test('the example is valid', () => {
  assert.equal(loadConfig(schema, 'deploy/config/access.yaml').access.rules.length, 5);
});

test('rules are enough, and the defaults are those of the example', () => {
  const { access } = parseConfig(schema, stringify({ access: { rules: [everything] } }), 'x.yaml');
  assert.deepEqual([access.token.lifetime, access.service, access.groups, access.issuers], [300_000, 'shoal', {}, []]);
});

const htpasswd = { file: 'x' };
const issuer = { issuer: 'https://id.example.com', audience: 'r', jwks: { file: 'x' } };
const faults: readonly (readonly [object, RegExp])[] = [
  [{ rules: [] }, /access\.rules: write at least one rule/],
  [{ rules: [{ ...everything, who: ['usr:alice'] }] }, /access\.rules\.0\.who\.0: did you mean user:alice\?/],
  [{ rules: [{ ...everything, who: ['anonymus'] }] }, /did you mean anonymous\?/],
  [{ rules: [{ ...everything, who: ['user:'] }] }, /write anonymous, authenticated, group:NAME/],
  [{ rules: [{ ...everything, who: ['user:alice'] }] }, /there are no users: set access\.htpasswd\.file/],
  [{ htpasswd, groups: { builders: [] }, rules: [{ ...everything, who: ['group:bilders'] }] }, /did you mean group:builders\?/],
  [{ rules: [{ ...everything, who: ['token:x'] }], issuers: [issuer] }, /add an issuer with grants: rules/],
  [{ rules: [{ ...everything, allow: ['push'] }] }, /write \[pull, push\]/],
  [{ rules: [{ ...everything, allow: ['destroy'] }] }, /access\.rules\.0\.allow\.0/],
  [{ rules: [{ ...everything, repositories: ['Team/x'] }] }, /use lower-case letters/],
  [
    { rules: [{ ...everything, repositries: [] }] },
    /access\.rules\.0\.repositries: unknown key; did you mean access\.rules\.0\.repositories\?/,
  ],
  [{ htpaswd: htpasswd }, /access\.htpaswd: unknown key; did you mean access\.htpasswd\?/],
  [{ token: { lifetime: '5s' } }, /access\.token\.lifetime: write it like 10s/],
  [{ realm: 'https://id.example.com/token' }, /needs an issuer/],
  [{ issuers: [issuer], realm: 'https://id.example.com/basic' }, /the words "basic" or "bearer"/],
  [{ issuers: [issuer], realm: 'https://id.example.com/"' }, /write it like/],
  [{ issuers: [issuer, issuer] }, /each issuer stands once/],
  [{ issuers: [{ ...issuer, issuer: 'shoal' }] }, /the issuer of the own tokens/],
  [{ issuers: [{ ...issuer, algorithms: ['HS256'] }] }, /access\.issuers\.0\.algorithms\.0/],
  [{ issuers: [{ ...issuer, jwks: { url: 'http://id.example.com/keys' } }] }, /access\.issuers\.0\.jwks/],
  [{ publicUrl: 'https://registry.example.com/v2/' }, /scheme, host and perhaps port/],
];

for (const [access, message] of faults) {
  test(`told for people: ${JSON.stringify(access).slice(0, 90)}`, () => assert.match(faultOf(access), message));
}

test('keys over http are taken from this machine only', () => {
  assert.equal(faultOf({ issuers: [{ ...issuer, jwks: { url: 'http://127.0.0.1:1/keys' } }] }), '');
  assert.equal(faultOf({ issuers: [{ ...issuer, jwks: { url: 'https://id.example.com/keys' } }] }), '');
});
