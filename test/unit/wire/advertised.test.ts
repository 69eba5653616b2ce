import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isAppError } from '#core';
import { advertisedEndpoint } from '#wire';

describe('an advertised endpoint', () => {
  const resolve = advertisedEndpoint;

  it('stays when it has a host', () => assert.equal(resolve('h.example:7000', '10.1.2.3:5'), 'h.example:7000'));
  it('gets the IPv4 address of the caller', () => assert.equal(resolve(':7000', '10.1.2.3:5'), '10.1.2.3:7000'));
  it('gets the IPv6 address of the caller in brackets', () => {
    assert.equal(resolve(':7000', '[fd00::1]:5'), '[fd00::1]:7000');
    assert.equal(resolve(':7000', 'fd00::1:5'), '[fd00::1]:7000');
  });
  it('takes an IPv4 address out of its IPv6 form', () => assert.equal(resolve(':7000', '[::ffff:10.1.2.3]:5'), '10.1.2.3:7000'));
  it('is refused when it is malformed', () => {
    for (const bad of ['', 'host', ':0', ':99999', 'a b:1', 'x:1:2']) {
      assert.throws(
        () => resolve(bad, '10.1.2.3:5'),
        (error) => isAppError(error, 'invalid-argument'),
        bad,
      );
    }
  });
});
