/**
 * Malformed requests of every kind, each with the answers that are right. `{repository}`, `{digest}` (a blob there) and `{session}` (the path of a
 * new upload) are filled in by whoever sends them.
 */

export interface MalformedRequest {
  readonly what: string;
  /** Latin-1. */
  readonly bytes: string;
  /** The statuses of the replies, in order; one that may have several is a list. Empty: the connection ends without a reply. */
  readonly expected: readonly (number | readonly number[])[];
}

const crlf = '\r\n';
const zeros = '0'.repeat(64);

/** A request that is well-formed as HTTP, and asks for the end of the connection. */
function http(method: string, path: string, headers: readonly string[] = [], body?: string): string {
  const length = body === undefined ? [] : [`Content-Length: ${Buffer.byteLength(body, 'latin1')}`];
  return [`${method} ${path} HTTP/1.1`, 'Host: x', 'Connection: close', ...headers, ...length, '', body ?? ''].join(crlf);
}

type Expected = MalformedRequest['expected'][number];

const get = (path: string, expected: Expected, headers: readonly string[] = []): MalformedRequest => ({
  what: `GET ${path.slice(0, 80)} ${headers.join(', ').slice(0, 80)}`,
  bytes: http('GET', path, headers),
  expected: [expected],
});

const raw = (what: string, bytes: string, ...expected: readonly Expected[]): MalformedRequest => ({ what, bytes, expected });

const write = (method: string, path: string, expected: Expected, headers: readonly string[] = [], body = ''): MalformedRequest => ({
  what: `${method} ${path.slice(0, 80)} ${headers.join(', ').slice(0, 80)} ${body.slice(0, 60)}`,
  bytes: http(method, path, headers, body),
  expected: [expected],
});

const names: readonly MalformedRequest[] = [
  ...['UPPER', '-a', 'a-', 'a..b', 'a_-b', 'a___b', '%C3%A9', 'a%20b', 'a:b', 'a@b', 'a'.repeat(256), `${'a/'.repeat(140)}a`].flatMap(
    (name) => [get(`/v2/${name}/tags/list`, 400), get(`/v2/${name}/blobs/sha256:${zeros}`, 400)],
  ),
  ...['a//b', '../etc/passwd', '%2e%2e/x', 'a%2Fb', 'a%5Cb', 'a%00b', 'a%0Ab', 'a%zz', 'a%', '%FF%FE', './x'].map((name) =>
    get(`/v2/${name}/tags/list`, 400),
  ),
  ...['/', '/v1/', '/v2', '/v2/x', '//v2/', '/v2/tags/list', '/v2//tags/list', '/v2/_catalog/x', '/V2/', '/v2/a/tags', '/%76%32/'].map(
    (path) => get(path, [200, 400, 404]),
  ),
  ...['.bad', '-bad', 'a'.repeat(129), 'a+b', '%F0%9F%90%9F'].flatMap((tag) => [
    get(`/v2/{repository}/manifests/${tag}`, 404),
    write('PUT', `/v2/{repository}/manifests/${tag}`, 400, ['Content-Type: application/vnd.oci.image.manifest.v1+json'], '{}'),
  ]),
  get(`/v2/${'a'.repeat(60_000)}/tags/list`, 400),
];

const digests: readonly MalformedRequest[] = [
  ...[
    'sha256:',
    'sha256',
    `sha256:${zeros}0`,
    `sha256:${zeros.slice(1)}`,
    `sha256:${'A'.repeat(64)}`,
    `sha256:${'z'.repeat(64)}`,
    `md5:${'0'.repeat(32)}`,
  ]
    .concat([`SHA256:${zeros}`, `sha512:${zeros}`, `sha256:${zeros}:x`, `sha256%3A${'g'.repeat(64)}`, `:${zeros}`, 'a:b:c', 'sha256:%00'])
    .flatMap((digest) => [
      get(`/v2/{repository}/blobs/${digest}`, 400),
      get(`/v2/{repository}/referrers/${digest}`, 400),
      write('POST', `/v2/{repository}/blobs/uploads/?digest=${digest}`, 400, [], 'x'),
      write('POST', `/v2/{repository}/blobs/uploads/?mount=${digest}&from=a`, 400),
      write('PUT', `{session}?digest=${digest}`, 400),
    ]),
  write('PUT', '{session}', 400),
  write('PUT', `{session}?digest=sha256:${zeros}`, 400, [], 'not this'),
  write('POST', `/v2/{repository}/blobs/uploads/?digest=sha256:${zeros}`, 400, [], 'not this'),
  write('POST', '/v2/{repository}/blobs/uploads/?digest-algorithm=md5', 400),
  get('/v2/{repository}/blobs/uploads/not-a-session', [404, 405]),
  write('PATCH', '/v2/{repository}/blobs/uploads/00000000-0000-4000-8000-000000000000', 404, [], 'x'),
];

