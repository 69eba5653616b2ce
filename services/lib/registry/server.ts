/** The HTTP server of the surface: Fastify, its limits, admission, and a shutdown that lets running replies finish. */
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import https from 'node:https';
import type { SecureContextOptions } from 'node:tls';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyServerFactory } from 'fastify';
import { AppError, type CallOptions, type Clock, type ImageStore, type Logger, type Meter, nullTracer, type Tracer } from '#core';
import { type AccessControl, type Identity, openAccess } from './access.ts';
import { type Answer, refusal } from './answer.ts';
import { type AuditRecord, auditOf } from './audit.ts';
import { type BodyLimits, contentLengthOf, hasBody, readBody } from './body.ts';
import { type Call, headerOf, type Surface } from './call.ts';
import { Clients, clientKeyOf } from './clients.ts';
import { Connections } from './connections.ts';
import { dispatch } from './dispatch.ts';
import { RegistryError, toRegistryError } from './errors.ts';
import { type RegistryEvents, type RequestEvents, registryEvents } from './events.ts';
import { evidenceOf, originOf } from './evidence.ts';
import { type RegistryOptions, type RegistrySettings, type RegistryTls, type RegistryTlsSource, settingsOf } from './options.ts';
import { parseTarget, type Target } from './router.ts';
import { type SendDeps, send } from './send.ts';

export interface RegistryDeps {
  readonly store: ImageStore;
  readonly logger: Logger;
  readonly meter: Meter;
  readonly clock: Clock;
  /** Open to everybody when absent. */
  readonly access?: AccessControl;
  /** The name under which a mirror keeps `name` of the registry that containerd calls `ns`; the name itself when absent. */
  readonly nameInMesh?: (name: string, ns: string, options: CallOptions) => Promise<string>;
  /** Gets a record of each change, and of each attempt. Must return at once. */
  readonly audit?: (record: AuditRecord) => void;
  /** Traces nothing when absent. */
  readonly tracer?: Tracer;
}

export interface RegistryAddress {
  readonly host: string;
  readonly port: number;
}

/** The Docker Registry v2 surface over an {@link ImageStore}. Without a writer it refuses every push. */
export interface RegistryServer {
  /** Starts to serve; port 0 picks a free one. Throws `unavailable` when the address cannot be had. */
  listen(address: RegistryAddress): Promise<RegistryAddress>;
  /**
   * Stops. New requests get 503 while replies that have begun run on, for at most `drainMs`; then every connection is cut.
   * May be called more than once.
   */
  close(options: { readonly drainMs: number }): Promise<void>;
}

/** Makes a server that does not listen yet. Throws `invalid-argument` for options that make no sense. */
export async function createRegistry(options: RegistryOptions, deps: RegistryDeps): Promise<RegistryServer> {
  const server = new Server(settingsOf(options), deps);
  await server.ready();
  return server;
}

