import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatDuration, formatEndpoint, formatSize, nearestName, parseDuration, parseEndpoint, parseSize } from '#runtime';

test('sizes and durations are read as people write them', () => {
  assert.equal(parseSize('64MiB'), 64 * 2 ** 20);
  assert.equal(parseSize('1.5 GB'), 1.5e9);
  assert.equal(parseSize('12'), undefined);
  assert.equal(parseSize('12 parsecs'), undefined);
  assert.equal(parseDuration('250ms'), 250);
  assert.equal(parseDuration('7d'), 7 * 86_400_000);
});

test('sizes and durations are shown as people read them', () => {
  assert.equal(formatSize(512), '512 B');
  assert.equal(formatSize(1536), '1.5 KiB');
  assert.equal(formatDuration(250), '250 ms');
  assert.equal(formatDuration(90_061_000), '1 d 1 h');
});

test('endpoints are split and joined, IPv6 in brackets', () => {
  for (const text of ['127.0.0.1:80', '[::1]:443', 'host.example:1']) assert.equal(formatEndpoint(parseEndpoint(text)), text);
  assert.deepEqual(parseEndpoint(':5000'), { host: '::', port: 5000 });
  for (const text of ['host', 'host:', 'host:x', 'host:70000']) assert.throws(() => parseEndpoint(text));
});

test('the nearest name is found only when it is near', () => {
  assert.equal(nearestName('allowedNetwork', ['listen', 'allowedNetworks']), 'allowedNetworks');
  assert.equal(nearestName('quux', ['listen', 'allowedNetworks']), undefined);
});
