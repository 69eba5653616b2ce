/** Temporary folders that vanish with the test file. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';

/** A new folder, removed after the tests of this file. */
export function tempDir(name: string): string {
  const path = mkdtempSync(join(tmpdir(), `shoal-${name}-`));
  after(() => rmSync(path, { recursive: true, force: true, maxRetries: 5 }));
  return path;
}
