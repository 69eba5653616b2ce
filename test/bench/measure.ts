/** What the benchmark programs of a whole cluster share: blobs that need no memory, percentiles, a client that times bytes. */
import { createHash, randomFillSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Agent, get, request } from 'node:http';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

/** The value below which `share` of a list lies. */
export function percentile(list: readonly number[], share: number): number {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(sorted.length * share) - 1))] ?? Number.NaN;
}

/** A blob of `sizeBytes`, all chunks different, without holding it in memory. */
export function* randomChunks(sizeBytes: number): Generator<Buffer> {
  const block = randomFillSync(Buffer.allocUnsafe(4 * 1024 * 1024));
  for (let at = 0; at < sizeBytes; at += block.byteLength) {
    const chunk = Buffer.from(block.subarray(0, Math.min(block.byteLength, sizeBytes - at)));
    if (chunk.byteLength >= 8) chunk.writeDoubleLE(at, 0);
    yield chunk;
  }
}

/** Pushes a random blob of `sizeBytes` through a proxy; returns its digest. */
export async function pushRandom(registry: string, repository: string, sizeBytes: number): Promise<string> {
  const hash = createHash('sha256');
  const hashed = function* (): Generator<Buffer> {
    for (const chunk of randomChunks(sizeBytes)) {
      hash.update(chunk);
      yield chunk;
    }
  };
  const uploads = `http://${registry}/v2/${repository}/blobs/uploads/`;
  const start = await fetch(uploads, { method: 'POST' });
  const location = new URL(start.headers.get('location') ?? '', uploads);
  const patched = await new Promise<string>((resolve, reject) => {
    const patch = request(location, { method: 'PATCH', headers: { 'content-length': String(sizeBytes) } }, (response) => {
      response.resume();
      if (response.statusCode === 202) resolve(response.headers.location ?? '');
      else reject(new Error(`PATCH: ${response.statusCode}`));
    });
    Readable.from(hashed()).pipe(patch).on('error', reject);
  });
  const digest = `sha256:${hash.digest('hex')}`;
  const commit = new URL(patched, uploads);
  commit.searchParams.set('digest', digest);
  const { status } = await fetch(commit, { method: 'PUT' });
  if (status !== 201) throw new Error(`PUT: ${status}`);
  return digest;
}

export interface Timing {
  /** Milliseconds from the request to the head of the answer, to its first byte, and to its end or where it was left. */
  readonly headMs: number;
  readonly firstMs: number;
  readonly endMs: number;
}

/** Connections that stay open, as a container runtime keeps them. */
export function keepAlive(connectionCount: number): Agent {
  return new Agent({ keepAlive: true, maxSockets: connectionCount });
}

/** Gets a URL and times it; leaves it after the first byte when `leave` says so. */
export async function timedGet(url: string, agent: Agent, { leave = false }: { readonly leave?: boolean } = {}): Promise<Timing> {
  const startMs = performance.now();
  const sinceStart = (): number => performance.now() - startMs;
  return await new Promise((resolve, reject) => {
    const outgoing = get(url, { agent }, (response) => {
      const headMs = sinceStart();
      let firstMs: number | undefined;
      if (response.statusCode !== 200) reject(new Error(`GET ${url}: ${response.statusCode}`));
      response.on('data', () => {
        if (firstMs !== undefined) return;
        firstMs = sinceStart();
        if (!leave) return;
        resolve({ headMs, firstMs, endMs: firstMs });
        outgoing.destroy();
      });
      response.on('end', () => resolve({ headMs, firstMs: firstMs ?? sinceStart(), endMs: sinceStart() }));
    });
    outgoing.on('error', reject);
  });
}

/** CPU time that processes have used so far, in seconds. */
export function cpuSecondsOf(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / 100;
}

/** Waits until processes use less than a twentieth of a CPU: write-backs and late owners have ended. Gives up after 90 s. */
export async function settled(pids: readonly number[]): Promise<void> {
  const pauseMs = 400;
  for (let round = 0; round < 90_000 / pauseMs; round += 1) {
    const before = cpuSecondsOf(pids);
    await sleep(pauseMs);
    if (cpuSecondsOf(pids) - before < (0.05 * pauseMs) / 1000 + 0.01) return;
  }
}

/** Starts the profilers of processes, or stops them, when SHOAL_PROFILE is set (see profiler.mjs). */
export function profile(pids: readonly number[]): void {
  if (process.env['SHOAL_PROFILE'] !== undefined) for (const pid of pids) process.kill(pid, 'SIGUSR2');
}
