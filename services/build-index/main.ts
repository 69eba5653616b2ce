import { runService } from '#runtime';
import { composeBuildIndex } from './compose.ts';
import { buildIndexConfig } from './config.ts';

await runService({ role: 'build-index', schema: buildIndexConfig, compose: composeBuildIndex });
