/** Takes PEM text apart into certificates and private keys. */
import { AppError } from '#core';
import { pemSizeBytesMax } from './limits.ts';

/** The PEM blocks of a text, in order, each ending in a line feed. */
export interface PemBlocks {
  readonly certificates: readonly string[];
  readonly privateKeys: readonly string[];
}

const blockPattern = /-----BEGIN ([A-Z0-9 ]{1,40})-----[A-Za-z0-9+/=\s]*-----END \1-----/g;

/** Blocks of other kinds are ignored, as is text between blocks. Throws `failed-precondition` for more than 256 KiB. */
export function splitPem(text: string): PemBlocks {
  if (text.length > pemSizeBytesMax) {
    throw new AppError(
      'failed-precondition',
      `a PEM file may have at most ${pemSizeBytesMax} bytes; keep only what the cluster needs in it`,
    );
  }
  const certificates: string[] = [];
  const privateKeys: string[] = [];
  for (const [block, label = ''] of text.matchAll(blockPattern)) {
    if (label === 'CERTIFICATE') certificates.push(`${block}\n`);
    else if (label.endsWith('PRIVATE KEY')) privateKeys.push(`${block}\n`);
  }
  return { certificates, privateKeys };
}
