/** The limits of the wire, each with its reason. Sizes are in bytes, times in milliseconds. */

/** The largest message of any call: metainfo of a 1 TiB blob carries 8 MiB of hashes. */
export const messageSizeBytesMax = 16 * 1024 * 1024;
/** The largest frame of an exchange: a piece of 4 MiB and its header, with room to spare. */
export const exchangeFrameSizeBytesMax = 5 * 1024 * 1024;
/** The largest frame a downloader may send: 256 indexes need 1,286 bytes, a hello 74. */
export const exchangeRequestSizeBytesMax = 4 * 1024;
/** Indexes in one frame, as the proto says. */
export const indexCountMax = 256;
/** The receive window of a client: 4 MiB fills 1 Gbit/s at 30 ms of round trip. */
export const flowControlWindowBytes = 4 * 1024 * 1024;

export const callTimeoutMsDefault = 10_000;
/** How long a dialled exchange waits for `accepted` or `refused`, and a server for the hello. */
export const exchangeOpenTimeoutMsDefault = 10_000;
/** What waits in an exchange that was closed, at most two pieces, is dropped when its receiver has not taken it by then. */
export const exchangeFlushTimeoutMs = 10_000;
/** Attempts of an idempotent call in all. */
export const attemptCountMax = 3;
/** Wait before the second attempt, doubled after each: short, because a caller waits. Jittered by half. */
export const retryBackoffMsMin = 50;
export const retryBackoffMsMax = 500;

/** A connection that nobody has used for this long is closed. */
export const channelIdleMsDefault = 5 * 60_000;
/** Connections of one process to others: below the usual file limit of 4,096 with room for blobs and inbound connections. */
export const channelCountMaxDefault = 1024;
/** Streams of one inbound connection. */
export const concurrentStreamCountMaxDefault = 1024;

/** Pings find a dead peer in 40 s; more often would keep idle radios and NAT tables busy. */
export const keepaliveMs = 30_000;
export const keepaliveTimeoutMs = 10_000;
/** Bounds of the wait between attempts to connect. */
export const reconnectBackoffMsMin = 100;
export const reconnectBackoffMsMax = 5_000;
/** How long running calls may go on after `drain` by default. */
export const drainGraceMsDefault = 10_000;
/** A health check that takes longer than this is a failed one. */
export const healthTimeoutMsDefault = 2_000;

/** Calls in one message of a stream that carries calls, as the protos say. */
export const callsPerMessageMax = 256;
/** Calls of one stream that may wait for an answer; what goes beyond is a call of its own. */
export const callsWaitingMax = 256;
/** Calls of one stream that are served at a time: 32 answers of 256 KiB are 8 MiB. */
export const callsServedMax = 32;
/** Answers in one message: 16 of 256 KiB are a quarter of the largest message. */
export const repliesPerMessageMax = 16;
/** A stream that carries calls is closed when it has carried none for this long: 15,000 agents shall not keep one open each. */
export const callStreamIdleMs = 10_000;
/** How often such a stream is looked at for late calls. */
export const callStreamCheckMs = 250;
/** A call with less time than this is made alone, as its timeout would be inexact. */
export const callStreamTimeoutMsMin = 1_000;
/** How long calls are made alone after a stream broke, and after a server did not know it. */
export const callStreamBackoffMs = 1_000;
export const callStreamUnsupportedMs = 60_000;
