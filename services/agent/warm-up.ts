/**
 * Goes the way of a first request before anybody waits for it. Code that has never run, the first TLS handshake and the first streams cost a
 * process some 30 ms; a runtime that pulls right after the agent's start would wait for them.
 */
import {
  type CallOptions,
  type Digest,
  digestOf,
  type ImageReader,
  type Logger,
  type NodeIdentity,
  parseRepositoryName,
  toAppError,
} from '#core';
import { PeerServiceService } from '#gen/shoal/peer/v1/peer_service';
import type { PeerChannels } from '#peer';
import { formatEndpoint, parseEndpoint } from '#runtime';
import { digestToProto, type Target } from '#wire';

export interface WarmUpDeps {
  readonly channels: PeerChannels;
  readonly reader: Pick<ImageReader, 'openBlob'>;
  readonly logger: Logger;
}

/** Asks for what nobody has: no name of the mesh begins like this, and no blob has this digest. */
const repository = parseRepositoryName('shoal-warm-up/nothing');
const digest: Digest = digestOf(Buffer.from('shoal warm-up'), 'sha256');
const timeoutMs = 2000;
/** The second time code runs it is cheaper again, as what the first time learned is used. */
const roundCount = 2;

/** This node's own gRPC server, which listens on `listen`, as the node itself reaches it. */
export function ownTarget(identity: NodeIdentity, listen: string): Target {
  const { host, port } = parseEndpoint(listen);
  const reached = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return { endpoint: formatEndpoint({ host: reached, port }), ...identity };
}

/** Never throws: what fails here is told to whoever asks in earnest. */
export async function warmUp(own: Target, { channels, reader, logger }: WarmUpDeps, { signal }: CallOptions): Promise<void> {
  for (let round = 0; round < roundCount && !signal.aborted; round += 1) {
    await expectNothing('index', () => reader.openBlob(repository, digest, { signal }), logger);
    await expectNothing('exchange', () => exchange(own, channels, signal), logger);
    const client = channels.client(PeerServiceService, own);
    await expectNothing('peer', () => client.fetchBlob({ digest: digestToProto(digest) }, { signal, timeoutMs }), logger);
  }
}

async function expectNothing(what: string, ask: () => Promise<unknown>, logger: Logger): Promise<void> {
  try {
    await ask();
  } catch (error) {
    logger.debug('warmed up', { what, code: toAppError(error).code });
  }
}

/** Opens an exchange with this very node, which refuses it. */
function exchange(own: Target, channels: PeerChannels, signal: AbortSignal): Promise<void> {
  const nothing = (): void => undefined;
  return new Promise((resolve) => {
    const link = channels.dialExchange(own, digest, {
      accepted: () => link.close(),
      refused: nothing,
      have: nothing,
      piece: nothing,
      pieceRefused: nothing,
      closed: () => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      },
    });
    const onAbort = (): void => link.close();
    signal.addEventListener('abort', onAbort, { once: true });
  });
}
