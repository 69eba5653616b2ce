/** The TLS material of a registry in files, followed while it changes: a certificate that was renewed needs no restart. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { AppError, type Clock, type Logger, type Meter, toAppError } from '#core';
import type { RegistryTls, RegistryTlsSource } from '#registry';

export const tlsPart = z
  .strictObject({
    /** The certificate and its intermediates, PEM. */
    certFile: z.string().min(1),
    /** The key, PEM; in `certFile` when absent. */
    keyFile: z.string().min(1).optional(),
    /** CAs whose client certificates are a login, PEM. */
    clientCaFile: z.string().min(1).optional(),
    /** Whether a client must show a certificate of these CAs. */
    clientCertificates: z.enum(['optional', 'required']).default('optional'),
  })
  .refine((tls) => tls.clientCertificates === 'optional' || tls.clientCaFile !== undefined, {
    path: ['clientCaFile'],
    message: 'required client certificates need the CAs that are trusted',
  });

export type TlsConfig = z.infer<typeof tlsPart>;

/** File events miss the symlink swaps of Kubernetes secrets, and a renewal has days to be noticed. */
const pollIntervalMs = 10_000;

export interface TlsFilesDeps {
  readonly clock: Pick<Clock, 'after' | 'wallMs'>;
  readonly logger: Logger;
  readonly meter: Meter;
}

interface Loaded {
  readonly tls: RegistryTls;
  readonly notAfterMs: number;
}

export class TlsFiles implements RegistryTlsSource, AsyncDisposable {
  readonly clientCertificates: RegistryTlsSource['clientCertificates'];
  readonly #config: TlsConfig;
  readonly #deps: TlsFilesDeps;
  readonly #listeners = new Set<(tls: RegistryTls) => void>();
  #loaded: Loaded;
  #fault: string | undefined;
  #cancel: () => void = () => undefined;
  #isClosed = false;

  private constructor(config: TlsConfig, deps: TlsFilesDeps, loaded: Loaded) {
    this.#config = config;
    this.#deps = deps;
    this.#loaded = loaded;
    this.clientCertificates = config.clientCaFile === undefined ? 'none' : config.clientCertificates;
    deps.meter.gauge(
      'shoal_registry_certificate_expiry_seconds',
      "Time until the certificate of the registry's port expires; negative once it has.",
      () => (this.#loaded.notAfterMs - deps.clock.wallMs()) / 1000,
    );
    this.#schedule();
  }

  /** Reads the files. Throws `not-found` or `failed-precondition` when one is absent or does not fit. */
  static async open(config: TlsConfig, deps: TlsFilesDeps): Promise<TlsFiles> {
    return new TlsFiles(config, deps, await load(config));
  }

  current(): RegistryTls {
    return this.#loaded.tls;
  }

  onChange(listener: (tls: RegistryTls) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    this.#cancel();
    this.#listeners.clear();
  }

  #schedule(): void {
    if (!this.#isClosed) this.#cancel = this.#deps.clock.after(pollIntervalMs, () => void this.#reload().finally(() => this.#schedule()));
  }

  /** What does not fit is told once, and what was there stays in use. */
  async #reload(): Promise<void> {
    try {
      const next = await load(this.#config);
      if (this.#isClosed) return;
      this.#fault = undefined;
      if (JSON.stringify(next.tls) === JSON.stringify(this.#loaded.tls)) return;
      this.#loaded = next;
      for (const listener of this.#listeners) listener(next.tls);
      this.#deps.logger.info('certificate of the registry renewed', { notAfter: new Date(next.notAfterMs).toISOString() });
    } catch (error) {
      const { message } = toAppError(error);
      if (message !== this.#fault) this.#deps.logger.error('certificate of the registry not renewed', { error: message });
      this.#fault = message;
    }
  }
}

async function load({ certFile, keyFile, clientCaFile }: TlsConfig): Promise<Loaded> {
  const certPem = await readPem(certFile);
  const keyPem = keyFile === undefined ? certPem : await readPem(keyFile);
  const clientCaPem = clientCaFile === undefined ? undefined : await readPem(clientCaFile);
  const certificate = parse(`${certFile} holds no certificate`, () => new X509Certificate(certPem));
  const key = parse(`${keyFile ?? certFile} holds no private key without a passphrase`, () => createPrivateKey(keyPem));
  if (!certificate.checkPrivateKey(key)) throw refusal(`the key in ${keyFile ?? certFile} is not that of the certificate in ${certFile}`);
  if (clientCaPem !== undefined) parse(`${clientCaFile} holds no certificate`, () => new X509Certificate(clientCaPem));
  return { tls: { certPem, keyPem, clientCaPem }, notAfterMs: Date.parse(certificate.validTo) };
}

async function readPem(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new AppError('not-found', `cannot read ${file}: ${toAppError(error).message}`, { cause: error });
  }
}

function parse<T>(fault: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw refusal(fault, cause);
  }
}

function refusal(message: string, cause?: unknown): AppError {
  return new AppError('failed-precondition', message, { cause });
}
