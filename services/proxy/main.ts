import { runService } from '#runtime';
import { composeProxy } from './compose.ts';
import { proxyConfig } from './config.ts';

await runService({ role: 'proxy', schema: proxyConfig, compose: composeProxy });
