/** `/v2/token`: where clients get their bearer tokens, by GET as docker asks or by an OAuth form as containerd does. */

import type { AccessState, Caller, TokenIssuer } from './access.ts';
import { type Answer, okJson } from './answer.ts';
import type { Call, Surface } from './call.ts';
import { RegistryError } from './errors.ts';

/** A form holds a user, a password and a few dozen scopes of at most 300 characters. */
const formBytesMax = 64 * 1024;
const formTimeoutMs = 10_000;

/** More scopes than any push mounts from; further ones are ignored, and the client asks again for what it lacks. */
const scopesMax = 64;

/** `GET`: the credentials, if any, are in the Authorization header. */
export async function grantByQuery(call: Call, surface: Surface): Promise<Answer> {
  const issuer = issuerOf(surface);
  return grant(call, issuer, callerOf(call.access), call.query.getAll('scope'));
}

/** `POST`: an OAuth 2 form with a password. Refresh tokens are not given out; whoever has one is told to use its password. */
export async function grantByForm(call: Call, surface: Surface): Promise<Answer> {
  const issuer = issuerOf(surface);
  const form = new URLSearchParams((await readForm(call)).toString('utf8'));
  const grantType = form.get('grant_type');
  if (grantType !== 'password') {
    throw new RegistryError('requestInvalid', 'unsupported grant_type: use password, or GET with basic authentication');
  }
  const authorization = `Basic ${Buffer.from(`${form.get('username') ?? ''}:${form.get('password') ?? ''}`).toString('base64')}`;
  const identity = await call.access.control.identify({ ...call.evidence, authorization }, call);
  return grant(call, issuer, callerOf({ ...call.access, identity }), form.getAll('scope'));
}

async function grant(call: Call, issuer: TokenIssuer, caller: Caller, scopeTexts: readonly string[]): Promise<Answer> {
  // Clients repeat the parameter or join the scopes by blanks, which the router leaves as plus signs.
  const scopes = [...new Set(scopeTexts.flatMap((text) => text.split(/[ +]+/)))].filter((scope) => scope !== '');
  const { token, expiresInSec, issuedAtMs } = await issuer.issue({ caller, scopes: scopes.slice(0, scopesMax) }, call);
  return okJson(
    { token, access_token: token, expires_in: expiresInSec, issued_at: new Date(issuedAtMs).toISOString() },
    { 'cache-control': 'no-store' },
  );
}

function issuerOf({ access }: Surface): TokenIssuer {
  if (access.tokens !== undefined) return access.tokens;
  throw new RegistryError('routeUnknown', 'this registry gives out no tokens');
}

/** A bearer token cannot be traded for another: it would never end. */
function callerOf({ identity }: AccessState): Caller {
  if (identity.kind === 'caller' && !identity.caller.hasToken) return identity.caller;
  const message = identity.kind === 'refused' && !identity.hadToken ? identity.message : 'show a user and a password, not a token';
  throw new RegistryError('unauthorized', message, { headers: { 'www-authenticate': 'Basic realm="shoal"' } });
}

async function readForm(call: Call): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of call.body({ totalMs: formTimeoutMs })) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > formBytesMax) throw new RegistryError('requestInvalid', `the form is too large: at most ${formBytesMax} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
