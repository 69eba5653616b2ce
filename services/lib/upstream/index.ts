/** Other registries: which repositories come from them, and a client of each. */
export { BoundedMap } from './bounded-map.ts';
export { type Challenge, formatChallenge, parseChallenges } from './challenge.ts';
export { type UpstreamBlob, type UpstreamCall, UpstreamClient, type UpstreamManifest, type UpstreamManifestHead } from './client.ts';
export {
  anonymous,
  type CredentialSource,
  type Credentials,
  credentialKey,
  credentialsOfHeader,
  loadCredentials,
} from './credentials.ts';
export { HttpClient } from './http.ts';
export { readManifestFacts, type UpstreamManifestFacts } from './manifest.ts';
export { matchUpstream, nameInMesh, type UpstreamMatch, type UpstreamNamespace } from './namespaces.ts';
export { Session } from './session.ts';
export { abortable, SingleFlight } from './single-flight.ts';
