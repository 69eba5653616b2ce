/** Lifetimes and limits of the PKI, each with its reason. */

const minuteMs = 60_000;
const dayMs = 24 * 60 * minuteMs;

/**
 * A cluster CA lives for one year by default: nodes take a rotated CA from their trust bundle without a restart, so a short life
 * costs one command a year and bounds how long a stolen CA key is of use. Ten years is the most that can be asked for.
 */
export const authorityLifetimeMsDefault = 365 * dayMs;
export const authorityLifetimeMsMax = 3650 * dayMs;

/** There is no revocation list, so a leaf's lifetime is how long a stolen key works: a week, at most a quarter of a year. */
export const leafLifetimeMsDefault = 7 * dayMs;
export const leafLifetimeMsMax = 90 * dayMs;

/** A shorter certificate would be due for renewal before the clocks of two hosts agree that it is valid. */
export const lifetimeMsMin = 10 * minuteMs;

/** Certificates begin this long before they are issued, for hosts whose clock is behind. */
export const backdateMs = 5 * minuteMs;

/** A rotation needs two CAs at once; more than this is a mistake. */
export const trustedAuthorityCountMax = 16;

/** Intermediate certificates between a leaf and its CA, for PKIs that are not ours. */
export const intermediateCountMax = 4;

/** Extra DNS names or addresses of a leaf, each. */
export const extraNameCountMax = 32;

/** The largest PEM file that is read: 16 CAs of 4 KiB fit four times over. */
export const pemSizeBytesMax = 256 * 1024;

/** How often certificate files are looked at: a renewal has days to be noticed, and reading three small files is free. */
export const pollIntervalMsDefault = 10_000;