const blobPath = '/v2/{repository}/blobs/{digest}';
const ranges: readonly MalformedRequest[] = [
  ...[
    'bytes=',
    'bytes=-',
    'bytes=5-1',
    'bytes=a-b',
    'bytes=--1',
    'bytes=-0',
    'bytes=1-2-3',
    'bytes=0x0-0x1',
    'bytes=99999999999999-',
    'bytes=,,,',
    'bytes=1;2',
  ]
    .concat(['bytes=18446744073709551616-18446744073709551617', 'bytes= 5 - 6'])
    .map((range) => get(blobPath, 416, [`Range: ${range}`])),
  ...['items=0-1', 'bytes', '', 'bytes 0-1', `bytes=0-0,${'1-1,'.repeat(2000)}2-2`].map((range) => get(blobPath, 200, [`Range: ${range}`])),
  get(blobPath, [200, 206, 416], ['Range: bytes=0-1', 'Range: bytes=3-4']),
  get(blobPath, 200, ['Range: bytes=0-1', 'If-Range: "other"']),
  get(blobPath, 412, ['If-Match: "other"']),
  ...['', 'x', '5-1', 'bytes 5-', '-5', '0--1', '1e3-2e3', '99999999999999999999-99999999999999999999', '0-4/x'].map((range) =>
    write('PATCH', '{session}', 416, [`Content-Range: ${range}`], 'hello'),
  ),
  write('PATCH', '{session}', 416, ['Content-Range: 7-11'], 'hello'),
  write('PATCH', '{session}', 400, ['Content-Range: 0-8'], 'hello'),
  write('PATCH', '{session}', 400, ['Content-Range: 0-1'], 'hello'),
  ...['-1', 'abc', '1.5', '%00', '1e9', '99999999999999999999'].flatMap((n) => [
    get(`/v2/_catalog?n=${n}`, [200, 400]),
    get(`/v2/{repository}/tags/list?n=${n}`, [200, 400]),
  ]),
  get('/v2/{repository}/tags/list?last=%00%ff&n=3&n=x&&&=&%zz=%zz', 200),
];

