/**
 * The certificates of one cluster on disk:
 *
 *   <root>/                0700
 *     authority.pem        0600  key and certificate of the CA; only where certificates are issued
 *     ca.pem               0644  the trust bundle: the CA, and its predecessors while a rotation lasts
 *     <role>/              0700
 *       <id>.pem           0600  key and certificate of one node
 *
 * A node needs `ca.pem` and its own file. Key and certificate share a file, and files change by rename, so no reader ever sees a
 * key with another certificate. A writer extends `ca.pem` before anything is signed by a new CA; a reader reads the node's file first
 * and `ca.pem` after it, so it never sees a certificate without the CA that signed it.
 */
import { X509Certificate } from 'node:crypto';
import { access, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, type NodeIdentity, parseNodeId, roles } from '#core';
import { publicFileMode, secretFileMode, writeFileAtomically } from './atomic-file.ts';
import {
  type Authority,
  authorityFromPem,
  authorityToPem,
  createAuthority,
  issueLeaf,
  type LeafOptions,
  notAfterMsOf,
  notBeforeMsOf,
  type PkiDeps,
} from './authority.ts';
import { identityFromCertificate, splitSubjectAltName } from './identity.ts';
import { backdateMs } from './limits.ts';
import { parseAuthorities, parseTlsMaterial, type TlsMaterial } from './material.ts';
import { roleDnsName } from './names.ts';
import { splitPem } from './pem.ts';
import { isExpired, isRenewalDue } from './renewal.ts';
import { FileCertificateSource, type FileCertificateSourceDeps } from './source.ts';

export interface CertificateDirectoryOptions {
  readonly root: string;
}

export interface InitOptions {
  /** One DNS label. */
  readonly cluster: string;
  /** Of the CA: 10 minutes to 10 years, one year by default. */
  readonly lifetimeMs?: number;
  /**
   * When there is a CA already: `refuse` (default); `rotate` makes a new one and goes on trusting the old one until it expires;
   * `discard` stops trusting the old one, which cuts off every node until it has a new certificate.
   */
  readonly onExisting?: 'refuse' | 'rotate' | 'discard';
}

/** One issued certificate. */
export interface CertificateEntry {
  readonly identity: NodeIdentity;
  /** Unix time, milliseconds. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly expired: boolean;
  readonly renewalDue: boolean;
}

/** Where the files of one node are. */
export interface CertificatePaths {
  readonly caFile: string;
  /** Holds the key too. */
  readonly certFile: string;
}

export class CertificateDirectory {
  readonly #root: string;
  readonly #deps: PkiDeps;

  constructor(options: CertificateDirectoryOptions, deps: PkiDeps) {
    this.#root = options.root;
    this.#deps = deps;
  }

