import { runService } from '#runtime';
import { composeAgent } from './compose.ts';
import { agentConfig } from './config.ts';

await runService({ role: 'agent', schema: agentConfig, compose: composeAgent });
