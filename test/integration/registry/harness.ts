/** A registry on a loopback port over a store in memory, and a client that sends exactly what it is told to. */
import { randomBytes } from 'node:crypto';
import http from 'node:http';
import net from 'node:net';
import { digestOf, type ImageStore, type LogFields, type Logger, nullMeter } from '#core';
import { createRegistry, MemoryImageStore, type RegistryDeps, type RegistryOptions, type RegistryServer } from '#registry';
import { ManualClock } from '#test/support/manual-clock';

export interface Reply {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
}

export interface Ask {
  readonly headers?: http.OutgoingHttpHeaders;
  /** Several chunks go out with chunked encoding, unless a content-length is given. */
  readonly body?: Buffer | readonly Buffer[];
}

export interface LogLine {
  readonly level: keyof Omit<Logger, 'child'>;
  readonly message: string;
  readonly fields: LogFields;
}

export interface Harness extends AsyncDisposable {
  readonly server: RegistryServer;
  readonly memory: MemoryImageStore;
  readonly clock: ManualClock;
  readonly port: number;
  readonly log: readonly LogLine[];
  ask(method: string, path: string, ask?: Ask): Promise<Reply>;
  /** A bare connection. */
  connect(): net.Socket;
  /** Uploads a blob by a single POST and returns its digest. */
  pushBlob(repository: string, bytes: Buffer): Promise<string>;
}

export interface HarnessOptions extends Pick<RegistryDeps, 'access'> {
  readonly registry?: RegistryOptions;
  /** Makes the store to be served from the one in memory. */
  readonly store?: (memory: MemoryImageStore) => ImageStore;
}

export async function startHarness(options: HarnessOptions = {}): Promise<Harness> {
  const clock = new ManualClock();
  const memory = new MemoryImageStore({}, { clock });
  const log: LogLine[] = [];
  const store = options.store?.(memory) ?? memory;
  const access = options.access === undefined ? {} : { access: options.access };
  const deps = { store, logger: recorder(log), meter: nullMeter, clock, ...access };
  const server = await createRegistry(options.registry ?? {}, deps);
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  const agent = new http.Agent({ keepAlive: true });
  const ask: Harness['ask'] = (method, path, what = {}) => send({ agent, host: '127.0.0.1', port, method, path }, what);
  return {
    server,
    memory,
    clock,
    port,
    log,
    ask,
    connect: () => net.connect(port, '127.0.0.1'),
    pushBlob: async (repository, bytes) => {
      const digest = digestOf(bytes);
      const reply = await ask('POST', `/v2/${repository}/blobs/uploads/?digest=${digest}`, { body: bytes });
      if (reply.status !== 201) throw new Error(`push of a blob: ${reply.status} ${reply.body}`);
      return digest;
    },
    [Symbol.asyncDispose]: async () => {
      agent.destroy();
      await server.close({ drainMs: 0 });
    },
  };
}

/** An image manifest of one config and one layer, whose blobs have been pushed. */
export async function pushImage(harness: Harness, repository: string, extra: object = {}): Promise<{ bytes: Buffer; digest: string }> {
  const [config, layer] = [randomBytes(16), randomBytes(32)];
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: imageType,
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: await harness.pushBlob(repository, config), size: 16 },
      layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: await harness.pushBlob(repository, layer), size: 32 }],
      ...extra,
    }),
  );
  return { bytes, digest: digestOf(bytes) };
}

export const imageType = 'application/vnd.oci.image.manifest.v1+json';
export const indexType = 'application/vnd.oci.image.index.v1+json';

/** The first code of an error reply. */
export function codeOf(reply: Reply): string {
  return JSON.parse(reply.body.toString()).errors[0].code;
}

/** Everything a connection says until it closes. */
export async function readAll(socket: net.Socket): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk);
  return Buffer.concat(chunks).toString('latin1');
}

/** Resolves as soon as `isTrue`; asked on every turn of the event loop. */
export async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise(setImmediate);
}

function send(target: http.RequestOptions, { headers, body }: Ask): Promise<Reply> {
  const list: readonly Buffer[] = body === undefined ? [] : Buffer.isBuffer(body) ? [body] : body;
  const framing = Buffer.isBuffer(body) ? { 'content-length': body.byteLength } : {};
  return new Promise((resolve, reject) => {
    const request = http.request({ ...target, headers: { ...framing, ...headers } }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          rawHeaders: response.rawHeaders,
          body: Buffer.concat(chunks),
        });
      });
    });
    request.on('error', reject);
    if (body !== undefined && !Buffer.isBuffer(body)) request.useChunkedEncodingByDefault = true;
    for (const chunk of list) request.write(chunk);
    request.end();
  });
}

function recorder(log: LogLine[]): Logger {
  const at =
    (level: LogLine['level']) =>
    (message: string, fields: LogFields = {}): void => {
      log.push({ level, message, fields });
    };
  const logger: Logger = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error'), child: () => logger };
  return logger;
}
