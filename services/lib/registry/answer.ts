/** What a handler answers with: plain data, sent by send.ts. The success statuses of the surface are named here and nowhere else. */
import type { RegistryError } from './errors.ts';

/** Header names in lower case. */
export type AnswerHeaders = Readonly<Record<string, string>>;

/** A body that is sent while it is read. */
export interface StreamBody {
  readonly sizeBytes: number;
  /** The first bytes come at once: the head goes out with them. */
  readonly isAtHand?: boolean;
  readonly chunks: AsyncIterable<Uint8Array>;
  /** Called once, whether the body was sent or not. */
  release(): Promise<void>;
}

export interface Answer {
  readonly status: number;
  readonly headers: AnswerHeaders;
  readonly body: Buffer | StreamBody | undefined;
}

export function isStream(body: Answer['body']): body is StreamBody {
  return body !== undefined && !Buffer.isBuffer(body);
}

/** 200 with the headers of content that a HEAD describes and does not send. */
export function described(headers: AnswerHeaders): Answer {
  return { status: 200, headers, body: undefined };
}

/** 200. */
export function ok(headers: AnswerHeaders, body: Buffer | StreamBody): Answer {
  return { status: 200, headers: { ...headers, 'content-length': String(lengthOf(body)) }, body };
}

/** 200 with JSON. It goes out as bytes because Fastify appends a charset to JSON text, which clients reject. */
export function okJson(value: unknown, headers: AnswerHeaders = {}): Answer {
  return ok({ 'content-type': 'application/json', ...headers }, Buffer.from(JSON.stringify(value)));
}

/** 206. */
export function partial(headers: AnswerHeaders, body: StreamBody): Answer {
  return { status: 206, headers: { ...headers, 'content-length': String(body.sizeBytes) }, body };
}

/** 201 without a body. */
export function created(headers: AnswerHeaders): Answer {
  return { status: 201, headers: { ...headers, 'content-length': '0' }, body: undefined };
}

/** 202 without a body. */
export function accepted(headers: AnswerHeaders = {}): Answer {
  return { status: 202, headers: { ...headers, 'content-length': '0' }, body: undefined };
}

/** 204. */
export function noContent(headers: AnswerHeaders = {}): Answer {
  return { status: 204, headers, body: undefined };
}

/** 304. */
export function notModified(headers: AnswerHeaders): Answer {
  return { status: 304, headers, body: undefined };
}

/** A refusal with the JSON body of the distribution specification. */
export function refusal(error: RegistryError): Answer {
  const body = error.body();
  return {
    status: error.status,
    headers: { ...error.headers, 'content-type': 'application/json', 'content-length': String(body.byteLength) },
    body,
  };
}

function lengthOf(body: Buffer | StreamBody): number {
  return Buffer.isBuffer(body) ? body.byteLength : body.sizeBytes;
}
