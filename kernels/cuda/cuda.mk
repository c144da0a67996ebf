# The CUDA module, in a library of its own: make CUDA=auto|0|1|PATH
#   auto  built where nvcc is found (on the PATH or in /usr/local/cuda); the default
#   0     not built
#   1     built, or an error where nvcc is not found
#   PATH  built by the toolkit that is installed there
# make CUDA_ARCHS="90" builds for some architectures only. Code for 8.0 also runs on 8.6 and 8.9, and the PTX
# of the last one on all later ones.
CUDA ?= auto
CUDA_ARCHS ?= 75 80 90 100

ifneq ($(filter auto 1,$(CUDA)),)
NVCC := $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
else ifneq ($(CUDA),0)
NVCC := $(wildcard $(CUDA)/bin/nvcc)
endif
ifneq ($(filter-out auto 0,$(CUDA)),)
ifeq ($(NVCC),)
$(error nvcc was not found: CUDA=$(CUDA). Give the toolkit's folder, as in make CUDA=/usr/local/cuda, or CUDA=0 to build without)
endif
endif

ifneq ($(NVCC),)
CUDA_MODULE := moe_ml_cuda.so
CUDA_SOURCES := $(wildcard kernels/cuda/*.cu)
CUDA_OBJS := $(patsubst kernels/cuda/%.cu,build/cuda/%.o,$(CUDA_SOURCES))
CUDA_HEADERS := kernels/cuda/cuda.cuh $(patsubst %,kernels/%.h,device ops tape params job random status)
empty :=
comma := ,
CUDA_CODE := $(foreach arch,$(CUDA_ARCHS),-gencode=arch=compute_$(arch)$(comma)code=sm_$(arch)) \
	-gencode=arch=compute_$(lastword $(CUDA_ARCHS))$(comma)code=compute_$(lastword $(CUDA_ARCHS))
CUDA_HOST_FLAGS := -fPIC,-fvisibility=hidden,-fno-exceptions,-Wall,-Wextra,-Werror
CUDA_HOST_FLAGS := $(CUDA_HOST_FLAGS),-Wno-unused-parameter,-Wno-sign-compare,-Wno-missing-field-initializers
CUDA_FLAGS := -std=c++17 -O3 -I. -Xptxas -v -Werror all-warnings --threads 2 -Xcompiler $(CUDA_HOST_FLAGS)

# What ptxas says of registers and spills stands beside each object.
build/cuda/%.o: kernels/cuda/%.cu $(CUDA_HEADERS) kernels/cuda/cuda.mk
	@mkdir -p $(@D)
	@echo nvcc $<
	@$(NVCC) $(CUDA_FLAGS) $(CUDA_CODE) -c $< -o $@ 2>$(@:.o=.log) || { cat $(@:.o=.log); rm -f $@; exit 1; }

# The library of the toolkit is found by its soname: by the loader's usual means, or where the toolkit was.
$(CUDA_MODULE): $(CUDA_OBJS)
	@cat $(CUDA_OBJS:.o=.log) >build/cuda/ptxas.log
	@test/cuda/spills build/cuda/ptxas.log
	$(NVCC) -shared -cudart static -Xlinker --exclude-libs=ALL -Xlinker -rpath=$(abspath $(dir $(NVCC))../lib64) \
		$(CUDA_OBJS) -lcublas -o $@
endif
