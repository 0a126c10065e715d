# Everything this project can do. `make` alone lists it. All output goes to build/.
#
# A flavour is a way to compile: build/FLAVOUR/ mirrors the source tree.
#   opt    as a user would, optimised              demo, examples, server, bench
#   san    address and undefined-behaviour checks  test
#   plain  the same without the sanitizers         valgrind
#   cov    counts the executed lines and branches  coverage

CC       ?= cc
CXX      ?= g++
PREFIX   ?= /usr/local
JOBS     ?= $(shell nproc 2>/dev/null || echo 2)
LIBS     := -lwslay -lmbedcrypto -lpthread
TLS_LIBS := -lmbedtls -lmbedx509
LIBS_unit_secretbox := -lsodium # what a single program needs besides
LIBS_api_encrypted := -lsodium
LIBS_secretbox := -lsodium
LIBS_events := -lsodium
LIBS_handshake := -lmbedtls -lmbedx509 -lcmocka # tests/tls.h asserts with it
WARNINGS := -Wall -Wextra -pedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Werror
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

# Where Homebrew keeps the libraries: no compiler looks there by itself.
ifeq ($(shell uname -s),Darwin)
CPPFLAGS += $(patsubst %,-I%/include,$(shell brew --prefix) $(shell brew --prefix mbedtls@3))
LDFLAGS  += $(patsubst %,-L%/lib,$(shell brew --prefix) $(shell brew --prefix mbedtls@3))
endif
export CC CXX CPPFLAGS LDFLAGS JOBS

COMMON      := -I. -Itests -D_DEFAULT_SOURCE -MMD -MP $(WARNINGS)
FLAGS_opt   := -g -O2
FLAGS_san   := -g -O1 $(SANITIZE)
FLAGS_plain := -g -O1
FLAGS_cov   := -g -O0 --coverage '-DPUSHER_ASSERT(x)=((void)sizeof(!(x)))'
FLAVOURS    := opt san plain cov

CHECK := tests/check
DEPS  := $(CHECK)/deps.sh
# The work after deps is a make of its own, so that it can run in parallel (unless -j was given).
# It says one short line for each file; V=1 shows the commands.
SUB    = +@$(MAKE) $(if $(V),,-s) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS))
ifeq ($(MAKELEVEL),0)
.NOTPARALLEL:
endif
SAY    = @echo "  $(1) $@"

# ---- what there is to build ---------------------------------------------------------------------