  /** The files of a node. Throws `invalid-argument` for a malformed id, which could otherwise lead out of the directory. */
  pathsOf(identity: NodeIdentity): CertificatePaths {
    return { caFile: this.#caFile, certFile: join(this.#root, identity.role, `${parseNodeId(identity.id)}.pem`) };
  }

  /**
   * Makes the CA. Throws `already-exists` when there is one and `onExisting` is `refuse`, `invalid-argument` for a bad name or lifetime, or for
   * a rotation to another cluster.
   */
  async init(options: InitOptions): Promise<Authority> {
    const { cluster, onExisting = 'refuse', lifetimeMs } = options;
    if (await exists(this.#authorityFile)) {
      if (onExisting === 'refuse') throw this.#authorityExists();
      if (onExisting === 'rotate' && (await this.authority()).cluster !== cluster) {
        throw new AppError('invalid-argument', 'a rotation keeps the cluster: name the same cluster, or use another directory');
      }
    }
    const authority = await createAuthority({ cluster, ...(lifetimeMs === undefined ? {} : { lifetimeMs }) }, this.#deps);
    if (onExisting === 'refuse') {
      try {
        await this.#writeSecret(this.#authorityFile, authorityToPem(authority), 'create');
      } catch (error) {
        throw error instanceof AppError && error.code === 'already-exists' ? this.#authorityExists(error) : error;
      }
      await this.#trust(authority, 'discard');
    } else {
      await this.#trust(authority, onExisting);
      await this.#writeSecret(this.#authorityFile, authorityToPem(authority), 'replace');
    }
    return authority;
  }

  /**
   * Issues (or replaces) the certificate of a node. Throws `not-found` when there is no CA, `failed-precondition` when the CA is damaged or
   * expired, `invalid-argument` for bad names or lifetimes.
   */
  async issue(identity: NodeIdentity, options: Omit<LeafOptions, 'identity'> = {}): Promise<TlsMaterial> {
    const { certFile } = this.pathsOf(identity);
    const authority = await this.authority();
    await this.#trust(authority, 'rotate');
    const leaf = await issueLeaf(authority, { ...options, identity }, this.#deps);
    await this.#writeSecret(certFile, leaf.keyPem + leaf.certPem, 'replace');
    return this.load(identity);
  }

  /** Reads and checks the material of a node. Throws `not-found` when it was never issued, `failed-precondition` when it is unusable. */
  async load(identity: NodeIdentity): Promise<TlsMaterial> {
    const { caFile, certFile } = this.pathsOf(identity);
    const certPem = await readText(certFile, 'the node has no certificate: run "shoal certs issue"');
    const caPem = await readText(caFile, 'there is no trust bundle: run "shoal certs init"');
    return parseTlsMaterial({ certPem, caPem }, this.#deps.clock.wallMs());
  }

  /** The material of a node, followed as its files are renewed. Throws as {@link load}. */
  watch(identity: NodeIdentity, deps: FileCertificateSourceDeps): Promise<FileCertificateSource> {
    return FileCertificateSource.open(this.pathsOf(identity), deps);
  }

  /** The CA with its key. Throws `not-found` or `failed-precondition`. */
  async authority(): Promise<Authority> {
    const pem = await readText(this.#authorityFile, 'there is no CA here: run "shoal certs init", or issue where the CA key is');
    return authorityFromPem(pem);
  }

  /** What was issued, by role and then id. Throws `failed-precondition` when a file is damaged. */
  async list(): Promise<readonly CertificateEntry[]> {
    const entries: CertificateEntry[] = [];
    for (const role of roles) {
      for (const id of await idsIn(join(this.#root, role))) entries.push(await this.#entry({ role, id }));
    }
    return entries;
  }

  /**
   * Issues every certificate that is due for renewal again, with the names and the lifetime it had. For clusters whose CA key is at
   * hand, such as a development cluster. Returns the renewed nodes; throws as {@link issue}.
   */
  async renewDue(): Promise<readonly NodeIdentity[]> {
    const due = (await this.list()).filter((entry) => entry.renewalDue);
    for (const { identity } of due) await this.issue(identity, await this.#optionsOf(identity));
    return due.map((entry) => entry.identity);
  }

  async #entry(identity: NodeIdentity): Promise<CertificateEntry> {
    const certificate = await this.#certificate(identity);
    const validity = { notBeforeMs: notBeforeMsOf(certificate), notAfterMs: notAfterMsOf(certificate) };
    const wallMs = this.#deps.clock.wallMs();
    return { identity, ...validity, expired: isExpired(validity, wallMs), renewalDue: isRenewalDue(validity, wallMs) };
  }

  async #optionsOf(identity: NodeIdentity): Promise<Omit<LeafOptions, 'identity'>> {
    const certificate = await this.#certificate(identity);
    const { cluster } = identityFromCertificate(certificate);
    const names = splitSubjectAltName(certificate.subjectAltName ?? '');
    const valuesOf = (prefix: string): string[] => names.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
    return {
      lifetimeMs: notAfterMsOf(certificate) - notBeforeMsOf(certificate) - backdateMs,
      extraDnsNames: valuesOf('DNS:').filter((name) => name !== roleDnsName(cluster, identity.role)),
      ipAddresses: valuesOf('IP Address:'),
    };
  }

  async #certificate(identity: NodeIdentity): Promise<X509Certificate> {
    const { certFile } = this.pathsOf(identity);
    try {
      const certificate = new X509Certificate(splitPem(await readFile(certFile, 'utf8')).certificates.join(''));
      identityFromCertificate(certificate);
      return certificate;
    } catch (error) {
      throw new AppError('failed-precondition', 'a certificate file is damaged: delete it and run "shoal certs issue"', {
        data: { path: certFile },
        cause: error,
      });
    }
  }

  /** Makes `ca.pem` trust `authority`: alone (`discard`), or with those it trusts already and that have not expired (`rotate`). */
  async #trust(authority: Authority, mode: 'rotate' | 'discard'): Promise<void> {
    const present = await readFile(this.#caFile, 'utf8').catch(() => undefined);
    const wallMs = this.#deps.clock.wallMs();
    const kept =
      mode === 'discard' || present === undefined
        ? []
        : parseAuthorities(present).filter((certificate) => !isExpired({ notAfterMs: notAfterMsOf(certificate) }, wallMs));
    const bundle = [...new Set([authority.certPem, ...kept.map(String)])].join('');
    if (bundle === present) return;
    await writeFileAtomically(this.#caFile, bundle, { mode: publicFileMode, onExisting: 'replace' });
  }

  #writeSecret(path: string, text: string, onExisting: 'create' | 'replace'): Promise<void> {
    return writeFileAtomically(path, text, { mode: secretFileMode, onExisting });
  }

  #authorityExists(cause?: AppError): AppError {
    return new AppError('already-exists', 'this directory has a CA: use it, or run "shoal certs rotate" to replace it', {
      data: { path: this.#authorityFile },
      ...(cause === undefined ? {} : { cause }),
    });
  }

  get #caFile(): string {
    return join(this.#root, 'ca.pem');
  }

  get #authorityFile(): string {
    return join(this.#root, 'authority.pem');
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

async function readText(path: string, hint: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new AppError('not-found', hint, { data: { path }, cause: error });
  }
}

/** The node ids with a file in a role's directory, in bytewise order; other files are ignored. */
async function idsIn(directory: string): Promise<readonly string[]> {
  const files = await readdir(directory).catch(() => []);
  return files
    .filter((file) => /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.pem$/.test(file))
    .map((file) => file.slice(0, -'.pem'.length))
    .sort();
}
