/** Requests as raw bytes, for what no HTTP library would send; and the replies to them. */
import { connect, type Socket } from 'node:net';

export interface RawReply {
  readonly status: number;
  /** Lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface RawOutcome {
  readonly replies: readonly RawReply[];
  /** What does not parse as replies, at most the beginning of one. */
  readonly rest: string;
}

export interface RawOptions {
  /** Do not wait for the server to hang up after this many replies. */
  readonly repliesMax?: number;
  /** Replies are to HEAD requests. */
  readonly isHead?: boolean;
  readonly timeoutMs?: number;
}

/** An open connection to `host:port`. Errors of the connection are its end. */
export function openRaw(address: string): Socket {
  const colon = address.lastIndexOf(':');
  return connect(Number(address.slice(colon + 1)), address.slice(0, colon)).on('error', () => undefined);
}

/** Sends the bytes and reads until the server hangs up, or enough replies came. Throws when neither happens in time (30 s by default). */
export async function exchangeRaw(address: string, bytes: string | Buffer, options: RawOptions = {}): Promise<RawOutcome> {
  const { repliesMax = Number.POSITIVE_INFINITY, isHead = false, timeoutMs = 30_000 } = options;
  const socket = openRaw(address);
  const chunks: Buffer[] = [];
  try {
    return await new Promise<RawOutcome>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no end after ${timeoutMs} ms; so far: ${said(chunks).slice(0, 500)}`)), timeoutMs);
      const settle = (outcome: RawOutcome): void => {
        clearTimeout(timer);
        resolve(outcome);
      };
      socket.on('data', (chunk) => {
        chunks.push(chunk);
        const outcome = repliesOf(said(chunks), isHead);
        if (outcome.replies.length >= repliesMax) settle(outcome);
      });
      socket.once('close', () => settle(repliesOf(said(chunks), isHead)));
      socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
    });
  } finally {
    socket.destroy();
  }
}

const said = (chunks: readonly Buffer[]): string => Buffer.concat(chunks).toString('latin1');

/** The replies in a stream; those of status 1xx are left out. */
export function repliesOf(text: string, isHead = false): RawOutcome {
  const replies: RawReply[] = [];
  let rest = text;
  for (;;) {
    const end = rest.indexOf('\r\n\r\n');
    const status = /^HTTP\/1\.[01] (\d{3}) /.exec(rest)?.[1];
    if (end < 0 || status === undefined) return { replies, rest };
    const lines = rest.slice(0, end).split('\r\n').slice(1);
    const headers = Object.fromEntries(
      lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
    );
    const isEmpty = isHead || status.startsWith('1') || status === '204' || status === '304';
    const length = isEmpty ? 0 : Number(headers['content-length'] ?? rest.length - end - 4);
    const body = rest.slice(end + 4, end + 4 + length);
    if (body.length < length) return { replies, rest };
    if (!status.startsWith('1')) replies.push({ status: Number(status), headers, body });
    rest = rest.slice(end + 4 + length);
  }
}