# One program per file. Files of tests/server and tests/bench that have no main() help the others.
UNIT     := $(patsubst %.c,%,$(wildcard tests/unit/*.c))
API      := $(patsubst %.c,%,$(wildcard tests/api/*.c))
ANOMALY  := $(patsubst %.c,%,$(wildcard tests/anomaly/*.c))
SELFTEST := $(patsubst %.c,%,$(wildcard tests/server/selftest.c))
TESTS    := $(UNIT) $(API) $(ANOMALY) $(SELFTEST)
# These need speed and go without the sanitizers, under which others do the same less often.
FAST     := tests/anomaly/two_cuts tests/api/simulate_many
EXAMPLES := $(patsubst %.c,%,$(wildcard examples/*.c))
WITH_TLS := $(basename $(notdir $(shell grep -l '^.define PUSHER_TLS' examples/*.c)))
SERVER   := $(patsubst %.c,%,$(filter-out %/main.c %/selftest.c,$(wildcard tests/server/*.c)))
BENCH    := $(basename $(shell grep -l '^int main' tests/bench/*.c tests/bench/*.cc 2>/dev/null))
HELPERS  := $(filter-out $(BENCH),$(basename $(wildcard tests/bench/*.c tests/bench/*.cc)))
FUZZ     := $(patsubst tests/fuzz/%.c,%,$(shell grep -l LLVMFuzzerTestOneInput tests/fuzz/*.c 2>/dev/null))

# tests/unit/json is built as .../tests/unit_json, tests/server/selftest as .../tests/server_selftest
flat = $(subst /,_,$(patsubst tests/%,%,$(1)))
programs = $(addprefix build/$(if $(filter san,$(1)),,$(1)/)tests/,$(call flat,$(2)))
run_tests = $(call programs,san,$(filter-out $(FAST),$(TESTS))) $(call programs,opt,$(FAST))
run_slowly = $(call programs,$(1),$(UNIT) $(filter-out $(FAST),$(API)) $(2))
run_valgrind = $(call run_slowly,plain)
run_coverage = $(call run_slowly,cov,$(filter-out $(FAST),$(ANOMALY)))

# ---- commands -----------------------------------------------------------------------------------

.DEFAULT_GOAL := help
.PHONY: help deps demo test examples interop bench check valgrind fuzz coverage install clean
.PHONY: platforms mbedtls size
.PHONY: build-demo build-test build-valgrind build-coverage build-examples build-bench build-fuzz
.PHONY: build-interop
.SECONDARY:

help: ## list these commands
	@awk -F ': .*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install what demo and test need and this machine lacks
	@$(DEPS) demo test

demo: ## a client and a server on this machine; or HOST= PORT= KEY= CHANNEL=
	@$(DEPS) demo
	$(SUB) build-demo
ifneq ($(filter command,$(foreach v,HOST PORT KEY CHANNEL,$(origin $(v)))),)
	@build/examples/demo $(if $(HOST),--host $(HOST)) $(if $(PORT),--port $(PORT)) \
	    $(if $(KEY),--key $(KEY)) $(if $(CHANNEL),--channel $(CHANNEL))
else
	@build/examples/demo build/pusher-server
endif

test: ## all tests, under address and undefined-behaviour sanitizers
	@$(DEPS) demo test
	$(SUB) build-test
	@$(CHECK)/run_tests.sh build/log/test $(run_tests); \
	    status=$$?; $(CHECK)/secrets.sh build/log/test && exit $$status

examples: ## build everything in examples/ and the test server, into build/
	@$(DEPS) demo examples
	$(SUB) build-examples

interop: ## against a real server (soketi) and beside pusher-js; needs node and npm
	@$(DEPS) demo examples interop
	$(SUB) build-interop
	@tests/interop/run.sh

bench: ## measure; BENCH_QUICK=1 for a short run
	@$(DEPS) demo bench
	$(SUB) build-bench
	@$(CHECK)/run_bench.sh $(BENCH:tests/%=build/%)

check: ## compile matrix, walls, symbols, static analysis, valgrind
	@$(DEPS) demo test check
	@$(CHECK)/check.sh

valgrind: ## the unit and API tests under valgrind
	@$(DEPS) demo test check
	$(SUB) build-valgrind
	@SIMULATE_SEEDS=100 TEST_JOBS=$(JOBS) RUN_UNDER="valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=all \
	    --errors-for-leak-kinds=all" \
	    $(CHECK)/run_tests.sh build/log/valgrind $(run_valgrind)

mbedtls: ## the TLS tests with mbedTLS 3.6, in a Debian 13 of their own; needs root
	@$(CHECK)/mbedtls36.sh

fuzz: ## libFuzzer on tests/fuzz, FUZZ_SECONDS=60 for each target
	@$(DEPS) demo fuzz
	$(SUB) build-fuzz
	@$(CHECK)/run_fuzz.sh $(FUZZ)

coverage: ## lines and branches of pusher.h that the tests execute
	@$(DEPS) demo test coverage
	@find build/cov -name '*.gcda' -delete 2>/dev/null || true
	$(SUB) build-coverage
	@$(CHECK)/run_tests.sh build/log/coverage $(run_coverage); \
	    status=$$?; $(CHECK)/coverage.sh && exit $$status

platforms: ## the tests on other processors, big-endian ones too, and on a bare Cortex-M3
	@$(DEPS) demo
	@tests/platforms/run.sh $(PLATFORMS)

size: ## code and RAM on a Cortex-M4, for each room of pusher.h
	@$(DEPS) demo size
	@tests/platforms/size.sh

install: ## copy pusher.h to PREFIX/include (default /usr/local; DESTDIR is respected)
	@install -d "$(DESTDIR)$(PREFIX)/include"
	install -m 644 pusher.h "$(DESTDIR)$(PREFIX)/include/pusher.h"

clean: ## remove build/
	rm -rf build

# ---- how it is built ----------------------------------------------------------------------------

build-demo: build/pusher-server build/examples/demo
build-examples: build/pusher-server $(addprefix build/,$(EXAMPLES))
build-interop: build/pusher-server build/interop-drive build/examples/listen
build-test: $(run_tests)
build-valgrind: $(run_valgrind)
build-coverage: $(run_coverage)
build-bench: $(BENCH:tests/%=build/%)
build-fuzz: $(addprefix build/fuzz/,$(FUZZ))

build/pusher-server: build/opt/tests/server/main.o build/opt/libtest.a
	$(call SAY,link)
	$(CC) $(LDFLAGS) $^ $(LIBS) -o $@

build/interop-drive: build/san/tests/interop/drive.o build/san/libtest.a
	$(call SAY,link)
	$(CC) $(LDFLAGS) $(FLAGS_san) $^ $(LIBS) -o $@

# An example is one file and needs nothing but pusher.h: it carries the implementation itself.
build/examples/%: build/opt/examples/%.o
	@mkdir -p $(@D)
	$(call SAY,link)
	$(CC) $(LDFLAGS) $^ $(if $(filter $*,$(WITH_TLS)),$(TLS_LIBS)) $(LIBS) -o $@

build/bench/%: build/opt/tests/bench/%.o $(patsubst %,build/opt/%.o,$(HELPERS)) build/opt/libtest.a
	@mkdir -p $(@D)
	$(call SAY,link)
	$(CXX) $(LDFLAGS) $^ $(LIBS) $(LIBS_$(@F)) -o $@

build/fuzz/%: tests/fuzz/%.c
	@mkdir -p $(@D)
	$(call SAY,clang)
	clang $(CPPFLAGS) $(COMMON) -std=c99 -g -O1 -fsanitize=fuzzer,address,undefined \
	    -fno-sanitize-recover=all $(LDFLAGS) $< $(LIBS) -o $@

# $(call flavour,NAME): objects, the library with which tests are linked, and the test programs.
# A test that holds the implementation itself takes nothing out of the library: it is an archive.
define flavour
build/$(1)/%.o: %.c Makefile
	@mkdir -p $$(@D)
	$$(call SAY,cc)
	$$(CC) $$(CPPFLAGS) -std=c99 $$(COMMON) $$(FLAGS_$(1)) $$(CFLAGS) -c $$< -o $$@

build/$(1)/%.o: %.cc Makefile
	@mkdir -p $$(@D)
	$$(call SAY,c++)
	$$(CXX) $$(CPPFLAGS) -std=c++17 $$(COMMON) $$(FLAGS_$(1)) $$(CXXFLAGS) -c $$< -o $$@

build/$(1)/pusher.o: pusher.h Makefile
	@mkdir -p $$(@D)
	$$(call SAY,cc)
	$$(CC) $$(CPPFLAGS) -std=c99 $$(COMMON) $$(FLAGS_$(1)) $$(CFLAGS) -DPUSHER_IMPLEMENTATION \
	    -DPUSHER_SOCKETS -x c -c $$< -o $$@

build/$(1)/libtest.a: build/$(1)/pusher.o $(patsubst %,build/$(1)/%.o,$(SERVER))
	@rm -f $$@
	ar rcs $$@ $$^

$(foreach t,$(TESTS),$(eval $(call programs,$(1),$(t)): build/$(1)/$(t).o))
$(call programs,$(1),$(TESTS)): build/$(1)/libtest.a
	@mkdir -p $$(@D)
	$$(call SAY,link)
	$$(CC) $$(LDFLAGS) $$(FLAGS_$(1)) $$(filter %.o,$$^) $$(filter %.a,$$^) -lcmocka \
	    $$(if $$(findstring tls,$$(@F)),$$(TLS_LIBS)) $$(LIBS) $$(LIBS_$$(@F)) -o $$@
endef
$(foreach f,$(FLAVOURS),$(eval $(call flavour,$(f))))

-include $(shell find build -path build/platforms -prune -o -name '*.d' -type f -print 2>/dev/null)