const line = 'GET /v2/ HTTP/1.1\r\nHost: x\r\n';
const patch = `PATCH {session} HTTP/1.1${crlf}Host: x${crlf}`;
const close = `Connection: close${crlf}`;
const chunked = `${patch}Transfer-Encoding: chunked${crlf}${crlf}`;
const heads: readonly MalformedRequest[] = [
  raw('no colon in a header', `${line}nonsense\r\n\r\n`, 400),
  raw('a space before the colon', `${line}A : b\r\n\r\n`, 400),
  raw('a NUL in a header', `${line}A: b\u0000c\r\n\r\n`, 400),
  raw('a bare CR in a header', `${line}A: b\rc\r\n\r\n`, 400),
  raw('an empty header name', `${line}: b\r\n\r\n`, 400),
  raw('a folded header', `${line}${close}A: b\r\n c\r\n\r\n`, [200, 400]),
  raw('bytes above ASCII in a header', `${line}${close}A: \u00ff\u00fe\r\n\r\n`, 200),
  raw('a header of 100 KB', `${line}A: ${'x'.repeat(100_000)}\r\n\r\n`, 431),
  raw('5000 headers', `${line}${close}${Array.from({ length: 5000 }, (_, index) => `A${index}: b\r\n`).join('')}\r\n`, [200, 431]),
  raw('no host', `GET /v2/ HTTP/1.1\r\n${close}\r\n`, 400),
  raw('two hosts', `${line}Host: y\r\n${close}\r\n`, [200, 400]),
  raw('two lengths', `${patch}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab`, 400),
  raw('a length and chunks', `${patch}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400),
  ...['-1', '1e3', '0x10', '+5', '1 2', '', '99999999999999999999999'].map((length) =>
    raw(`a length of "${length}"`, `${patch}Content-Length: ${length}\r\n\r\nhello`, 400),
  ),
  ...['gzip', 'xchunked', 'chunked, identity', 'chunked, chunked2'].map((coding) =>
    raw(`transfer coding ${coding}`, `${patch}${close}Transfer-Encoding: ${coding}\r\n\r\n0\r\n\r\n`, [400, 408]),
  ),
  raw('an expectation nobody can meet', `${line}${close}Expect: miracles\r\n\r\n`, 200),
  raw('an upgrade', `${line}Connection: upgrade, close\r\nUpgrade: h2c\r\n\r\n`, 200),
  ...['Basic', 'Basic !!!', 'Bearer', 'Bearer a.b.c', 'Negotiate x', `Basic ${'A'.repeat(20_000)}`].map((value) =>
    get('/v2/', [200, 401], [`Authorization: ${value}`]),
  ),
  get('/v2/{repository}/manifests/v1', [200, 400], ['Accept: \u0001', 'Accept: ;;;,,,', 'traceparent: zz-zz']),
];

const bodies: readonly MalformedRequest[] = [
  raw('a chunk size that is none', `${chunked}zz\r\nhello\r\n`, 400),
  raw('a chunk size beyond 64 bits', `${chunked}ffffffffffffffffff\r\nhello`, 400),
  raw('a negative chunk size', `${chunked}-5\r\nhello\r\n`, 400),
  raw('a chunk longer than its size', `${chunked}3\r\nhello\r\n0\r\n\r\n`, 400),
  raw('a chunk extension of 100 KB', `${chunked}5;${'x'.repeat(100_000)}\r\nhello\r\n0\r\n\r\n`, [400, 413]),
  raw('chunks that never end', `${chunked}5\r\nhello\r\n`, 408),
  raw('a chunk that never ends', `${chunked}500\r\nhello`, 408),
  raw('a length that is never reached', `${patch}Content-Length: 500\r\n\r\nhello`, 408),
  raw('a manifest that never ends', 'PUT /v2/{repository}/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{', 408),
  raw('trailers', `${patch}${close}Transfer-Encoding: chunked${crlf}${crlf}5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n`, [202, 400]),
  raw('a body that a GET needs not', `GET /v2/ HTTP/1.1${crlf}Host: x${crlf}${close}Content-Length: 5${crlf}${crlf}hello`, 200),
  raw('permission for a body that is refused', http('PUT', '/v2/UPPER/manifests/x', ['Expect: 100-continue', 'Content-Length: 10']), 400),
  write('POST', '/v2/token', [400, 401, 404, 405], ['Content-Type: application/x-www-form-urlencoded'], 'grant_type=%zz&&&=\u0000'),
  ...['DELETE', 'PATCH', 'POST', 'OPTIONS', 'TRACE', 'PROPFIND', 'QUERY', 'PURGE'].map((method) => write(method, '/v2/', [400, 404, 405])),
  ...['DELETE', 'POST', 'PATCH'].map((method) => write(method, '/v2/{repository}/manifests/nope', [404, 405])),
];

const json = 'Content-Type: application/vnd.oci.image.manifest.v1+json';
const config = `{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:${zeros}","size":2}`;
const manifests: readonly MalformedRequest[] = [
  ...['', 'x', '[]', 'null', '1', '"x"', '{}', '{', '\u00ff\u00fe', '['.repeat(100_000), `{"a":${'{"a":'.repeat(50_000)}`]
    .concat([
      '{"schemaVersion":2}',
      '{"schemaVersion":1,"name":"x"}',
      '{"schemaVersion":"2","layers":[]}',
      '{"schemaVersion":2,"config":7,"layers":[]}',
    ])
    .concat([`{"schemaVersion":2,"config":${config},"layers":{}}`, `{"schemaVersion":2,"config":${config},"layers":[null]}`])
    .concat([
      `{"schemaVersion":2,"config":${config.replace('2}', '-2}')},"layers":[]}`,
      `{"schemaVersion":2,"config":${config.replace('2}', '1e400}')},"layers":[]}`,
    ])
    .concat([`{"schemaVersion":2,"mediaType":"a/b","config":${config},"layers":[]}`, `{"schemaVersion":2,"config":${config},"layers":[]}`])
    .concat([`{"schemaVersion":2,"config":${config},"layers":[],"subject":"x"}`, '{"__proto__":{"schemaVersion":2},"constructor":7}'])
    .map((body) => write('PUT', '/v2/{repository}/manifests/bad', [400, 404], [json], body)),
  write('PUT', '/v2/{repository}/manifests/bad', [400, 415], ['Content-Type: text/plain'], '{}'),
  write('PUT', '/v2/{repository}/manifests/bad', 400, [], '{}'),
  write('PUT', `/v2/{repository}/manifests/sha256:${zeros}`, 400, [json], '{"schemaVersion":2}'),
  write('PUT', '/v2/{repository}/manifests/bad?tag=x', 400, [json], '{}'),
  write('PUT', `/v2/{repository}/manifests/sha256:${zeros}?${'tag=x&'.repeat(500)}`, [400, 414], [json], '{}'),
  write('PUT', '/v2/{repository}/manifests/bad', 413, [json], ' '.repeat(5 * 2 ** 20)),
];

const ping = `${line}\r\n`;
const garbage: readonly MalformedRequest[] = [
  raw('a TLS greeting', `\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\u00fc\u0003\u0003${'\u00aa'.repeat(500)}`, 400),
  raw('zeros', '\u0000'.repeat(1000), 400),
  raw('an SSH greeting', 'SSH-2.0-OpenSSH_9.2\r\n', 400),
  raw('the HTTP/2 preface', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400),
  raw('HTTP/0.9', 'GET /v2/\r\n\r\n', 400),
  raw('HTTP/9.9', 'GET /v2/ HTTP/9.9\r\nHost: x\r\n\r\n', 400),
  raw('a method in lower case', 'get /v2/ HTTP/1.1\r\nHost: x\r\n\r\n', 400),
  raw('a method that is none', 'FOO /v2/ HTTP/1.1\r\nHost: x\r\n\r\n', 400),
  raw('a space in the path', 'GET /v2/ x HTTP/1.1\r\nHost: x\r\n\r\n', 400),
  raw('a NUL in the path', 'GET /v2/\u0000 HTTP/1.1\r\nHost: x\r\n\r\n', 400),
  raw('bytes above ASCII in the path', `GET /v2/\u00e9/tags/list HTTP/1.1\r\nHost: x\r\n${close}\r\n`, 400),
  raw('a path without a slash', `GET v2/ HTTP/1.1\r\nHost: x\r\n${close}\r\n`, [400, 404]),
  raw('an absolute target', `GET http://elsewhere/v2/ HTTP/1.1\r\nHost: x\r\n${close}\r\n`, [200, 400, 404]),
  raw('an asterisk', `OPTIONS * HTTP/1.1\r\nHost: x\r\n${close}\r\n`, [400, 404, 405]),
  raw('CONNECT', 'CONNECT elsewhere:443 HTTP/1.1\r\nHost: x\r\n\r\n'),
  raw('a path of 100 KB', `GET /v2/${'a'.repeat(100_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 431),
  raw('HTTP/1.0', 'GET /v2/ HTTP/1.0\r\n\r\n', 200),
  raw('HTTP/1.0 with a body', 'POST /v2/{repository}/blobs/uploads/ HTTP/1.0\r\nContent-Length: 0\r\n\r\n', [202, 405]),
  raw('empty lines first', `\r\n\r\n${line}${close}\r\n`, 200),
  raw('three requests at once', `${ping}${ping}${line}${close}\r\n`, 200, 200, 200),
  raw('a broken request behind a good one', `${ping}nonsense\r\n\r\n`, 200, 400),
  raw('a hundred requests at once', `${ping.repeat(99)}${line}${close}\r\n`, ...Array.from({ length: 100 }, () => 200)),
];

/** What reads, or is no request at all; for every gateway. */
export const malformedReads: readonly MalformedRequest[] = [...names, ...digests, ...ranges, ...heads, ...garbage].filter(
  ({ bytes }) => !/^(PUT|POST|PATCH|DELETE) /.test(bytes),
);

/** What writes; a read-only gateway refuses it all. */
export const malformedWrites: readonly MalformedRequest[] = [
  ...names,
  ...digests,
  ...ranges,
  ...heads,
  ...bodies,
  ...manifests,
  ...garbage,
].filter(({ bytes }) => /^(?!GET |HEAD )[A-Z]+ \S*(\/v2\/|\{session\})/.test(bytes));
