/** Where a running node gets its TLS material from, and how it learns of a renewal without a restart. */
import { readFile, stat } from 'node:fs/promises';
import { AppError, type Clock, type Logger, type Meter, peerIdOf, toAppError } from '#core';
import { pemSizeBytesMax, pollIntervalMsDefault } from './limits.ts';
import { parseTlsMaterial, type TlsMaterial, type TlsMaterialInput } from './material.ts';

/** Material that may change while the process runs. */
export interface CertificateSource extends AsyncDisposable {
  /** The newest valid material. It may have expired since, when no renewal came. */
  current(): TlsMaterial;
  /** Calls `listener` after each change; the returned function ends that. A listener must not throw. */
  onChange(listener: (material: TlsMaterial) => void): () => void;
}

/** Material that a program holds itself. */
export class StaticCertificateSource implements CertificateSource {
  readonly #listeners = new Set<(material: TlsMaterial) => void>();
  #material: TlsMaterial;

  constructor(material: TlsMaterial) {
    this.#material = material;
  }

  current(): TlsMaterial {
    return this.#material;
  }

  onChange(listener: (material: TlsMaterial) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Puts other material in place and tells the listeners. */
  replace(material: TlsMaterial): void {
    this.#material = material;
    for (const listener of this.#listeners) listener(material);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listeners.clear();
  }
}

export interface FileCertificateSourceOptions {
  /** The trust bundle. */
  readonly caFile: string;
  /** Certificate, and the key unless `keyFile` is given. */
  readonly certFile: string;
  /** For PKIs that keep the key in a file of its own, e.g. a Kubernetes TLS secret. */
  readonly keyFile?: string;
  /** How often the files are read: 10 s by default. */
  readonly pollIntervalMs?: number;
}

export interface FileCertificateSourceDeps {
  readonly clock: Pick<Clock, 'wallMs' | 'after'>;
  readonly logger: Logger;
  readonly meter: Meter;
}

/**
 * Material in files. The files are polled rather than watched: file events miss the symlink swaps of Kubernetes secrets and every
 * network file system, and a renewal has days to be noticed. Material that is not valid is reported once and the old one stays in use.
 */
export class FileCertificateSource implements CertificateSource {
  readonly #options: FileCertificateSourceOptions;
  readonly #deps: FileCertificateSourceDeps;
  readonly #source: StaticCertificateSource;
  /** Fingerprint of the files behind the material in use. */
  #inUse: string;
  /** Fingerprint of the files that were reported as refused, so that each is reported once. */
  #refused: string | undefined;
  #cancelPoll: () => void = () => undefined;
  #reloading: Promise<boolean> | undefined;
  #closed = false;

  private constructor(
    options: FileCertificateSourceOptions,
    deps: FileCertificateSourceDeps,
    first: { material: TlsMaterial; inUse: string },
  ) {
    this.#options = options;
    this.#deps = deps;
    this.#source = new StaticCertificateSource(first.material);
    this.#inUse = first.inUse;
  }

  /** Reads the files and starts polling. Throws `not-found` or `failed-precondition` when they are absent or unusable. */
  static async open(options: FileCertificateSourceOptions, deps: FileCertificateSourceDeps): Promise<FileCertificateSource> {
    const input = await readInput(options);
    const material = parseTlsMaterial(input, deps.clock.wallMs());
    await warnOfOpenKey(options, deps.logger);
    const source = new FileCertificateSource(options, deps, { material, inUse: fingerprintOf(input) });
    deps.meter.gauge(
      'shoal_pki_certificate_expiry_seconds',
      'Time until the certificate of this node expires; negative once it has.',
      () => (source.current().notAfterMs - deps.clock.wallMs()) / 1000,
    );
    source.#schedule();
    return source;
  }

  current(): TlsMaterial {
    return this.#source.current();
  }

  onChange(listener: (material: TlsMaterial) => void): () => void {
    return this.#source.onChange(listener);
  }

  /**
   * Reads the files now, e.g. on SIGHUP. Resolves to true when new material came into use; invalid material is logged, not thrown.
   * Calls at the same time share one read.
   */
  reload(): Promise<boolean> {
    this.#reloading ??= this.#reload().finally(() => {
      this.#reloading = undefined;
    });
    return this.#reloading;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#cancelPoll();
    await this.#reloading;
    await this.#source[Symbol.asyncDispose]();
  }

  #schedule(): void {
    if (this.#closed) return;
    this.#cancelPoll = this.#deps.clock.after(this.#options.pollIntervalMs ?? pollIntervalMsDefault, () => {
      void this.reload().then(() => this.#schedule());
    });
  }

  async #reload(): Promise<boolean> {
    const { clock, logger } = this.#deps;
    const before = this.current();
    let read = 'unreadable';
    try {
      const input = await readInput(this.#options);
      read = fingerprintOf(input);
      if (this.#closed) return false;
      if (read === this.#inUse) {
        this.#refused = undefined;
        return false;
      }
      const material = parseTlsMaterial(input, clock.wallMs());
      if (material.cluster !== before.cluster || peerIdOf(material.identity) !== peerIdOf(before.identity)) {
        throw new AppError(
          'failed-precondition',
          'the new certificate names another node: install the right one, or restart to change identity',
        );
      }
      this.#inUse = read;
      this.#refused = undefined;
      this.#source.replace(material);
      logger.info('certificate reloaded', { serialNumber: material.serialNumber, notAfter: new Date(material.notAfterMs).toISOString() });
      return true;
    } catch (error) {
      if (read !== this.#refused) logger.error('new certificate refused, the old one stays in use', { error: toAppError(error) });
      this.#refused = read;
      return false;
    }
  }
}

/** Reads the certificate before the trust bundle: see the order of writing in directory.ts. */
async function readInput(options: FileCertificateSourceOptions): Promise<TlsMaterialInput> {
  const certPem = await readPem(options.certFile);
  const keyPem = options.keyFile === undefined ? undefined : await readPem(options.keyFile);
  return { certPem, keyPem, caPem: await readPem(options.caFile) };
}

async function readPem(path: string): Promise<string> {
  try {
    const { size } = await stat(path);
    if (size > pemSizeBytesMax)
      throw new AppError('failed-precondition', 'a certificate file is too large: is it the right file?', { data: { path } });
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError('not-found', 'a certificate file cannot be read: run "shoal certs issue" and check its path', {
      data: { path },
      cause: error,
    });
  }
}

/** Tells one content of the files from another; kept in memory only, beside the key itself. */
function fingerprintOf(input: TlsMaterialInput): string {
  return JSON.stringify([input.certPem, input.keyPem ?? '', input.caPem]);
}

async function warnOfOpenKey(options: FileCertificateSourceOptions, logger: Logger): Promise<void> {
  const path = options.keyFile ?? options.certFile;
  const { mode } = await stat(path);
  if ((mode & 0o007) !== 0) logger.warn('the private key can be read by every user of this host: set its mode to 0600', { path });
}
