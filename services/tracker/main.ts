import { runService } from '#runtime';
import { composeTracker } from './compose.ts';
import { trackerConfig } from './config.ts';

await runService({ role: 'tracker', schema: trackerConfig, compose: composeTracker });
