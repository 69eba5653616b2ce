import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '#core';
import { createLogger, redacted } from '#telemetry';

function capture(): { lines: string[]; destination: { write(line: string): void } } {
  const lines: string[] = [];
  return { lines, destination: { write: (line) => void lines.push(line) } };
}

test('a line has level, name, constant message and fields, and children add theirs', () => {
  const { lines, destination } = capture();
  createLogger({ name: 'agent', destination }).child({ module: 'swarm' }).warn('link lost', { peer: 'agent/a1' });
  const line = JSON.parse(lines[0] ?? '');
  assert.match(line.time, /^\d{4}-.*Z$/);
  assert.deepEqual([line.level, line.name, line.message, line.module, line.peer], ['warn', 'agent', 'link lost', 'swarm', 'agent/a1']);
});

test('levels below the chosen one are not written', () => {
  const { lines, destination } = capture();
  const logger = createLogger({ name: 'agent', level: 'warn', destination });
  logger.info('no');
  logger.error('yes');
  assert.equal(lines.length, 1);
});

for (const name of [
  'authorization',
  'Authorization',
  'password',
  'token',
  'accessToken',
  'key',
  'keyPem',
  'keyFileText',
  'clientSecret',
  'set-cookie',
]) {
  test(`the value of ${name} is never written, at any depth or in a child`, () => {
    const { lines, destination } = capture();
    const logger = createLogger({ name: 'agent', destination });
    logger.info('x', { [name]: 'hunter2', deep: { list: [{ [name]: 'hunter2' }] } });
    logger.child({ [name]: 'hunter2' }).info('x');
    logger.info('x', { error: new Error('x', { cause: new AppError('internal', 'x', { data: { [name]: 'hunter2' } }) }) });
    assert.equal(lines.length, 3);
    assert.ok(!lines.join('').includes('hunter2'));
    assert.ok(lines.every((line) => line.includes(redacted)));
  });
}

test('bytes are told by their length, counts stay, big integers and loops do not break a line', () => {
  const { lines, destination } = capture();
  const loop: Record<string, unknown> = {};
  loop['self'] = loop;
  createLogger({ name: 'agent', destination }).info('x', { piece: new Uint8Array(7), keyCount: 3, size: 5n, loop });
  const line = JSON.parse(lines[0] ?? '');
  assert.deepEqual([line.piece, line.keyCount, line.size], ['<7 bytes>', 3, '5']);
});

test('an operating error is told by code, message and cause', () => {
  const { lines, destination } = capture();
  const error = new AppError('unavailable', 'try later', { data: { peer: 'origin/o1' }, cause: new Error('reset') });
  createLogger({ name: 'agent', destination }).error('x', { error });
  const line = JSON.parse(lines[0] ?? '');
  assert.deepEqual(
    [line.error.code, line.error.message, line.error.data.peer, line.error.cause.message],
    ['unavailable', 'try later', 'origin/o1', 'reset'],
  );
});

test('pretty lines are for people', () => {
  const { lines, destination } = capture();
  createLogger({ name: 'agent', destination, pretty: true }).info('started', { port: 5 });
  assert.match(lines.join(''), /INFO.*started[\s\S]*port: 5/);
});
