import { after } from 'node:test';
import { nullMeter, silentLogger } from '#core';
import { DiskBlobStore, HashThread } from '#storage';
import { blobStoreContract } from './blob-store.ts';

const hashing = new HashThread({ sizeBytesMin: 1 });
after(async () => hashing[Symbol.asyncDispose]());

blobStoreContract('disk, hashed on a thread', ({ root, capacityBytes, clock }) =>
  DiskBlobStore.open({ root, capacityBytes }, { clock, logger: silentLogger, meter: nullMeter, hashing }),
);
