/** The unary methods whose calls may share a stream, and what the messages of such a stream look like. */
import { BuildIndexServiceService } from '#gen/shoal/buildindex/v1/build_index_service';
import type { Status } from '#gen/shoal/errors/v1/error_detail';
import { PeerServiceService } from '#gen/shoal/peer/v1/peer_service';
import type { WireMethod } from './types.ts';

/** One call, as every request message of such a stream carries them. */
export interface StreamedCall {
  readonly number: number;
  readonly traceparent: string;
  readonly request: unknown;
}

/** One answer, as every response message of such a stream carries them. */
export interface StreamedReply {
  readonly number: number;
  readonly result:
    | { readonly $case: 'response'; readonly response: unknown }
    | { readonly $case: 'failure'; readonly failure: Status }
    | undefined;
}

export interface CallsMessage {
  readonly calls: readonly StreamedCall[];
}

export interface RepliesMessage {
  readonly replies: readonly StreamedReply[];
}

/** A unary method and the stream that carries its calls. */
interface StreamedMethod {
  readonly unary: WireMethod;
  /** Its key in the service, where a handler of the unary method is given. */
  readonly unaryKey: string;
  readonly stream: WireMethod;
}

const streamedMethods: readonly StreamedMethod[] = [
  { unary: BuildIndexServiceService.getBlobLink, unaryKey: 'getBlobLink', stream: BuildIndexServiceService.getBlobLinks },
  { unary: PeerServiceService.fetchBlob, unaryKey: 'fetchBlob', stream: PeerServiceService.fetchBlobs },
];

const byUnaryPath: ReadonlyMap<string, StreamedMethod> = new Map(streamedMethods.map((method) => [method.unary.path, method]));
const byStreamPath: ReadonlyMap<string, StreamedMethod> = new Map(streamedMethods.map((method) => [method.stream.path, method]));

/** The stream for the calls of a unary method; undefined when each is a call of its own. */
export function streamOfMethod(path: string): WireMethod | undefined {
  return byUnaryPath.get(path)?.stream;
}

/** The unary method whose calls a stream carries; undefined for any other method. */
export function methodOfStream(path: string): StreamedMethod | undefined {
  return byStreamPath.get(path);
}
