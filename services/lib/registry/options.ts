/** What can be set on the registry surface: each limit with its default, its maximum and the reason for both. */
import { BlockList, isIP, isIPv4 } from 'node:net';
import { AppError, blobSizeBytesMax } from '#core';

/** Limits against clients that send or ask too much, or too slowly. */
export interface RegistryLimits {
  /** Largest blob, in bytes. */
  readonly blobBytes: number;
  /** Largest manifest, in bytes. Clients refuse more than about 4 MiB, so accepting more helps nobody. */
  readonly manifestBytes: number;
  /** Largest request head, in bytes. Long bearer tokens and podman's multi-range headers pass Node's default of 16 KiB. */
  readonly headerBytes: number;
  /** How long an idle connection is kept, in milliseconds. Go clients keep theirs for 90 s and must not meet a closed one. */
  readonly keepAliveMs: number;
  /** How long a client may take to send a request head, in milliseconds. */
  readonly headersTimeoutMs: number;
  /** How long a body, in either direction, may stand still, in milliseconds. There is no limit on its whole duration. */
  readonly bodyIdleMs: number;
  /**
   * Least bytes per second of a body, in either direction, over {@link bodyWindowMs} of waiting for the client; 0 is none. An old modem passes,
   * a client that only keeps a place does not.
   */
  readonly bodyBytesPerSecMin: number;
  /** The time over which the pace of a body is looked at, in milliseconds. No shorter than the idle limit, so that this one has its meaning. */
  readonly bodyWindowMs: number;
  /** How long a client may take to send a whole manifest, in milliseconds. */
  readonly manifestTimeoutMs: number;
  /** Most items on a page of tags, repositories or referrers, and the page of who asks for no number. */
  readonly pageItems: number;
  /** Largest page of referrers, in bytes. Clients refuse metadata of more than 4 MiB. */
  readonly pageBytes: number;
  /** Most ranges of one download; a request for more gets the whole blob. Podman asks for up to 1024. */
  readonly ranges: number;
  /** Most tags that one manifest upload may set. */
  readonly tagsPerPut: number;
  /** Bytes of an unwanted body that are read and dropped so that the client sees the refusal and not a reset. */
  readonly lingerBytes: number;
  /** How long that may take, in milliseconds. */
  readonly lingerMs: number;
  /** Requests of one client at a time. Hundreds of build machines behind one address, with a few transfers each, stay below. */
  readonly requestsPerClient: number;
  /** Uploads of one client at a time. Docker opens 5, containerd one a layer. A proxy has places for more, so that one client cannot take them all. */
  readonly uploadsPerClient: number;
  /** Requests per second of one client, in the long run. */
  readonly requestsPerSec: number;
  /** Requests that one client may make at once after a pause. A pull of an image is 10 to 30. */
  readonly requestBurst: number;
  /** Clients whose requests are counted; the least recently seen is forgotten. A client is about 200 bytes. */
  readonly clientsTracked: number;
}

interface Bounds {
  readonly default: number;
  readonly min: number;
  readonly max: number;
}

const mib = 1024 * 1024;
const second = 1000;

/** Defaults and bounds of {@link RegistryLimits}. */
export const limitBounds: Readonly<Record<keyof RegistryLimits, Bounds>> = {
  blobBytes: { default: blobSizeBytesMax, min: 1024, max: blobSizeBytesMax },
  manifestBytes: { default: 4 * mib, min: 64 * 1024, max: 16 * mib },
  headerBytes: { default: 64 * 1024, min: 8 * 1024, max: mib },
  keepAliveMs: { default: 120 * second, min: second, max: 3600 * second },
  headersTimeoutMs: { default: 60 * second, min: second, max: 600 * second },
  bodyIdleMs: { default: 120 * second, min: 10, max: 3600 * second },
  bodyBytesPerSecMin: { default: 8192, min: 0, max: 64 * mib },
  bodyWindowMs: { default: 120 * second, min: 10, max: 3600 * second },
  manifestTimeoutMs: { default: 60 * second, min: 10, max: 600 * second },
  pageItems: { default: 1000, min: 1, max: 10_000 },
  pageBytes: { default: 3 * mib, min: 1024, max: 4 * mib },
  ranges: { default: 1024, min: 1, max: 4096 },
  tagsPerPut: { default: 64, min: 10, max: 1024 },
  lingerBytes: { default: 16 * mib, min: 0, max: 64 * mib },
  lingerMs: { default: 5 * second, min: 10, max: 60 * second },
  requestsPerClient: { default: 4096, min: 1, max: 1_000_000 },
  uploadsPerClient: { default: 512, min: 1, max: 1_000_000 },
  requestsPerSec: { default: 2000, min: 1, max: 1_000_000 },
  requestBurst: { default: 20_000, min: 1, max: 10_000_000 },
  clientsTracked: { default: 20_000, min: 1, max: 1_000_000 },
};

/** A certificate chain and its key, both PEM. */
export interface RegistryTls {
  readonly certPem: string;
  readonly keyPem: string;
  /** CAs whose client certificates are a login, PEM. */
  readonly clientCaPem?: string | undefined;
}

