/** The layer map, enforced. A layer imports only from layers below it. */
const lib = (...names) => `^services/lib/(${names.join('|')})/`;

/** From low to high; a layer may import every layer before it, and its neighbours in the same line only where an exception says so. */
const layers = [
  ['core'],
  ['swarm', 'placement'],
  ['storage', 'pki', 'telemetry', 'upstream'],
  ['wire'],
  ['cluster', 'registry', 'runtime', 'sim'],
  ['peer', 'access'],
  ['images'],
];

const services = ['agent', 'origin', 'tracker', 'proxy', 'build-index'];

const upward = layers.flatMap((names, level) =>
  names.map((name) => ({
    name: `layer-${name}`,
    comment: `services/lib/${name} stands on layer ${level}: it imports only from layers below it`,
    severity: 'error',
    from: { path: lib(name) },
    to: { path: '^(services|gen)/', pathNot: [lib(name, ...layers.slice(0, level).flat()), ...(level >= 3 ? ['^gen/'] : [])] },
  })),
);

module.exports = {
  forbidden: [
    ...upward,
    {
      name: 'core-only',
      comment: 'swarm, placement and registry stand on core alone, so that the simulator and other hosts can use them',
      severity: 'error',
      from: { path: lib('swarm', 'placement', 'registry') },
      to: { path: lib('storage', 'pki', 'telemetry', 'wire', 'swarm', 'placement'), pathNot: '^services/lib/(swarm|placement|registry)/' },
    },
    {
      name: 'upstream-on-core',
      comment: 'a client of other registries needs core alone: it knows neither the mesh nor its disks',
      severity: 'error',
      from: { path: lib('upstream') },
      to: { path: '^(services|gen)/', pathNot: lib('upstream', 'core') },
    },
    {
      name: 'sim-on-engine',
      comment: 'the simulator runs the engine in virtual time: it stands on core, swarm and placement alone',
      severity: 'error',
      from: { path: lib('sim') },
      to: { path: '^(services|gen)/', pathNot: lib('sim', 'core', 'swarm', 'placement') },
    },
    {
      name: 'access-on-registry',
      comment: 'access decides for the registry: it knows no node of the cluster and no blob',
      severity: 'error',
      from: { path: lib('access') },
      to: { path: '^(services|gen)/', pathNot: lib('access', 'core', 'registry', 'runtime', 'telemetry') },
    },
    {
      name: 'wire-knows-no-storage',
      comment: 'the wire moves bytes; it knows neither the swarm nor the store',
      severity: 'error',
      from: { path: lib('wire') },
      to: { path: lib('swarm', 'placement', 'storage') },
    },
    {
      name: 'services-apart',
      comment: 'services never import each other; they talk over gRPC',
      severity: 'error',
      from: { path: `^services/(${services.join('|')})/` },
      to: { path: `^services/(${services.join('|')}|cli)/`, pathNot: '^services/$1/' },
    },
    {
      name: 'lib-below-services',
      comment: 'a library knows no service',
      severity: 'error',
      from: { path: '^services/lib/' },
      to: { path: `^services/(${services.join('|')}|cli)/` },
    },
    {
      name: 'cli-above-libraries',
      comment: 'the command talks to running services; it does not import them',
      severity: 'error',
      from: { path: '^services/cli/' },
      to: { path: `^services/(${services.join('|')})/` },
    },
    {
      name: 'through-the-index',
      comment: 'a library is used through its index.ts',
      severity: 'error',
      from: { path: '^services/(lib/)?([^/]+)/' },
      to: { path: '^services/lib/([^/]+)/', pathNot: ['^services/lib/[^/]+/index\\.ts$', '^services/(lib/)?$2/'] },
    },
    ...[
      ['fastify', 'registry'],
      ['jose', 'access'],
      ['bcryptjs', 'access'],
      ['node-forge', 'pki'],
      ['pino', 'telemetry'],
      ['@opentelemetry', 'telemetry'],
      ['@grpc', 'wire'],
      ['lmdb', 'storage'],
    ].map(([name, home]) => ({
      name: `only-${home}-uses-${name.replace('@', '')}`,
      comment: `${name} lives in services/lib/${home} only`,
      severity: 'error',
      from: { path: '^services/', pathNot: [lib(home), ...(name === 'lmdb' ? ['^services/build-index/'] : [])] },
      to: { path: `node_modules/${name}` },
    })),
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-tests-in-production', severity: 'error', from: { path: '^services/' }, to: { path: '^test/' } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default'],
      extensions: ['.ts', '.js', '.mjs', '.cjs', '.json'],
    },
  },
};
