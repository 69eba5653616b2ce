/** Enforces the layer map of .dependency-cruiser.cjs, and that something was looked at at all. */
import { execFileSync } from 'node:child_process';

interface CruiseResult {
  readonly summary: {
    readonly totalCruised: number;
    readonly violations: readonly { readonly from: string; readonly to: string; readonly rule: { readonly name: string } }[];
  };
}

/** With a compiler it cannot use, dependency-cruiser reads nothing and finds nothing; the tree has far more modules than this. */
const moduleCountMin = Number(process.env['LAYERS_MODULES_MIN'] ?? 100);

function cruise(): CruiseResult {
  return JSON.parse(
    execFileSync('node_modules/.bin/depcruise', ['--config', '.dependency-cruiser.cjs', '--output-type', 'json', 'services'], {
      encoding: 'utf8',
      maxBuffer: 256 << 20,
      stdio: ['ignore', 'pipe', 'inherit'],
    }),
  );
}

const { summary } = cruise();
for (const { rule, from, to } of summary.violations) process.stderr.write(`${rule.name}: ${from} -> ${to}\n`);
process.stdout.write(`layers: ${summary.totalCruised} modules, ${summary.violations.length} violations\n`);
if (summary.totalCruised < moduleCountMin) process.stderr.write(`expected at least ${moduleCountMin} modules\n`);
process.exitCode = summary.violations.length > 0 || summary.totalCruised < moduleCountMin ? 1 : 0;
