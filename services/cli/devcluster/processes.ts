/** Runs the nodes of a development cluster as processes of their own, with a log file each, and stops them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { AppError, type Clock } from '#core';
import type { PlannedNode } from './plan.ts';

/** Longer than the grace that nodes give their running requests, then they are killed. */
const stopTimeoutMs = 20_000;

export interface RunningNode {
  readonly node: PlannedNode;
  readonly process: ChildProcess;
  /** Resolves when the process has ended. */
  readonly exited: Promise<string>;
}

/** Starts a node; its output goes to its log file. */
export async function startNode(node: PlannedNode): Promise<RunningNode> {
  await using log = await open(node.logFile, 'a', 0o600);
  const child = spawn(process.execPath, [...programOf(node.role), '--config', node.configFile, '--stop-on-stdin-end'], {
    // Nothing is ever written to its stdin: it ends when this process does, however that happens, and then the node stops.
    stdio: ['pipe', log.fd, log.fd],
    // A group of its own: Ctrl-C reaches the nodes only through stopNodes, in order.
    detached: true,
  });
  child.stdin?.on('error', () => undefined);
  const exited = new Promise<string>((resolve) => {
    child.once('exit', (code, signal) => resolve(signal === null ? `exit code ${code}` : `signal ${signal}`));
    child.once('error', (error) => resolve(error.message));
  });
  return { node, process: child, exited };
}

/** The built program beside this one, or the sources when this one runs from sources. */
function programOf(role: string): string[] {
  const here = import.meta.url;
  if (here.endsWith('.mjs')) return [fileURLToPath(new URL(`./${role}.mjs`, here))];
  return ['--import', 'tsx', fileURLToPath(new URL(`../../${role}/main.ts`, here))];
}

/** Asks every node to stop, agents and proxy first, and waits; kills what does not end in time. */
export async function stopNodes(running: readonly RunningNode[], clock: Clock): Promise<void> {
  for (const { process: child } of [...running].reverse()) if (child.exitCode === null) child.kill('SIGTERM');
  const cancelKill = clock.after(stopTimeoutMs, () => killNodes(running));
  await Promise.all(running.map(({ exited }) => exited));
  cancelKill();
}

/** Ends every node at once. */
export function killNodes(running: readonly RunningNode[]): void {
  for (const { process: child } of running) if (child.exitCode === null) child.kill('SIGKILL');
}

/** Rejects with `unavailable`, naming the log, when a node ends while the others are still awaited. */
export async function failOnExit({ node, exited }: RunningNode): Promise<never> {
  const how = await exited;
  throw new AppError('unavailable', `${node.role} ${node.id} ended at its start (${how}); see ${node.logFile}`);
}
