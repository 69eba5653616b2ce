/** Temporary folders that vanish with the process of the test file, after everything that the file's hooks stop. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A new folder, removed when the process ends. */
export function tempDir(name: string): string {
  const path = mkdtempSync(join(tmpdir(), `shoal-${name}-`));
  process.once('exit', () => rmSync(path, { recursive: true, force: true, maxRetries: 5 }));
  return path;
}
