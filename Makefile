# Two commands do all: `make demo` makes a picture from a prompt through nginx, `make test` passes the tests.
# Everything runs on Debian 13, entered by config/box where this machine is something else.

BOX    = config/box
BUILD  = build
PORT   = 8188
PROMPT = a pine forest at sunset with the sun on the right
JOBS   = $(shell nproc)

.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\#.*/\1/p' Makefile)

all: ## build everything
	@$(BOX) -g build config/build $(BUILD)

demo: ## one picture from a prompt through nginx and our engine
	@$(BOX) -g build sh -c 'config/build $(BUILD) && exec config/demo "$$1"' demo "$(PROMPT)"

test: ## every test that a clone can run alone
	@$(BOX) -g build,test,lua,clients,gimp sh -c 'config/build $(BUILD) && exec tests/run $(BUILD)'

serve: ## engine and nginx in the foreground: make serve PORT=8188 [MODEL=path] [CONF=dir]
	@MODEL="$(MODEL)" CONF="$(CONF)" $(BOX) -g build sh -c 'config/build $(BUILD) && exec config/serve $(PORT)'

bench: ## figures, each beside a peer of the same run, and a page of them: PAGE=build/bench.md
	@$(BOX) -g build,bench,lua,train,gimp sh -c 'config/build $(BUILD) && exec tests/bench/run $(BUILD) $(PAGE)'

bench-full: ## the full-size model with random weights (10 GB in /var/tmp, minutes): SIZE=512|1024|both KIND=fast|float32|both
	@$(BOX) -g build sh -c 'config/build $(BUILD) && ninja -C $(BUILD) tests/bench/full && unset OPENBLAS_CORETYPE && exec $(BUILD)/tests/bench/full $(or $(SIZE),both) $(or $(KIND),fast)'

test-gimp-next: ## the GIMP plug-in as it is built here, in the next GIMP (3.2 of Debian forky, in a root of its own)
	@$(BOX) -g build,gimp config/build $(BUILD)
	@SUITE=forky $(BOX) -g build,gimp tests/hosts/gimp/all $(BUILD)

asan: ## unit, parity and host tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(BOX) -g build,test,lua,gimp sh -c 'config/build build-asan -Db_sanitize=address,undefined -Db_lundef=false && exec tests/run build-asan'

test-nginx-next: ## the tests of the module and the daemon on the next nginx (1.30 of Debian forky, in a root of its own)
	@SUITE=forky $(BOX) -g build,test,bench sh -c 'nginx -v && config/build build-forky -Dlua=disabled -Dgimp=disabled && \
	  exec tests/run build-forky --suite hosts --suite daemon'

NGINX_TESTS = access attacks cache configuration nodes openai operations processes reload requests stream tasks websocket
nginx-valgrind: ## the tests of the module with nginx under valgrind (half an hour)
	@$(BOX) -g build,test,lua sh -c 'config/build $(BUILD) && export TEST_SLOWNESS=10 && \
	  export NGINX_WRAP="valgrind -q --vgdb=no --trace-children=yes --leak-check=full --errors-for-leak-kinds=definite \
	  --show-leak-kinds=definite --suppressions=$$PWD/tests/hosts/nginx/valgrind.supp --log-file={dir}/valgrind.%p" && \
	  exec tests/run $(BUILD) --timeout-multiplier 10 $(NGINX_TESTS:%="nginx %")'

lua-valgrind: ## the specs of the Lua module on Lua 5.1 under valgrind
	@$(BOX) -g build,test,lua sh -c 'config/build $(BUILD) && SOURCE_ROOT=$$PWD BUILD_ROOT=$$PWD/$(BUILD) \
	  WRAP="valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite \
	  --suppressions=$$PWD/tests/hosts/lua/valgrind.supp" tests/hosts/lua/run 5.1'

tsan: ## tests of threads under ThreadSanitizer
	@$(BOX) -g build,test sh -c 'config/build build-tsan -Db_sanitize=thread -Db_lundef=false -Dgimp=disabled && exec tests/run build-tsan --suite threads'

vulkan: ## parity of products made through Vulkan, on this machine's GPU or a driver in software
	@$(BOX) -g build,test,vulkan sh -c 'config/build $(BUILD) && exec tests/run $(BUILD) --suite device'

SECONDS = 60
fuzz: ## every fuzzer for SECONDS=60 seconds
	@$(BOX) -g build,fuzz sh -c 'CC=clang config/build build-fuzz -Dfuzz=true -Dnginx=false -Dlua=disabled -Dgimp=disabled -Db_lundef=false && exec tests/fuzz/run build-fuzz $(SECONDS)'

KILLS = 100
CRASH = 3600
crash: all ## tasks while processes are killed KILLS=100 times or for CRASH=3600 seconds: with SQLite, and with Valkey on two nodes
	@$(BOX) -g build,test sh -c 'export BUILD_ROOT=$$PWD/$(BUILD); python3 tests/daemon/crash.py --kills $(KILLS) --seconds $(CRASH) && \
	  exec python3 tests/daemon/crash.py --kills $(KILLS) --seconds $(CRASH) --valkey --network --workers 2,1'

TORTURE = 600
torture: all ## every call to the system fails in turn, and whole daemons are failed by it, for TORTURE=600 seconds
	@$(BOX) -g build,test sh -c 'SOURCE_ROOT=$$PWD BUILD_ROOT=$$PWD/$(BUILD) exec tests/torture/run $(TORTURE)'

SOAK = 7200
REPORT = tests
soak: all ## mixed load for SOAK=7200 seconds: memory, descriptors and latency must stay flat; writes tests/soak.md
	@$(BOX) -g build,test,lua sh -c 'SOURCE_ROOT=$$PWD BUILD_ROOT=$$PWD/$(BUILD) exec python3 -u tests/soak/soak.py --seconds $(SOAK) --report $(REPORT)'

coverage: ## which lines of common/ the tests reach, in per cent and by file
	@$(BOX) -g build,test,lua,coverage sh -c 'config/build build-coverage -Db_coverage=true -Dgimp=disabled && exec tests/coverage build-coverage'

nightly: ## all of the above in under 80 minutes; writes tests/nightly.md (NIGHTLY_SCALE=0.1: a short trial)
	@tests/nightly/run

train-demo: ## trains the model that ships, from nothing (hours; says how many)
	@$(BOX) -g train config/demo-model/train.sh $(FOLDER)

install: all ## install below DESTDIR
	@$(BOX) -g build env DESTDIR="$(abspath $(DESTDIR))" meson install -C $(BUILD)

deb: ## Debian packages, in build/deb
	@$(BOX) -g build,lua,deb config/deb

packages: deb ## those installed, used and purged in a fresh Debian 13 root
	@tests/packages/run

gimp-archive: ## the GIMP plug-in as an archive for a user's plug-ins folder
	@$(BOX) -g build,gimp sh -c 'config/build $(BUILD) && exec config/gimp-archive $(BUILD) reverie-gimp.tar.xz'

test-gimp-archive: gimp-archive ## that archive, used by a new user in a fresh Debian root that has only GIMP
	@tests/packages/archive reverie-gimp.tar.xz

clean: ## remove what was built (the box stays)
	rm -rf build build-asan build-tsan build-fuzz build-forky build-valgrind .demo

docs: ## the generated pages anew: parameters, schedulers, services, types of the Lua module
	@$(BOX) -g build,lua sh -c 'config/build $(BUILD) && exec config/docs $(BUILD)'

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile | expand -t 16
