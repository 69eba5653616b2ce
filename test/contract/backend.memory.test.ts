import { MemoryBackend } from '#storage';
import { backendContract } from './backend.ts';

backendContract('memory', async () => new MemoryBackend());
