/** One request on a connection of its own, closed with the reply: unlike those of `fetch`, none stays open behind a test. */
import { type IncomingHttpHeaders, request } from 'node:http';

export interface Asked {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface AskOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
}

/** Throws when the connection breaks off before the reply has ended. */
export async function ask(method: string, url: string, { headers = {}, body }: AskOptions = {}): Promise<Asked> {
  const length = method === 'GET' || method === 'HEAD' ? {} : { 'content-length': String(body?.byteLength ?? 0) };
  return new Promise((resolve, reject) => {
    const asked = request(url, { method, agent: false, headers: { ...length, ...headers } }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('error', reject);
      response.once('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }));
    });
    asked.once('error', reject);
    asked.end(body);
  });
}
