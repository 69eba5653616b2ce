import { MemoryBlobStore } from '#storage';
import { blobStoreContract } from './blob-store.ts';

blobStoreContract('memory', async ({ capacityBytes, clock }) => new MemoryBlobStore({ capacityBytes }, { clock }));
