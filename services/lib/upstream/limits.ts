/** The limits towards other registries, each with its reason. Sizes are in bytes, times in milliseconds. */

/** From sending a request to the head of its reply; Docker Hub answers in well under a second. */
export const headTimeoutMs = 15_000;
/** How long a body may stand still before the transfer is resumed. */
export const bodyIdleMs = 30_000;
/** Redirects of one request; registries redirect once, to their storage. */
export const redirectsMax = 5;
/** Attempts of one request while the upstream fails, and the pauses between them, doubled after each. */
export const attemptsMax = 3;
export const backoffMs = 200;
/** A longer `Retry-After` is passed on to the caller. */
export const retryAfterWaitMsMax = 2000;
/** Attempts to go on with a blob without a new byte. */
export const resumesWithoutProgressMax = 5;
/** Clients and registries agree on manifests of at most 4 MiB. */
export const manifestBytesMax = 4 * 1024 * 1024;
/** A token is a few kilobytes. */
export const tokenReplyBytesMax = 256 * 1024;
/** Tokens kept: one for each repository and credential in use. */
export const tokensMax = 2000;
/** What a token lives when its issuer does not say, by the distribution specification. */
export const tokenLifetimeMsDefault = 60_000;
/** Nothing is believed for longer, whatever the issuer says. */
export const tokenLifetimeMsMax = 3_600_000;
/** A refusal of credentials is not asked for again for this long, so that a wrong password does not lock an account. */
export const refusalMs = 10_000;
/** Connections to one host. */
export const socketsMax = 32;
