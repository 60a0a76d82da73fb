# resilience/Makefile
#
#   make && make install      build and install for the PostgreSQL of PG_CONFIG
#   make check                all tests, on servers of their own (SUITES="unit tap")
#   make installcheck         regress, isolation and TAP tests against a running
#                             server with shared_preload_libraries = 'resilience'
#   make unit                 the unit tests of src/core alone
#   make demo, make bench     see README.md
#   make hardening            the campaigns of docs/hardening.md: a night
#   make deb-check            build the Debian packages in a copy, and try them
#   make format               pgindent; format-check tells, changes nothing
#
# WERROR=1 makes warnings errors, as CI does.

PG_CONFIG ?= pg_config
export PG_CONFIG

EXTENSION = resilience
MODULE_big = resilience
DATA = $(wildcard sql/resilience--*.sql)
OBJS = $(patsubst %.c,%.o,$(wildcard src/*.c src/*/*.c))
PGFILEDESC = "resilience - bulkheads, load shedding, circuit breakers, retries"

PG_CPPFLAGS = -I$(srcdir)/src -I$(libpq_srcdir)
SHLIB_LINK_INTERNAL = $(libpq)
# Three kinds of code that PostgreSQL itself is full of and -Wextra dislikes,
# and -Wclobbered, which misjudges PG_TRY.
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers $(call cc-option,-Wno-clobbered) \
	$(if $(filter 1 yes,$(WERROR)),-Werror)

# The health endpoint's HTTP server: compiled in when libmicrohttpd's header is
# there (MICROHTTPD=no leaves it out).  The library itself is loaded by the one
# process that needs it.
ifndef MICROHTTPD
MICROHTTPD := $(shell printf '\043include <microhttpd.h>\n\043if MHD_VERSION < 0x00097100\n\043error\n\043endif\n' | \
	$(CC) -E -x c - >/dev/null 2>&1 && echo yes || echo no)
endif
ifeq ($(MICROHTTPD),yes)
PG_CPPFLAGS += -DRSL_HAVE_MICROHTTPD
else ifneq ($(filter-out unit demo bench hardening deb-check check clean format format-check,$(or $(MAKECMDGOALS),all)),)
$(info without the health endpoint: it needs libmicrohttpd-dev 0.9.71 or newer)
endif

# clang calls an unknown -Wno-* an unknown warning option: ask before.
cc-option = $(shell $(CC) -Werror $(1) -E -x c /dev/null >/dev/null 2>&1 && echo $(1))

# Bitcode is for inlining SQL functions in JIT code: nothing here gains from
# it, and clang would be needed.
override with_llvm := no

# The extension is created by pg_regress, so that each test can run alone.
REGRESS = $(filter-out resilience--%,$(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql))))
REGRESS_OPTS = --load-extension=resilience
ISOLATION = $(sort $(patsubst test/isolation/specs/%.spec,%,$(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --load-extension=resilience \
	--inputdir=$(srcdir)/test/isolation --outputdir=test/isolation/output
PROVE_TESTS ?= $(wildcard test/t/*.pl)
TAP_TESTS = $(if $(strip $(PROVE_TESTS)),1)

EXTRA_CLEAN = $(wildcard src/*.o src/*/*.o) .build-id build test/isolation/output

# PGXS has a target "check" that only says it is not supported.  A second
# recipe for it draws a warning, so PGXS is left out when check is wanted, and
# other goals beside it (make clean check) are made by a make of their own.
ifneq ($(filter check,$(MAKECMDGOALS)),)

.NOTPARALLEL:
.PHONY: $(MAKECMDGOALS)

check:
	@test/setup.sh check
	@WERROR='$(WERROR)' test/check.sh $(SUITES)

$(filter-out check,$(MAKECMDGOALS)):
	+$(MAKE) $@

else

PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))
ifeq ($(PGXS),)
# A bare machine: demo and check install what is missing.
all install installcheck clean:
	@echo "no PostgreSQL with headers here: run test/setup.sh, or set PG_CONFIG" >&2; exit 1
else
include $(PGXS)

# An edited header rebuilds everything (a second or two), and so does another
# PostgreSQL.
BUILD_ID := $(shell $(PG_CONFIG) --version) $(MICROHTTPD)
ifneq ($(BUILD_ID),$(file <.build-id))
.PHONY: .build-id
endif
.build-id:
	@echo "$(BUILD_ID)" >$@
$(OBJS): $(wildcard src/*.h src/*/*.h) Makefile .build-id
endif

.PHONY: unit demo bench hardening deb-check format format-check

unit:
	@test/unit.sh

# By sub-shells: the packages may bring pg_config itself.
demo:
	@test/setup.sh demo
	@bash test/demo/demo.sh

bench:
	@test/setup.sh bench
	@bash test/bench/bench.sh

hardening:
	@test/setup.sh check
	@test/hardening/run.sh $(CAMPAIGNS)

deb-check:
	@test/setup.sh packaging
	@test/packaging.sh

# Exit status 77: no pgindent to be had here.
format:
	@test/indent.sh

format-check:
	@test/indent.sh --check || test $$? -eq 77

endif
