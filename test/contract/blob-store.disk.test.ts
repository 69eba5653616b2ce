import { nullMeter, silentLogger } from '#core';
import { DiskBlobStore } from '#storage';
import { blobStoreContract } from './blob-store.ts';

blobStoreContract('disk', ({ root, capacityBytes, clock }) =>
  DiskBlobStore.open({ root, capacityBytes }, { clock, logger: silentLogger, meter: nullMeter }),
);
