/** What a running process holds, as Linux counts it. */
import { readdirSync, readFileSync } from 'node:fs';

const pageBytes = 4096;

export interface ProcessUsage {
  /** Open files, sockets included. */
  readonly fileCount: number;
  readonly residentBytes: number;
}

/** Throws when the process has ended. */
export function usageOf(pid: number): ProcessUsage {
  const pages = readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1];
  return { fileCount: readdirSync(`/proc/${pid}/fd`).length, residentBytes: Number(pages) * pageBytes };
}