class Server implements RegistryServer {
  readonly #app: FastifyInstance;
  readonly #settings: RegistrySettings;
  readonly #deps: RegistryDeps;
  readonly #surface: Surface;
  readonly #events: RegistryEvents;
  readonly #tracer: Tracer;
  readonly #clients: Clients;
  readonly #connections: Connections;
  /** Fastify refuses a Content-Type it cannot parse, so it gets another and the handlers read this. */
  readonly #contentTypes = new WeakMap<IncomingMessage, string>();
  #isDraining = false;
  #onIdle: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  constructor(settings: RegistrySettings, deps: RegistryDeps) {
    this.#settings = settings;
    this.#deps = deps;
    this.#surface = { store: deps.store, access: deps.access ?? openAccess, settings, logger: deps.logger };
    this.#events = registryEvents(deps);
    this.#tracer = deps.tracer ?? nullTracer;
    this.#clients = new Clients(settings.limits, deps);
    this.#connections = new Connections({ clock: deps.clock, lingerMs: settings.limits.lingerMs });
    this.#app = fastify({
      logger: false,
      serverFactory: serverFactory(settings, this.#connections),
      // Uploads may take hours; what is limited is how long a body stands still.
      requestTimeout: 0,
      keepAliveTimeout: settings.limits.keepAliveMs,
      return503OnClosing: false,
      forceCloseConnections: true,
      exposeHeadRoutes: false,
      clientErrorHandler: (error, socket) => this.#connections.refuse(error, socket),
      frameworkErrors: (_error, request, reply) => this.#serve(request.raw, reply),
    });
    this.#route();
  }

  async ready(): Promise<void> {
    await this.#app.ready();
  }

  async listen(address: RegistryAddress): Promise<RegistryAddress> {
    try {
      await this.#app.listen(address);
    } catch (error) {
      throw new AppError('unavailable', 'the registry cannot listen there; free the address or choose another', {
        data: { host: address.host, port: address.port },
        cause: error,
      });
    }
    const bound = this.#app.server.address();
    return bound === null || typeof bound === 'string' ? address : { host: bound.address, port: bound.port };
  }

  close(options: { readonly drainMs: number }): Promise<void> {
    this.#closing ??= this.#close(options.drainMs);
    return this.#closing;
  }

  async #close(drainMs: number): Promise<void> {
    this.#isDraining = true;
    if (this.#events.inflight > 0 && drainMs > 0) {
      await new Promise<void>((resolve) => {
        const disarm = this.#deps.clock.after(drainMs, resolve);
        this.#onIdle = () => {
          disarm();
          resolve();
        };
      });
    }
    this.#app.server.closeAllConnections();
    await this.#app.close();
  }

  /** Fastify's own router decodes paths, so it gets one route and router.ts does the work. */
  #route(): void {
    const app = this.#app;
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('*', (_request, _payload, done) => done(null));
    app.addHook('onRequest', async (request) => {
      const { headers } = request.raw;
      const contentType = headers['content-type'];
      if (contentType === undefined) return;
      this.#contentTypes.set(request.raw, contentType);
      headers['content-type'] = 'application/octet-stream';
    });
    app.all('/*', (request, reply) => this.#serve(request.raw, reply));
    app.setNotFoundHandler((request, reply) => this.#serve(request.raw, reply));
    app.setErrorHandler((error, _request, reply) => this.#fail(error, reply));
  }

  async #serve(raw: IncomingMessage, reply: FastifyReply): Promise<FastifyReply> {
    const { target, query } = parseTarget(raw.url ?? '');
    const method = raw.method ?? 'GET';
    const repository = 'name' in target ? target.name.slice(0, 255) : undefined;
    const events = this.#events.started({ route: target.kind, method, repository });
    const signal = this.#follow(reply.raw, events);
    const sending = { limits: this.#settings.limits, clock: this.#deps.clock, onBytes: events.sent };
    const evidence = evidenceOf(raw);
    const call: Omit<Call, 'access'> = {
      method,
      evidence,
      query,
      headers: raw.headers,
      contentType: this.#contentTypes.get(raw),
      // What this registry checks itself is nobody else's to see.
      authorization: this.#deps.access === undefined ? raw.headers.authorization : undefined,
      signal,
      hasBody: hasBody(raw),
      contentLength: contentLengthOf(raw),
      body: (bodyOptions = {}) =>
        readBody(raw, { ...this.#bodyLimits, ...bodyOptions }, { clock: this.#deps.clock, onBytes: events.received }),
    };
    const span = this.#tracer.startSpan('registry.request', {
      kind: 'server',
      traceparent: headerOf(raw.headers, 'traceparent'),
      attributes: { route: target.kind, method },
    });
    await span.run(() => this.#exchange(call, target, reply, sending));
    span.end();
    return reply;
  }

  async #exchange(request: Omit<Call, 'access'>, target: Target, reply: FastifyReply, sending: SendDeps): Promise<void> {
    let identity: Identity | undefined;
    let leave = (): void => undefined;
    let meant = target;
    let answer: Answer;
    try {
      this.#admit(reply);
      const { access } = this.#surface;
      identity = await access.identify(request.evidence, request);
      leave = this.#clients.enter(
        clientKeyOf(identity.kind === 'caller' ? identity.caller : undefined, request.evidence.address),
        request.hasBody && (target.kind === 'upload' || target.kind === 'uploads'),
      );
      const call = { ...request, access: { control: access, identity, origin: originOf(reply.request.raw) } };
      meant = await this.#targetInMesh(call, target);
      answer = await dispatch(call, meant, this.#surface);
    } catch (error) {
      answer = this.#refuse(error, request, target);
    }
    this.#audit(request, identity, meant, answer);
    try {
      await send(reply, this.#complete(answer), sending);
    } catch (error) {
      // The reply had begun, so the log is the only place left to say it.
      if (!request.signal.aborted) this.#deps.logger.warn('reply cut short', { route: target.kind, ...describe(error) });
    } finally {
      leave();
    }
  }

  async #targetInMesh(call: Call, target: Target): Promise<Target> {
    const ns = call.query.get('ns');
    const { nameInMesh } = this.#deps;
    if (!('name' in target) || ns === undefined || nameInMesh === undefined) return target;
    return { ...target, name: await nameInMesh(target.name, ns, call) };
  }

  get #bodyLimits(): BodyLimits {
    const { bodyIdleMs, bodyBytesPerSecMin, bodyWindowMs } = this.#settings.limits;
    return { idleMs: bodyIdleMs, bytesPerSecMin: bodyBytesPerSecMin, windowMs: bodyWindowMs };
  }

  #audit(request: Omit<Call, 'access'>, identity: Identity | undefined, target: Target, answer: Answer): void {
    if (this.#deps.audit === undefined) return;
    const record = auditOf(request, identity, target, answer);
    if (record !== undefined) this.#deps.audit(record);
  }

  /** Before anything is read: is the server going on, and may this client use it? */
  #admit(reply: FastifyReply): void {
    if (this.#isDraining) {
      throw new RegistryError('unavailable', 'the registry is shutting down; try another one', { headers: { 'retry-after': '1' } });
    }
    const { raw } = reply.request;
    if (!this.#settings.isAllowed(raw.socket.remoteAddress)) {
      throw new RegistryError('denied', 'this network may not use the registry');
    }
    // What Node lets pass, or refuses without a body.
    const needsHost = raw.httpVersion !== '1.0';
    if (raw.httpVersion === '0.9' || (needsHost && raw.headers.host === undefined)) {
      throw new RegistryError('requestInvalid', 'the request is malformed: send HTTP/1.1 with a Host header');
    }
  }

  #refuse(error: unknown, { signal }: CallOptions, target: Target): Answer {
    const failure = toRegistryError(error);
    const isLost = signal.aborted;
    if (failure.problem === 'internal') this.#deps.logger.error('request failed', { route: target.kind, ...describe(error) });
    else if (failure.status >= 500 && !isLost) this.#deps.logger.warn('request refused', { route: target.kind, ...describe(error) });
    return refusal(failure);
  }

  #complete(answer: Answer): Answer {
    const closing = this.#isDraining ? { connection: 'close' } : {};
    return { ...answer, headers: { 'docker-distribution-api-version': 'registry/2.0', ...answer.headers, ...closing } };
  }

  /** Aborts the returned signal when the client goes away before the reply is out, and counts the request when it is over. */
  #follow(response: ServerResponse, events: RequestEvents): AbortSignal {
    const controller = new AbortController();
    response.once('close', () => {
      const isAborted = !response.writableFinished;
      if (isAborted) controller.abort(new AppError('cancelled', 'the client went away'));
      events.closed({ status: response.statusCode, isAborted });
      if (this.#events.inflight === 0) this.#onIdle?.();
    });
    return controller.signal;
  }

  /** Fastify's own refusals, and programmer errors. */
  #fail(error: unknown, reply: FastifyReply): void {
    const status = error instanceof Error && 'statusCode' in error ? error.statusCode : undefined;
    const isClients = typeof status === 'number' && status < 500;
    if (!isClients) this.#deps.logger.error('request failed', describe(error));
    const failure = isClients ? new RegistryError('requestInvalid', 'the request is malformed') : toRegistryError(error);
    const answer = this.#complete(refusal(failure));
    reply.code(answer.status).headers(answer.headers).send(answer.body);
  }
}

