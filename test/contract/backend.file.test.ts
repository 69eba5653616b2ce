import { FileBackend } from '#storage';
import { ManualClock } from '../support/manual-clock.ts';
import { backendContract } from './backend.ts';

backendContract('file', (root) => FileBackend.open({ root }, { clock: new ManualClock() }));
