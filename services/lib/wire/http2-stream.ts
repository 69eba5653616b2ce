/** The HTTP/2 stream below a call that is served. grpc-js ends a stream only after what waits in it, and has no call that drops it. */
import type { ServerHttp2Stream } from 'node:http2';

/** Interceptors around the call that holds the stream, and one for good measure. */
const wrapperCountMax = 4;

/** Undefined when grpc-js keeps it in another place than 1.14 does. */
export function http2StreamOf(call: object): Pick<ServerHttp2Stream, 'close' | 'closed' | 'once'> | undefined {
  let at: unknown = 'call' in call ? call.call : undefined;
  for (let depth = 0; depth < wrapperCountMax && isObject(at); depth += 1) {
    if ('stream' in at && isStream(at.stream)) return at.stream;
    at = 'nextCall' in at ? at.nextCall : undefined;
  }
  return undefined;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function isStream(value: unknown): value is ServerHttp2Stream {
  return isObject(value) && 'rstCode' in value && 'close' in value && typeof value.close === 'function';
}
