/**
 * The first thing a service runs, before anything it consists of is loaded (`make build` puts this import before all others). While modules are loaded,
 * most of what is made stays, so V8 doubles its young generation up to 2 x 16 MiB, touches all of it, and keeps it for ever; afterwards a service uses
 * 2 MiB of it. `runService` lets it grow again.
 */
import { setFlagsFromString } from 'node:v8';

setFlagsFromString('--semi-space-growth-factor=1');
