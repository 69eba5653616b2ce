import assert from 'node:assert/strict';
import { test } from 'node:test';
import { z } from 'zod';
import { isAppError } from '#core';
import { commonParts, parseConfig, storePart } from '#runtime';

const schema = z.strictObject({
  ...commonParts,
  store: storePart,
  peers: z.array(z.strictObject({ id: z.string(), endpoint: z.string() })).default([]),
});
const good =
  'node: { id: a1 }\ncertificates: { directory: certs }\ngrpc: { listen: 127.0.0.1:0 }\nstore: { directory: data, capacity: 2GiB }\n';

/** The message of the refusal of `text`. */
function refusal(text: string): string {
  try {
    parseConfig(schema, text, 'agent.yaml');
  } catch (error) {
    assert.ok(isAppError(error, 'invalid-argument'), String(error));
    return error.message;
  }
  throw new Error('the config was accepted');
}

test('units are parsed, defaults are filled in and the result is frozen', () => {
  const config = parseConfig(schema, good, 'agent.yaml');
  assert.equal(config.store.capacity, 2 * 2 ** 30);
  assert.equal(config.log.level, 'info');
  assert.equal(config.shutdown.grace, 10_000);
  assert.throws(() => Object.assign(config.store, { capacity: 1 }));
});

test('an unknown key is refused with the nearest valid name', () => {
  assert.match(refusal(good.replace('capacity', 'capcity')), /store\.capcity: unknown key; did you mean store\.capacity\?/);
  assert.match(refusal(`${good}shutdwn: {}\n`), /shutdwn: unknown key; did you mean shutdown\?/);
});

test('an unknown key inside a list is found too', () => {
  assert.match(refusal(`${good}peers: [{ id: a, endpint: b }]\n`), /peers\.0\.endpint: unknown key; did you mean peers\.0\.endpoint\?/);
});

test('a key that resembles nothing gets the list of valid ones', () => {
  assert.match(refusal(good.replace('capacity', 'zzzzzzzzzzzz')), /unknown key; valid here: directory, capacity/);
});

test('every fault is told at once, with its place', () => {
  const message = refusal('node: { id: UPPER }\ngrpc: { listen: nowhere }\nstore: { directory: d, capacity: lots }\n');
  for (const place of ['node.id', 'certificates', 'grpc.listen', 'store.capacity']) assert.match(message, new RegExp(`^  ${place}: `, 'm'));
});

test('broken YAML and an empty file are refused, not crashed on', () => {
  assert.match(refusal('node: ['), /not valid YAML/);
  assert.match(refusal(''), /node: /);
});
