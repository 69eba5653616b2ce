/** What was written to the files of a host, kept beside its configuration so that it can be taken back exactly. */
import { z } from 'zod';
import { AppError } from '#core';
import type { HostFiles } from './files.ts';
import { runtimes } from './settings.ts';

/** Holds what the files were before, so it is for root's eyes only. */
export const recordPath = '/etc/shoal/agent-configure.json';
export const recordMode = 0o600;

const entrySchema = z.strictObject({
  runtime: z.enum(runtimes),
  path: z.string(),
  /** Null when there was no file. */
  before: z.string().nullable(),
  after: z.string(),
  agent: z.strictObject({ url: z.string(), host: z.string() }),
});
const recordSchema = z.strictObject({ version: z.literal(1), files: z.array(entrySchema) });

export type RecordEntry = z.infer<typeof entrySchema>;

/** No entries when nothing has been written. Throws `failed-precondition` when the record is damaged. */
export async function readRecord(files: HostFiles): Promise<readonly RecordEntry[]> {
  const text = await files.read(recordPath);
  if (text === undefined) return [];
  try {
    return recordSchema.parse(JSON.parse(text)).files;
  } catch (error) {
    throw new AppError(
      'failed-precondition',
      `${recordPath} is damaged: take what is marked "shoal" out of the files by hand, then remove it`,
      {
        cause: error,
      },
    );
  }
}

export function recordText(files: readonly RecordEntry[]): string {
  return `${JSON.stringify({ version: 1, files }, undefined, 2)}\n`;
}
