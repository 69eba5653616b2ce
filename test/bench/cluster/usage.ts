/** What processes and the machine spend: CPU seconds, peak memory and bytes on the wire, from /proc. */
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';

/** Clock ticks of /proc in a second, on every Linux that Node runs on. */
const ticksPerSec = 100;

/** Since its start. */
export interface ProcessUsage {
  readonly cpuSeconds: number;
  readonly rssBytes: number;
  readonly peakRssBytes: number;
  /** Of all its network devices but the loopback. */
  readonly receivedBytes: number;
  readonly sentBytes: number;
}

/** What a process has used; undefined when it has ended. */
export function usageOf(pid: number): ProcessUsage | undefined {
  try {
    // The name may hold blanks; the numbers follow its closing bracket.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const bytesOf = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0) * 1024;
    return {
      cpuSeconds: (Number(stat[11]) + Number(stat[12])) / ticksPerSec,
      rssBytes: bytesOf('VmRSS'),
      peakRssBytes: bytesOf('VmHWM'),
      ...wireBytes(readFileSync(`/proc/${pid}/net/dev`, 'utf8')),
    };
  } catch {
    return undefined;
  }
}

function wireBytes(table: string): Pick<ProcessUsage, 'receivedBytes' | 'sentBytes'> {
  let receivedBytes = 0;
  let sentBytes = 0;
  for (const line of table.split('\n').slice(2)) {
    const [device, ...counts] = line.trim().split(/[:\s]+/);
    if (device === 'lo' || counts.length < 9) continue;
    receivedBytes += Number(counts[0]);
    sentBytes += Number(counts[8]);
  }
  return { receivedBytes, sentBytes };
}

/** Of the machine, since it started. */
export interface MachineUsage {
  readonly busySeconds: number;
  /** Counted for every CPU. */
  readonly allSeconds: number;
}

export function machineUsage(): MachineUsage {
  const [, user, nice, system, idle, iowait, irq, softirq, steal] = (readFileSync('/proc/stat', 'utf8').split('\n')[0] ?? '')
    .split(/\s+/)
    .map(Number);
  const busy = [user, nice, system, irq, softirq, steal].reduce<number>((sum, ticks) => sum + (ticks ?? 0), 0) / ticksPerSec;
  return { busySeconds: busy, allSeconds: busy + ((idle ?? 0) + (iowait ?? 0)) / ticksPerSec };
}

export function cpuCount(): number {
  return cpus().length;
}
