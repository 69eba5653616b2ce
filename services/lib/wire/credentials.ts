/** TLS for both sides from one certificate source: mutual, and renewed without a restart. Open connections keep the certificate they began with. */
import {
  createSecureContext,
  type PeerCertificate,
  type SecureContext,
  type SecureContextOptions,
  type SecureVersion,
  checkServerIdentity as tlsCheckServerIdentity,
} from 'node:tls';
import { CallCredentials, ChannelCredentials, ServerCredentials, type VerifyOptions } from '@grpc/grpc-js';
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

/**
 * The TLS context of connections to others, made once for each certificate: making one takes 2 ms of the event loop, and grpc-js's own provider of
 * certificates makes two for each connection, a third of what a handshake costs.
 */
export class RenewingClientContext {
  readonly #certificates: CertificateSource;
  #made: { readonly material: TlsMaterial; readonly context: SecureContext } | undefined;

  constructor(certificates: CertificateSource) {
    this.#certificates = certificates;
  }

  /** Of the newest certificate. */
  current(): SecureContext {
    const material = this.#certificates.current();
    if (this.#made?.material !== material) this.#made = { material, context: createSecureContext(contextOf(material)) };
    return this.#made.context;
  }
}

/** Whom a connection must reach. */
export interface ExpectedServer {
  readonly cluster: string;
  readonly role: Role;
  /** Any node of the role when absent. */
  readonly id: string | undefined;
}

type Connector = ReturnType<ChannelCredentials['_createSecureConnector']>;
type ConnectorParameters = Parameters<ChannelCredentials['_createSecureConnector']>;

/**
 * Client credentials that refuse, before a byte of a call is sent, every server that is not the expected one. Each new connection of a channel uses
 * the newest certificate.
 */
export class RenewingChannelCredentials extends ChannelCredentials {
  readonly #context: RenewingClientContext;
  readonly #expected: ExpectedServer;

  constructor(context: RenewingClientContext, expected: ExpectedServer) {
    super();
    this.#context = context;
    this.#expected = expected;
  }

  _isSecure(): boolean {
    return true;
  }

  _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  _createSecureConnector(...[target, options, callCredentials = CallCredentials.createEmpty()]: ConnectorParameters): Connector {
    const verify: VerifyOptions = {
      rejectUnauthorized: true,
      checkServerIdentity: (_host, certificate) => checkServer(this.#expected, certificate),
    };
    return {
      connect: async (socket) => {
        const newest = ChannelCredentials.createFromSecureContext(this.#context.current(), verify);
        return newest._createSecureConnector(target, options, callCredentials).connect(socket);
      },
      waitForReady: async () => undefined,
      getCallCredentials: () => callCredentials,
      destroy: () => undefined,
    };
  }
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
