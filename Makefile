# Shoal. `make help` lists the targets.
SHELL := /bin/bash
BIN := node_modules/.bin
SERVICES := $(foreach s,agent origin tracker proxy build-index,$(s)=services/$(s)/main.ts)
PROGRAMS := shoal=services/cli/main.ts hash-worker=services/lib/storage/hash-worker.mjs young-generation=services/lib/runtime/young-generation.mjs
BUNDLE := $(BIN)/esbuild --bundle --platform=node --target=node20 --format=esm --packages=external --sourcemap --outdir=dist --out-extension:.js=.mjs --log-level=warning
.DEFAULT_GOAL := help

.PHONY: help devcluster test check gen gen-check breaking fmt build certs e2e conformance interop bench bench-cluster clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

node_modules/.installed: package.json package-lock.json
	npm ci --no-fund --no-audit --loglevel=error
	@touch $@

build: node_modules/.installed ## bundle every program into dist/
	@$(BUNDLE) $(PROGRAMS)
	@$(BUNDLE) $(SERVICES) --banner:js='import "./young-generation.mjs";'

devcluster: build ## run a whole cluster on this machine (ARGS="--agents 3" passes options)
	@node dist/shoal.mjs devcluster $(ARGS)

test: node_modules/.installed ## unit, contract and integration tests: needs only Node and npm
	@node --import tsx test/run.ts unit contract integration tidy

check: node_modules/.installed gen-check ## types, lint, layers and protos
	$(BIN)/tsc -p .
	$(BIN)/biome check --error-on-warnings
	node --import tsx test/tidy/check-layers.ts
	$(BIN)/buf lint && $(BIN)/buf format -d --exit-code

gen: node_modules/.installed ## generate gen/ from proto/
	@$(BIN)/buf generate && node --import tsx proto/rpc-policy.ts && node --import tsx proto/descriptors.ts

gen-check: node_modules/.installed ## fail when gen/ is not what proto/ says
	@node --import tsx test/tidy/check-gen.ts

breaking: node_modules/.installed ## fail when proto/ breaks what main promises
	$(BIN)/buf breaking --against '.git#branch=main'

fmt: node_modules/.installed ## format sources and protos
	$(BIN)/biome check --write && $(BIN)/buf format -w

certs: build ## make a CA and an operator certificate in .shoal/certs
	@test -f .shoal/certs/ca.pem || node dist/shoal.mjs certs init devcluster
	@node dist/shoal.mjs certs issue operator/admin && node dist/shoal.mjs certs list

e2e: build ## real processes, docker, skopeo and containerd: needs root and those tools
	@node --import tsx test/run.ts e2e

conformance: build ## the registry conformance suite against proxies and an agent (ARGS="--junit FILE", "--json", "--registry HOST:PORT")
	@node --import tsx test/conformance/main.ts $(ARGS)

interop: build ## every client of the field against a proxy and agents: needs root and those clients (ARGS=--write updates the README)
	@node --import tsx test/interop/main.ts $(ARGS)

sim: build ## simulate a few small clusters (ARGS="kraken --html sim.html" runs others)
	@node dist/shoal.mjs sim $(or $(ARGS),cluster two-blobs layer loss --hosts 100 --seed 1)

bench: build ## benchmark programs (see test/bench)
	@node --import tsx test/bench/run.ts $(ARGS)

bench-cluster: build ## real processes in network namespaces with limited links: needs root and iproute2
	@node --import tsx test/bench/cluster/main.ts $(ARGS)

clean: ## remove what was built (data of the dev cluster stays)
	rm -rf dist coverage node_modules/.cache
