/** Runs programs inside the namespaces of hosts and ends them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '#core';
import type { NetHost } from './namespaces.ts';
import { type ProcessUsage, usageOf } from './usage.ts';

const stopTimeoutMs = 10_000;

/** A program on a host. */
export interface HostProcess {
  readonly host: NetHost;
  readonly child: ChildProcess;
  readonly exited: Promise<string>;
  readonly logFile: string;
}

/** Starts a program on a host; its output goes to the log file. Its stdin ends with this process, however that ends. */
export async function startOn(host: NetHost, command: readonly string[], logFile: string): Promise<HostProcess> {
  await using log = await open(logFile, 'a', 0o600);
  // `ip netns exec` becomes the program, so the pid is the program's. A group of its own: Ctrl-C reaches this process alone.
  const child = spawn('ip', ['netns', 'exec', host.namespace, ...command], { stdio: ['pipe', log.fd, log.fd], detached: true });
  child.stdin?.on('error', () => undefined);
  const exited = new Promise<string>((resolve) => {
    child.once('exit', (code, signal) => resolve(signal === null ? `exit code ${code}` : `signal ${signal}`));
    child.once('error', (error) => resolve(error.message));
  });
  return { host, child, exited, logFile };
}

/** The command line of a built service. */
export function serviceCommand(role: string, configFile: string): string[] {
  const program = `dist/${role}.mjs`;
  if (!existsSync(program)) throw new AppError('failed-precondition', `${program} is missing: run make build first`);
  const folder = process.env['SHOAL_BENCH_PROFILE'];
  const profiling = folder === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${join(folder, role)}`];
  return [process.execPath, ...profiling, program, '--config', configFile, '--stop-on-stdin-end'];
}

export function isRunning({ child }: HostProcess): boolean {
  return child.exitCode === null && child.signalCode === null;
}

/** As `kill -9` does. */
export function killProcess(process_: HostProcess): void {
  if (isRunning(process_)) process_.child.kill('SIGKILL');
}

/** Asks it to stop, kills it when it does not in time, and waits. */
export async function stopProcess(process_: HostProcess): Promise<void> {
  if (!isRunning(process_)) return;
  process_.child.kill('SIGTERM');
  const timer = setTimeout(() => killProcess(process_), stopTimeoutMs);
  await process_.exited;
  clearTimeout(timer);
}

/** Remembers the last figures of processes, those that have ended included. */
export class UsageLog {
  readonly #last = new Map<HostProcess, ProcessUsage>();

  /** The present figures, or the last known ones. */
  of(process_: HostProcess): ProcessUsage {
    const now = isRunning(process_) ? usageOf(process_.child.pid ?? 0) : undefined;
    const usage = now ?? this.#last.get(process_) ?? { cpuSeconds: 0, rssBytes: 0, peakRssBytes: 0, receivedBytes: 0, sentBytes: 0 };
    this.#last.set(process_, usage);
    return usage;
  }
}

/** A download by curl on a host; {@link Pull.go} lets it begin, so that its start costs no time. */
export interface Pull {
  readonly host: NetHost;
  go(): void;
  /** Milliseconds from `go` to the last byte. Rejects with what curl said. */
  readonly tookMs: Promise<number>;
  cancel(): void;
}

/** Starts curl on a host; it waits on its stdin for what to fetch. */
export function preparePull(host: NetHost, url: string, sizeBytes: number): Pull {
  const command = ['curl', '-sS', '-o', '/dev/null', '-w', '%{http_code} %{size_download}', '-K', '-'];
  const child = spawn('ip', ['netns', 'exec', host.namespace, ...command], { stdio: ['pipe', 'pipe', 'pipe'], detached: true });
  let said = '';
  let startedMs = 0;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  child.stdin.on('error', () => undefined);
  const tookMs = once(child, 'close').then(() => {
    const tookMs = performance.now() - startedMs;
    if (said !== `200 ${sizeBytes}`) throw new AppError('unavailable', `the pull on ${host.name} failed: ${said.trim()}`);
    return tookMs;
  });
  tookMs.catch(() => undefined);
  const go = (): void => {
    startedMs = performance.now();
    child.stdin.end(`url = "${url}"\n`);
  };
  return { host, go, tookMs, cancel: () => void child.kill('SIGKILL') };
}
