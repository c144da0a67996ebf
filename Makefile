# moe_ml: `make help` lists the targets.

PG_CONFIG ?= pg_config

# Targets of our own are run by scripts and need no PostgreSQL to start with;
# every other target is PGXS's (all, install, uninstall, clean, ...).
OWN_GOALS := help demo check check-gpu cuda cuda-report unit regress server-tests lint dependencies asan tsan valgrind fuzz \
	sqlsmith check-pg17

ifneq ($(filter $(OWN_GOALS),$(MAKECMDGOALS)),)

.PHONY: $(OWN_GOALS)

help:
	@echo 'make                 build against the PostgreSQL of PG_CONFIG'
	@echo 'make install         install into that PostgreSQL (as root)'
	@echo 'make demo            install what is missing, then show the whole path on a private server'
	@echo 'make check           install what is missing, then run every test'
	@echo ''
	@echo 'make dependencies    install the Debian packages needed to build and test'
	@echo 'make unit            tests of the numeric core, without a server'
	@echo 'make regress         pg_regress on a private server; make regress TESTS="graph statement" for some'
	@echo 'make server-tests    tests of whole servers (test/t)'
	@echo 'make lint            formatting, layering, exported symbols'
	@echo 'make asan, make tsan the numeric core under the address or the thread sanitizer'
	@echo 'make valgrind        the same under valgrind'
	@echo 'make fuzz            stored models and the language, with libFuzzer; FUZZ_SECONDS=600 for longer'
	@echo 'make sqlsmith        random queries of SQLsmith over models, on a server with assertions'
	@echo 'make check-pg17      build against PostgreSQL 17 and test there, in a Debian 13 of its own (as root)'
	@echo 'make cuda            the CUDA module alone; make CUDA=0 or CUDA=/path to build without it or by a certain toolkit'
	@echo 'make cuda-report     registers and shared memory of every kernel'
	@echo 'make check-gpu       the tests of the operations on a GPU, and a model trained on it'
	@echo 'make clean           remove what was built'

dependencies:
	@.ci/dependencies

demo: dependencies
	@docs/demo/run

check: dependencies
	@$(MAKE) --no-print-directory -s all
	@$(MAKE) --no-print-directory lint unit regress server-tests

unit asan tsan valgrind:
	@test/unit/run $@

regress:
	@test/regress $(TESTS)

server-tests:
	@test/server-tests $(TESTS)

lint:
	@.ci/lint

check-gpu:
	@test/check-gpu

fuzz:
	@test/fuzz/run $(TESTS)

sqlsmith:
	@test/sqlsmith

check-pg17:
	@test/pg17 $(TESTS)

ifneq ($(filter cuda cuda-report,$(MAKECMDGOALS)),)
include kernels/cuda/cuda.mk
cuda: $(CUDA_MODULE)
	@$(if $(CUDA_MODULE),:,echo 'nvcc was not found: the CUDA module is not built')
cuda-report: cuda
	@test/cuda/spills --all build/cuda/ptxas.log
endif

else

# The first target is make's default; PGXS says what it is.
all:

# core.mk asks the compiler for its machine before PGXS says which compiler.
ifeq ($(origin CC),default)
CC := $(shell $(PG_CONFIG) --cc)
endif
include core.mk

MODULE_big = moe_ml
EXTENSION = moe_ml
EXTENSION_VERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" moe_ml.control)
DATA_built = sql/moe_ml--$(EXTENSION_VERSION).sql
DATA = $(filter-out $(DATA_built), $(wildcard sql/moe_ml--*.sql))

GENERATED = extension/statement_gram.c extension/statement_gram.h
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard extension/*.c) extension/statement_gram.c)) $(CORE_OBJECTS)

WARNINGS = -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
# Before 16 the server's headers leave PGDLLEXPORT empty, and hidden visibility would hide the entry points.
PG_CPPFLAGS = -I$(CURDIR) '-DPGDLLEXPORT=__attribute__((visibility("default")))'
PG_CFLAGS = -std=gnu11 -fvisibility=hidden $(WARNINGS)
SHLIB_LINK = -lm -lpthread -ldl
EXTRA_CLEAN = $(DATA_built) $(GENERATED) build

# The module that drives CUDA devices, where there is a toolkit to build it.
include kernels/cuda/cuda.mk

# No bitcode: it is for inlining SQL functions, which these are not, and clang lacks what the kernels use of gcc.
override with_llvm := no

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

all: $(CUDA_MODULE)
install: install-cuda
uninstall: uninstall-cuda
clean: clean-cuda
.PHONY: install-cuda uninstall-cuda clean-cuda
install-cuda: $(CUDA_MODULE)
	$(if $(CUDA_MODULE),$(MKDIR_P) '$(DESTDIR)$(pkglibdir)')
	$(if $(CUDA_MODULE),$(INSTALL_SHLIB) $(CUDA_MODULE) '$(DESTDIR)$(pkglibdir)/')
uninstall-cuda:
	rm -f '$(DESTDIR)$(pkglibdir)/moe_ml_cuda.so'
clean-cuda:
	rm -f moe_ml_cuda.so

$(CORE_OBJECTS): CFLAGS += $(CORE_FLAGS) -Wno-declaration-after-statement -Wno-vla
# Generated code declares after statements and has switch fall-through of its own.
extension/statement_gram.o: CFLAGS += -Wno-declaration-after-statement

extension/statement_gram.c: extension/statement_gram.y
	$(BISON) -Wno-deprecated -Werror=conflicts-sr -Werror=conflicts-rr --header=extension/statement_gram.h -o $@ $<
extension/statement_gram.h: extension/statement_gram.c
	@touch $@
$(patsubst %.c,%.o,$(wildcard extension/statement*.c)): extension/statement_gram.h
$(OBJS): $(wildcard extension/*.h) $(CORE_HEADERS)

# The install script is the parts of sql/, in order.
$(DATA_built): $(sort $(wildcard sql/[0-9]*.sql))
	cat $^ > $@

endif
