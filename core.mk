# core.mk: how the numeric core (kernels, embed, gnn) is compiled, for every build of it.
#
# The files of the CPU backend are compiled once for every machine and once more for each set of instructions that
# some machines have (name.avx2.o beside name.o); kernels/cpu/dispatch.c chooses between them at run time. Code that
# runs before that choice must not be among them.
#
# Makefile includes this for the lists, the flags and the rules of the sets. The tests and the benchmarks run it:
#   make -f core.mk OUT=build/bench [FLAGS='-O3'] [SETS=]      makes build/bench/core.a

CORE_SOURCES := $(wildcard kernels/*.c kernels/cpu/*.c embed/*.c gnn/*.c)
CPU_SOURCES := $(filter-out kernels/cpu/dispatch.c kernels/cpu/reference%, $(wildcard kernels/cpu/*.c))
CORE_HEADERS := $(wildcard kernels/*.h kernels/cpu/*.h embed/*.h gnn/*.h)

# Results must not depend on the compiler's licence to reassociate; errno of mathematics is of no use to anyone.
CORE_FLAGS := -O3 -fno-math-errno
SET_FLAGS_avx2 := -mavx2 -mfma -mbmi2
SET_FLAGS_avx512 := $(SET_FLAGS_avx2) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512
ifneq ($(filter x86_64-% amd64-%, $(shell $(CC) -dumpmachine)),)
SETS := avx2 avx512
endif

# OUT/ goes before the objects' names.
IN_OUT := $(if $(OUT),$(OUT)/)
SET_OBJECTS := $(foreach set,$(SETS),$(patsubst %.c,$(IN_OUT)%.$(set).o,$(CPU_SOURCES)))
CORE_OBJECTS := $(patsubst %.c,$(IN_OUT)%.o,$(CORE_SOURCES)) $(SET_OBJECTS)

ifdef OUT
FLAGS ?= -O3
CORE_FLAGS += -std=gnu11 -I. -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers $(FLAGS)
compile = @mkdir -p $(@D) && $(CC) $(CORE_FLAGS) $(1) -MMD -MP -c $< -o $@
rename_archive = mv -f $@.new $@

# An archive, so that a program is linked with what it uses alone.
$(OUT)/core.a: $(CORE_OBJECTS)
	@rm -f $@.new && $(AR) rcs $@.new $^ && $(rename_archive)

$(OUT)/%.o: %.c
	$(call compile)

-include $(CORE_OBJECTS:.o=.d)
else
compile = $(CC) $(CFLAGS) $(CPPFLAGS) $(1) -c $< -o $@
endif

define set_rules
$(IN_OUT)%.$(1).o: %.c
	$$(call compile,-DMOE_CPU_SET=$(1) $(SET_FLAGS_$(1)))
endef
$(foreach set,$(SETS),$(eval $(call set_rules,$(set))))