function serverFactory({ limits, tls }: RegistrySettings, connections: Connections): FastifyServerFactory {
  const common = {
    maxHeaderSize: limits.headerBytes,
    keepAliveTimeout: limits.keepAliveMs,
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: 0,
    noDelay: true,
    requireHostHeader: false,
    connectionsCheckingInterval: Math.min(30_000, limits.headersTimeoutMs),
    // Larger than Node's default, so that a fast disk or peer is not stopped after every chunk.
    highWaterMark: 1024 * 1024,
  };
  return (handler) => {
    const server = tls === undefined ? http.createServer(common, handler) : secureServer(common, tls, limits.headersTimeoutMs, handler);
    // Before Fastify's own, which goes on later: the bytes behind this request may already be the next one.
    server.prependListener('request', (request, response) => connections.follow(request, response));
    // An expectation that nobody knows is no reason to refuse the request.
    server.on('checkExpectation', handler);
    return server;
  };
}

/** HTTP/2 gains these clients nothing and differs in how connections end. */
function secureServer(
  common: http.ServerOptions,
  tls: RegistryTlsSource,
  handshakeTimeout: number,
  handler: http.RequestListener,
): https.Server {
  const server = https.createServer(
    {
      ...common,
      ...secureContextOf(tls.current()),
      ALPNProtocols: ['http/1.1'],
      handshakeTimeout,
      requestCert: tls.clientCertificates !== 'none',
      rejectUnauthorized: tls.clientCertificates === 'required',
    },
    handler,
  );
  const forget = tls.onChange((material) => server.setSecureContext(secureContextOf(material)));
  server.once('close', forget);
  return server;
}

function secureContextOf({ certPem, keyPem, clientCaPem }: RegistryTls): SecureContextOptions {
  return { cert: certPem, key: keyPem, ...(clientCaPem === undefined ? {} : { ca: clientCaPem }), minVersion: 'TLSv1.2' };
}

function describe(error: unknown): Readonly<Record<string, unknown>> {
  const failure = toRegistryError(error);
  const cause = error instanceof RegistryError ? error.cause : error;
  return { problem: failure.problem, error: cause instanceof Error ? cause.message : String(cause ?? failure.message) };
}
