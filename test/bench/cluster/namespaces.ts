/**
 * A network on this machine: one namespace holds a bridge, every host has a namespace of its own with a cable to it, and this process has
 * a cable too. Names begin with `shoalb-<pid>`; what a dead process left behind is removed at the next start.
 */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { promisify } from 'node:util';
import { AppError } from '#core';
import { grpcPort } from './plan.ts';

const prefix = 'shoalb-';
/** RFC 2544 sets 198.18.0.0/15 aside for benchmarks; the third number tells networks of one machine apart. */
const subnet = '198.18';
const hostCountMax = 240;
/** Jumbo frames, as in many data centres: with 1500 the kernel spends more on packets than the processes on what is in them. */
const mtu = '9000';
/**
 * What most hosts use. Where the machine's default is BBR, it would go on for long at the rates it learnt before the links were limited, and a
 * tenth of the segments were lost.
 */
const congestionControl = 'cubic';
/** Bytes that wait for a host's port of the switch before more are dropped. */
const portQueueBytes = 256 * 1024;
/** What a host sends to one peer before it turns to the next, in bytes. */
const turnBytes = 18_000;
const turn = `${turnBytes}b`;
/** Payload of a full frame over all of it: Ethernet, IP, and TCP with timestamps. */
export const payloadShare = 8948 / 9014;
const execute = promisify(execFile);

/** A host of the network. */
export interface NetHost {
  readonly name: string;
  readonly address: string;
  readonly namespace: string;
}

/** Bytes per second that a host sends and receives, headers of frames included. */
export interface LinkRates {
  readonly upBytesPerSec: number;
  readonly downBytesPerSec: number;
}

/** Throws `failed-precondition` naming what is missing: root, `ip` or `tc`. */
export async function checkTools(): Promise<void> {
  if (process.getuid?.() !== 0) throw new AppError('failed-precondition', 'network namespaces need root: run make bench-cluster as root');
  for (const tool of ['ip', 'tc', 'curl']) {
    const found = await execute(tool, ['-V'])
      .then(() => true)
      .catch((error: { code?: unknown }) => error.code !== 'ENOENT');
    if (!found) throw new AppError('failed-precondition', `${tool} is missing: install iproute2 and curl`);
  }
}

/** Removes the namespaces, processes and folders of runs that did not end in order. */
export async function removeLeftovers(folders: readonly string[]): Promise<void> {
  for (const namespace of listed('/run/netns')) if (isOrphan(namespace)) removeNamespace(namespace);
  for (const folder of folders) {
    for (const name of listed(folder)) if (isOrphan(name)) rmSync(`${folder}/${name}`, { recursive: true, force: true });
  }
}

/** The folder of this process below `parent`. */
export function ownFolder(parent: string): string {
  return `${parent}/${prefix}${process.pid}`;
}

function isOrphan(name: string): boolean {
  const pid = /^shoalb-(\d+)/.exec(name)?.[1];
  return pid !== undefined && Number(pid) !== process.pid && !existsSync(`/proc/${pid}`);
}

