import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { after, test } from 'node:test';

const root = mkdtempSync(join(tmpdir(), 'shoal-layers-'));
after(() => rmSync(root, { recursive: true, force: true }));

/** Runs the layer check over a small tree of its own. */
function checkLayers(files: Readonly<Record<string, string>>) {
  const tree = mkdtempSync(join(root, 'tree-'));
  for (const part of ['package.json', 'tsconfig.json', '.dependency-cruiser.cjs', 'test/tidy/check-layers.ts'])
    cpSync(part, join(tree, part));
  symlinkSync(resolve('node_modules'), join(tree, 'node_modules'));
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(dirname(join(tree, file)), { recursive: true });
    writeFileSync(join(tree, file), text);
  }
  return spawnSync(process.execPath, ['--import', 'tsx', 'test/tidy/check-layers.ts'], {
    cwd: tree,
    encoding: 'utf8',
    env: { ...process.env, LAYERS_MODULES_MIN: '2' },
  });
}

const core = { 'services/lib/core/index.ts': 'export const one = 1;\n' };

test('an import from a lower layer passes', () => {
  const result = checkLayers({ ...core, 'services/lib/swarm/index.ts': "import { one } from '#core';\nexport const two = one + 1;\n" });
  assert.equal(result.status, 0, result.stderr);
});

const planted: Readonly<Record<string, { readonly rule: string; readonly files: Readonly<Record<string, string>> }>> = {
  'core that imports swarm': {
    rule: 'layer-core',
    files: { 'services/lib/core/index.ts': "export { two } from '#swarm';\n", 'services/lib/swarm/index.ts': 'export const two = 2;\n' },
  },
  'wire that imports storage': {
    rule: 'wire-knows-no-storage',
    files: {
      ...core,
      'services/lib/wire/index.ts': "export { two } from '#storage';\n",
      'services/lib/storage/index.ts': 'export const two = 2;\n',
    },
  },
  'registry that imports wire': {
    rule: 'core-only',
    files: {
      ...core,
      'services/lib/registry/index.ts': "export { two } from '#wire';\n",
      'services/lib/wire/index.ts': 'export const two = 2;\n',
    },
  },
  'a service that imports another': {
    rule: 'services-apart',
    files: {
      ...core,
      'services/agent/main.ts': "export { two } from '../origin/main.ts';\n",
      'services/origin/main.ts': 'export const two = 2;\n',
    },
  },
  'an import past an index': {
    rule: 'through-the-index',
    files: {
      ...core,
      'services/lib/core/digest.ts': 'export const two = 2;\n',
      'services/agent/main.ts': "export { two } from '../lib/core/digest.ts';\n",
    },
  },
  'a service that uses fastify itself': {
    rule: 'only-registry-uses-fastify',
    files: { ...core, 'services/agent/main.ts': "export { fastify } from 'fastify';\n" },
  },
};

for (const [name, { rule, files }] of Object.entries(planted)) {
  test(`${name} fails the check`, () => {
    const result = checkLayers(files);
    assert.equal(result.status, 1, result.stdout);
    assert.match(result.stderr, new RegExp(`^${rule}: `, 'm'));
  });
}

test('a check that looked at nothing fails', () => {
  const result = checkLayers({ 'services/empty/readme.md': 'nothing\n' });
  assert.notEqual(result.status, 0);
});
