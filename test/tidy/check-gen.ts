/** Fails when gen/ differs from what the protos generate now: generates into a copy and compares. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const copy = mkdtempSync(join(tmpdir(), 'shoal-gen-'));

function contents(root: string): Map<string, string> {
  const files = (readdirSync(root, { recursive: true }) as string[]).filter((file) => file.endsWith('.ts')).sort();
  return new Map(files.map((file) => [file, readFileSync(join(root, file), 'utf8')]));
}

try {
  for (const part of ['proto', 'buf.yaml', 'buf.gen.yaml', 'package.json', 'tsconfig.json'])
    cpSync(part, join(copy, part), { recursive: true });
  symlinkSync(resolve('node_modules'), join(copy, 'node_modules'));
  execFileSync('node_modules/.bin/buf', ['generate'], { cwd: copy, stdio: 'inherit' });
  for (const script of ['proto/rpc-policy.ts', 'proto/descriptors.ts']) {
    execFileSync(process.execPath, ['--import', 'tsx', script], { cwd: copy, stdio: 'inherit' });
  }
  const fresh = contents(join(copy, 'gen'));
  const committed = contents('gen');
  const differing = [...new Set([...fresh.keys(), ...committed.keys()])].filter((file) => fresh.get(file) !== committed.get(file));
  for (const file of differing) process.stderr.write(`gen/${file} is not what the protos say: run make gen\n`);
  process.exitCode = differing.length > 0 ? 1 : 0;
} finally {
  rmSync(copy, { recursive: true, force: true });
}
