# fuzz.mk: what `make fuzz` runs (test/fuzz/run): build/fuzz/parameters, and build/fuzz/moe_ml.so for the backend.
#
# clang compiles all that reads hostile bytes, with coverage and sanitizers. The dense kernels read none; they are made
# of gcc's vectors, so gcc compiles them, as core.mk says. The address sanitizer is not for the backend: the server's
# memory is palloc's, which it cannot see into, and preloaded it breaks a lock of glibc's translations, on which the
# server's main() then waits for ever. A server with assertions watches its own memory (test/cassert).

OUT := build/fuzz/kernels
FLAGS := -O2 -g -fPIC
all:
include core.mk

FUZZ := build/fuzz
FUZZ_CC := clang
PG_CONFIG ?= pg_config
UNDEFINED := -fsanitize=undefined,float-cast-overflow -fno-sanitize-recover=all
FUZZ_FLAGS := -std=gnu11 -O1 -g -fPIC -I. -fno-math-errno -fno-omit-frame-pointer -fsanitize=fuzzer-no-link $(UNDEFINED)
SERVER_FLAGS := -I$(shell $(PG_CONFIG) --includedir-server) -D_GNU_SOURCE -fwrapv -Wno-ignored-attributes

KERNELS := $(patsubst %.c,$(OUT)/%.o,$(wildcard kernels/cpu/*.c)) $(SET_OBJECTS)
CORE := $(filter-out kernels/cpu/%,$(CORE_SOURCES))
ALONE := $(patsubst %.c,$(FUZZ)/alone/%.o,test/fuzz/parameters.c $(CORE))
BACKEND := $(patsubst %.c,$(FUZZ)/backend/%.o,$(CORE) $(sort $(wildcard extension/*.c) extension/statement_gram.c) \
	$(patsubst %,test/fuzz/%.c,backend statement model))
runtime = $(shell $(FUZZ_CC) -print-file-name=libclang_rt.$(1)-x86_64.a)

all: $(FUZZ)/parameters $(FUZZ)/moe_ml.so

$(FUZZ)/parameters: $(ALONE) $(KERNELS)
	$(FUZZ_CC) -fsanitize=fuzzer,address $(UNDEFINED) $^ -lm -lpthread -ldl -o $@

$(FUZZ)/moe_ml.so: $(BACKEND) $(KERNELS)
	$(FUZZ_CC) -shared $^ $(call runtime,fuzzer_no_main) $(call runtime,ubsan_standalone) \
		-lstdc++ -lm -lpthread -ldl -o $@

$(ALONE): FUZZ_FLAGS += -fsanitize=address
$(BACKEND): FUZZ_FLAGS += $(SERVER_FLAGS)
$(BACKEND): extension/statement_gram.c

define compile_for_fuzzing
@mkdir -p $(@D)
$(FUZZ_CC) $(FUZZ_FLAGS) -MMD -MP -c $< -o $@
endef
$(FUZZ)/alone/%.o: %.c
	$(compile_for_fuzzing)
$(FUZZ)/backend/%.o: %.c
	$(compile_for_fuzzing)

-include $(ALONE:.o=.d) $(BACKEND:.o=.d)