/** TLS material that may change while the server runs. */
export interface RegistryTlsSource {
  current(): RegistryTls;
  /** Calls `listener` after each change; the returned function ends that. */
  onChange(listener: (tls: RegistryTls) => void): () => void;
  /** Whether clients are asked for a certificate, and turned away without one. */
  readonly clientCertificates: 'none' | 'optional' | 'required';
}

export interface RegistryOptions {
  readonly limits?: Partial<RegistryLimits>;
  /** Who may connect, as CIDR blocks or single addresses; everybody when absent. */
  readonly allowedNetworks?: readonly string[];
  /** Whether blobs, manifests and tags may be deleted; default true. */
  readonly deletesEnabled?: boolean;
  /** Whether `/v2/_catalog` answers; default true. */
  readonly catalogEnabled?: boolean;
  /** Whether a manifest may be stored without what it refers to, as those who mirror a part of an index do; default false. */
  readonly allowSparse?: boolean;
  /** Serve HTTPS; plain HTTP when absent. */
  readonly tls?: RegistryTlsSource;
}

/** The options with every default filled in. */
export interface RegistrySettings {
  readonly limits: RegistryLimits;
  /** True when a client address may be served. */
  readonly isAllowed: (address: string | undefined) => boolean;
  readonly deletesEnabled: boolean;
  readonly catalogEnabled: boolean;
  readonly allowSparse: boolean;
  readonly tls: RegistryTlsSource | undefined;
}

/** Fills in the defaults. Throws `invalid-argument` for a limit out of its bounds or a network that does not parse. */
export function settingsOf(options: RegistryOptions): RegistrySettings {
  return {
    limits: limitsOf(options.limits ?? {}),
    isAllowed: options.allowedNetworks === undefined ? () => true : allowList(options.allowedNetworks),
    deletesEnabled: options.deletesEnabled ?? true,
    catalogEnabled: options.catalogEnabled ?? true,
    allowSparse: options.allowSparse ?? false,
    tls: options.tls,
  };
}

function limitsOf(given: Partial<RegistryLimits>): RegistryLimits {
  const pick = (name: keyof RegistryLimits): number => {
    const bounds = limitBounds[name];
    const value = given[name] ?? bounds.default;
    if (Number.isSafeInteger(value) && value >= bounds.min && value <= bounds.max) return value;
    throw new AppError(
      'invalid-argument',
      `registry limit out of bounds: set ${name} to a whole number from ${bounds.min} to ${bounds.max}`,
    );
  };
  return {
    blobBytes: pick('blobBytes'),
    manifestBytes: pick('manifestBytes'),
    headerBytes: pick('headerBytes'),
    keepAliveMs: pick('keepAliveMs'),
    headersTimeoutMs: pick('headersTimeoutMs'),
    bodyIdleMs: pick('bodyIdleMs'),
    bodyBytesPerSecMin: pick('bodyBytesPerSecMin'),
    bodyWindowMs: pick('bodyWindowMs'),
    manifestTimeoutMs: pick('manifestTimeoutMs'),
    pageItems: pick('pageItems'),
    pageBytes: pick('pageBytes'),
    ranges: pick('ranges'),
    tagsPerPut: pick('tagsPerPut'),
    lingerBytes: pick('lingerBytes'),
    lingerMs: pick('lingerMs'),
    requestsPerClient: pick('requestsPerClient'),
    uploadsPerClient: pick('uploadsPerClient'),
    requestsPerSec: pick('requestsPerSec'),
    requestBurst: pick('requestBurst'),
    clientsTracked: pick('clientsTracked'),
  };
}

/** An IPv4 client on a dual-stack socket appears as `::ffff:a.b.c.d` and is matched as IPv4. */
function allowList(networks: readonly string[]): (address: string | undefined) => boolean {
  const list = new BlockList();
  for (const network of networks) addNetwork(list, network);
  const isListed = (address: string): boolean => {
    const plain = address.toLowerCase().startsWith('::ffff:') && isIPv4(address.slice(7)) ? address.slice(7) : address;
    return isIP(plain) !== 0 && list.check(plain, isIPv4(plain) ? 'ipv4' : 'ipv6');
  };
  // An agent hears one runtime, and the list costs a small request as much as its digest.
  let last = { address: '', isListed: false };
  return (address) => {
    if (address === undefined) return false;
    if (last.address !== address) last = { address, isListed: isListed(address) };
    return last.isListed;
  };
}

function addNetwork(list: BlockList, network: string): void {
  const [address = '', prefixText, ...rest] = network.split('/');
  const family = isIP(address);
  const bits = family === 4 ? 32 : 128;
  const prefix = prefixText === undefined ? bits : /^\d{1,3}$/.test(prefixText) ? Number(prefixText) : -1;
  if (family === 0 || prefix < 0 || prefix > bits || rest.length > 0) {
    throw new AppError('invalid-argument', 'not a network: write an address or a CIDR block such as 10.0.0.0/8', {
      data: { network: network.slice(0, 64) },
    });
  }
  list.addSubnet(address, prefix, family === 4 ? 'ipv4' : 'ipv6');
}
