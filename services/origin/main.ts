import { runService } from '#runtime';
import { composeOrigin } from './compose.ts';
import { originConfig } from './config.ts';

await runService({ role: 'origin', schema: originConfig, compose: composeOrigin });