function listed(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

export class BenchNetwork implements AsyncDisposable {
  readonly hosts = new Map<string, NetHost>();
  readonly #net: string;
  readonly #switch = `${prefix}${process.pid}-switch`;
  readonly #ownLink = `sb${process.pid}`;
  readonly #onExit = (): void => this.#removeNow();

  private constructor(net: string) {
    this.#net = net;
  }

  /** Makes the bridge and this process's own cable, which is not limited. */
  static async open(): Promise<BenchNetwork> {
    const network = new BenchNetwork(`${subnet}.${await freeNet()}`);
    // Also when the process ends by an uncaught error.
    process.once('exit', network.#onExit);
    await ip('netns', 'add', network.#switch);
    await ip('-n', network.#switch, 'link', 'add', 'br0', 'mtu', mtu, 'type', 'bridge');
    await ip('-n', network.#switch, 'link', 'set', 'br0', 'up');
    await ip('link', 'add', network.#ownLink, 'mtu', mtu, 'type', 'veth', 'peer', 'name', 'operator', 'mtu', mtu, 'netns', network.#switch);
    await ip('-n', network.#switch, 'link', 'set', 'operator', 'master', 'br0', 'up');
    await ip('address', 'add', `${network.#net}.254/24`, 'dev', network.#ownLink);
    await ip('link', 'set', network.#ownLink, 'up');
    return network;
  }

  /** Plugs in a host with an unlimited link. Throws `resource-exhausted` when the network is full. */
  async addHost(name: string): Promise<NetHost> {
    const index = this.hosts.size + 1;
    if (index > hostCountMax) throw new AppError('resource-exhausted', `a network has at most ${hostCountMax} hosts`);
    const namespace = `${prefix}${process.pid}-${name}`;
    const port = portOf(index);
    const address = `${this.#net}.${index}`;
    const host = { name, address, namespace };
    // First of all, so that a host that is made half-way is removed too.
    this.hosts.set(name, host);
    await ip('netns', 'add', namespace);
    await ip('-n', this.#switch, 'link', 'add', port, 'mtu', mtu, 'type', 'veth', 'peer', 'name', 'eth0', 'mtu', mtu, 'netns', namespace);
    await ip('-n', this.#switch, 'link', 'set', port, 'master', 'br0', 'up');
    await ip('-n', namespace, 'address', 'add', `${address}/24`, 'dev', 'eth0');
    await ip('-n', namespace, 'link', 'set', 'lo', 'up');
    await ip('-n', namespace, 'link', 'set', 'eth0', 'up');
    const route = ['dev', 'eth0', 'proto', 'kernel', 'scope', 'link', 'src', address, 'congctl', congestionControl, 'rto_min', '20ms'];
    await ip('-n', namespace, 'route', 'replace', `${this.#net}.0/24`, ...route);
    return host;
  }

  /** Limits both directions of a host's cable with token buckets. */
  async limit(host: NetHost, { upBytesPerSec, downBytesPerSec }: LinkRates): Promise<void> {
    const index = Array.from(this.hosts.keys()).indexOf(host.name) + 1;
    const peers = Array.from(this.hosts.values()).filter((other) => other !== host);
    await limitHost(host, peers, upBytesPerSec);
    await limitPort(this.#switch, portOf(index), downBytesPerSec);
  }

  /** Removes everything and ends what still runs inside. */
  async [Symbol.asyncDispose](): Promise<void> {
    process.removeListener('exit', this.#onExit);
    this.#removeNow();
  }

  #removeNow(): void {
    const namespaces = [...Array.from(this.hosts.values(), ({ namespace }) => namespace), this.#switch];
    for (const namespace of namespaces) {
      // Absent when making it failed half-way. The cables vanish with the namespaces.
      if (existsSync(`/run/netns/${namespace}`)) removeNamespace(namespace);
    }
    this.hosts.clear();
  }
}

function removeNamespace(namespace: string): void {
  const pids = execFileSync('ip', ['netns', 'pids', namespace], { encoding: 'utf8' }).split('\n');
  for (const pid of pids.filter((line) => line !== '')) {
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It ended meanwhile.
    }
  }
  execFileSync('ip', ['netns', 'delete', namespace]);
}

function portOf(index: number): string {
  return `port${index}`;
}

async function ip(...args: readonly string[]): Promise<void> {
  await execute('ip', args);
}

/** 64 KiB at once: what the kernel hands down as one segment. */
const burst = '64kb';

/** A port of a switch: one queue for all who send there. */
async function limitPort(namespace: string, device: string, bytesPerSec: number): Promise<void> {
  const shape = ['rate', rateOf(bytesPerSec), 'burst', burst, 'limit', String(portQueueBytes)];
  await execute('tc', ['-n', namespace, 'qdisc', 'replace', 'dev', device, 'root', 'tbf', ...shape]);
}

/**
 * A host's flows take turns, as they do with `fq` or `fq_codel`, which not every kernel has: for each peer a class for what it is sent on
 * request and one for what it is asked, so that requests and acknowledgements do not wait behind pieces; and one class for the rest.
 */
async function limitHost({ namespace }: NetHost, peers: readonly NetHost[], bytesPerSec: number): Promise<void> {
  const rate = rateOf(bytesPerSec);
  const share = rateOf(bytesPerSec / (2 * peers.length + 1));
  const flow = (id: string): string =>
    `class replace dev eth0 parent 1:1 classid ${id} htb rate ${share} ceil ${rate} burst ${turn} cburst ${burst} quantum ${turnBytes}`;
  const lines = [
    'qdisc replace dev eth0 root handle 1: htb default 2 r2q 1',
    `class replace dev eth0 parent 1: classid 1:1 htb rate ${rate} burst ${burst} cburst ${burst}`,
    flow('1:2'),
  ];
  peers.forEach(({ address }, index) => {
    const [asks, serves] = [0, 1].map((kind) => `1:${(2 * index + kind + 16).toString(16)}`);
    const match = `parent 1: protocol ip u32 match ip dst ${address}`;
    lines.push(flow(asks ?? ''), flow(serves ?? ''));
    lines.push(`filter add dev eth0 prio 1 ${match} match ip dport ${grpcPort} 0xffff flowid ${asks}`);
    lines.push(`filter add dev eth0 prio 2 ${match} flowid ${serves}`);
  });
  const running = execute('tc', ['-n', namespace, '-batch', '-']);
  running.child.stdin?.end(`${lines.join('\n')}\n`);
  await running;
}

function rateOf(bytesPerSec: number): string {
  return `${Math.round(bytesPerSec * 8)}bit`;
}

/** A third number of an address that no route of this machine uses. */
async function freeNet(): Promise<number> {
  const { stdout } = await execute('ip', ['route', 'show']);
  for (let net = 0; net < 256; net += 1) if (!stdout.includes(`${subnet}.${net}.`)) return net;
  throw new AppError('resource-exhausted', `every network of ${subnet}.0.0/16 is in use on this machine`);
}
