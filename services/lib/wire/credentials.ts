/** TLS for both sides from one certificate source: mutual, and renewed without a restart. Open connections keep the certificate they began with. */
import {
  type PeerCertificate,
  type SecureContextOptions,
  type SecureVersion,
  checkServerIdentity as tlsCheckServerIdentity,
} from 'node:tls';
import { type ChannelCredentials, experimental, ServerCredentials } from '@grpc/grpc-js';
import { AppError, type Role, toAppError } from '#core';
import { type CertificateSource, identityFromCertificate, roleDnsName, type TlsMaterial } from '#pki';

/** Every Node and Go client of today speaks it, and it hides client certificates from the network. */
const tlsVersionMin: SecureVersion = 'TLSv1.3';

/** Server credentials that require a certificate of the source's CA from every client and follow the source's renewals while a port is bound. */
export class RenewingServerCredentials extends ServerCredentials {
  readonly #certificates: CertificateSource;
  #unsubscribe: (() => void) | undefined;

  constructor(certificates: CertificateSource) {
    super({ requestCert: true, rejectUnauthorized: true, minVersion: tlsVersionMin }, contextOf(certificates.current()));
    this.#certificates = certificates;
  }

  override _addWatcher(watcher: (context: SecureContextOptions | null) => void): void {
    super._addWatcher(watcher);
    this.#unsubscribe ??= this.#certificates.onChange((material) => this.updateSecureContextOptions(contextOf(material)));
  }

  override _removeWatcher(watcher: (context: SecureContextOptions | null) => void): void {
    super._removeWatcher(watcher);
    if (this.getWatcherCount() > 0) return;
    this.#unsubscribe?.();
    this.#unsubscribe = undefined;
  }

  _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

function contextOf({ caPem, certPem, keyPem }: TlsMaterial): SecureContextOptions {
  return { ca: caPem, cert: certPem, key: keyPem, minVersion: tlsVersionMin };
}

/** Feeds grpc-js from a certificate source; each new connection of a channel uses the newest material. */
export class RenewingCertificateProvider implements experimental.CertificateProvider {
  readonly #certificates: CertificateSource;
  readonly #caListeners = new Set<experimental.CaCertificateUpdateListener>();
  readonly #identityListeners = new Set<experimental.IdentityCertificateUpdateListener>();
  readonly #unsubscribe: () => void;

  constructor(certificates: CertificateSource) {
    this.#certificates = certificates;
    this.#unsubscribe = certificates.onChange(() => {
      for (const listener of this.#caListeners) this.#tellCa(listener);
      for (const listener of this.#identityListeners) this.#tellIdentity(listener);
    });
  }

  addCaCertificateListener(listener: experimental.CaCertificateUpdateListener): void {
    this.#caListeners.add(listener);
    this.#tellCa(listener);
  }

  removeCaCertificateListener(listener: experimental.CaCertificateUpdateListener): void {
    this.#caListeners.delete(listener);
  }

  addIdentityCertificateListener(listener: experimental.IdentityCertificateUpdateListener): void {
    this.#identityListeners.add(listener);
    this.#tellIdentity(listener);
  }

  removeIdentityCertificateListener(listener: experimental.IdentityCertificateUpdateListener): void {
    this.#identityListeners.delete(listener);
  }

  /** Stops following the source. */
  close(): void {
    this.#unsubscribe();
  }

  #tellCa(listener: experimental.CaCertificateUpdateListener): void {
    listener({ caCertificate: Buffer.from(this.#certificates.current().caPem) });
  }

  #tellIdentity(listener: experimental.IdentityCertificateUpdateListener): void {
    const { certPem, keyPem } = this.#certificates.current();
    listener({ certificate: Buffer.from(certPem), privateKey: Buffer.from(keyPem) });
  }
}

/** Whom a connection must reach. */
export interface ExpectedServer {
  readonly cluster: string;
  readonly role: Role;
  /** Any node of the role when absent. */
  readonly id: string | undefined;
}

/** Client credentials that refuse, before a byte of a call is sent, every server that is not the expected one. */
export function channelCredentials(provider: RenewingCertificateProvider, expected: ExpectedServer): ChannelCredentials {
  return experimental.createCertificateProviderChannelCredentials(provider, provider, {
    rejectUnauthorized: true,
    checkServerIdentity: (_host, certificate) => checkServer(expected, certificate),
  });
}

function checkServer({ cluster, role, id }: ExpectedServer, certificate: PeerCertificate): Error | undefined {
  const mismatch = tlsCheckServerIdentity(roleDnsName(cluster, role), certificate);
  if (mismatch !== undefined) return mismatch;
  try {
    const actual = identityFromCertificate(certificate);
    const same = actual.cluster === cluster && actual.identity.role === role && (id === undefined || actual.identity.id === id);
    if (same) return undefined;
    return new AppError('unauthenticated', `the server is ${actual.identity.role}/${actual.identity.id}, not ${role}/${id ?? '*'}`);
  } catch (error) {
    return toAppError(error);
  }
}
