import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parse } from 'yaml';
import type { z } from 'zod';
import { type CommonConfig, loadConfig, parseConfig } from '#runtime';
import { agentConfig } from '../../../services/agent/config.ts';
import { buildIndexConfig } from '../../../services/build-index/config.ts';
import { originConfig } from '../../../services/origin/config.ts';
import { proxyConfig } from '../../../services/proxy/config.ts';
import { trackerConfig } from '../../../services/tracker/config.ts';

const schemas: Readonly<Record<string, z.ZodType<CommonConfig>>> = {
  agent: agentConfig,
  'build-index': buildIndexConfig,
  origin: originConfig,
  proxy: proxyConfig,
  tracker: trackerConfig,
};

for (const [name, schema] of Object.entries(schemas)) {
  const file = `deploy/config/${name}.yaml`;

  test(`the example of the ${name} is valid`, () => {
    assert.equal(typeof loadConfig(schema, file).node.id, 'string');
  });

  test(`the example of the ${name} shows every key with its true default`, () => {
    const example = parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    const full = loadConfig(schema, file) as Record<string, unknown>;
    const {
      swarm: _swarm,
      uploads: _uploads,
      log: _log,
      shutdown: _shutdown,
      writeBack: _writeBack,
      telemetry: _telemetry,
      audit: _audit,
      ...required
    } = example;
    const { registry } = required as { readonly registry?: Record<string, unknown> };
    if (registry !== undefined) required['registry'] = { listen: registry['listen'], allowedNetworks: registry['allowedNetworks'] };
    const defaults = parseConfig(schema, JSON.stringify(required), file) as Record<string, unknown>;
    assert.deepEqual(full, defaults);
    assert.deepEqual(Object.keys(full).sort(), Object.keys(example).sort());
  });
}
