# flags.mk: compilers, warnings, sanitizers, libraries.
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' '$(1)' '$(2)';)

CSTD := -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64
WARN := -Wall -Wextra -Werror -Wvla -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings \
        -Wno-unused-parameter
OPT  ?= -O2 -g
CODE := -fPIC -fvisibility=hidden -fno-strict-aliasing -ffp-contract=off -fno-math-errno -fno-trapping-math \
        -ffunction-sections -fdata-sections -pthread -fno-common
HARD := -D_FORTIFY_SOURCE=2 -fstack-protector-strong
ifneq ($(SAN),)
HARD := -fsanitize=$(SAN) -fno-omit-frame-pointer $(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=all) \
        $(if $(findstring address,$(SAN)),-fsanitize=undefined -fno-sanitize-recover=all)
OPT  := -O1 -g
endif
GEN  := $(BUILD)/gen
INC  := -I. -Ibase/include -Iengine/include -I$(GEN)
CFLAGS_ALL = $(CSTD) $(WARN) $(OPT) $(CODE) $(HARD) $(INC) -DWN_VERSION='"$(VERSION)"' $(CFLAGS)
LDFLAGS_ALL = $(HARD) -pthread -Wl,--gc-sections -Wl,-z,relro,-z,now $(LDFLAGS)

pkg-cflags = $(shell pkg-config --cflags $(1) 2>/dev/null)
pkg-libs   = $(shell pkg-config --libs $(1) 2>/dev/null)

# One ISA per file: the last word of a kernel file's name decides its flags. Those of other architectures are left out.
ARCH := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
ISAS_x86_64  := avx2 avx2vnni avx512vnni
ISAS_aarch64 := neon neoni8mm
FOREIGN_ISAS := $(filter-out $(ISAS_$(ARCH)),$(ISAS_x86_64) $(ISAS_aarch64))
ISA_neon       := -march=armv8.2-a+dotprod
ISA_neoni8mm   := -march=armv8.2-a+dotprod+i8mm
comma := ,
# Intel's CPUs of the Skylake family, Cascade Lake among them, do not keep decoded what holds a jump over the end of 32 bytes
# (erratum SKX102 and its kin): padding before such jumps gives kernels 1 to 2 %.
JUMPS := $(if $(findstring clang,$(CC)),,-Wa$(comma))-mbranches-within-32B-boundaries
ISA_avx2       := -mavx2 -mfma -mf16c
ISA_avx2vnni   := -mavx2 -mfma -mf16c -mavxvnni
ISA_avx512vnni := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mprefer-vector-width=512 \
                  $(JUMPS)

# What instrumenting intrinsics costs: q8_gemm/avx512vnni.c takes gcc six times as long under ASan + UBSan as without,
# half of that for UBSan. So AVX-512 kernels go without UBSan, and in a fuzz build, whose targets are parsers, no file of an
# instruction set is instrumented (nor every loop unrolled, which clang would warn of). Scalar and AVX2 kernels are checked
# in full under SAN=address.
SAN_avx512vnni := $(if $(findstring address,$(SAN)),-fno-sanitize=undefined)
ifneq ($(findstring fuzzer,$(CFLAGS)),)
SAN_avx2       := -fno-sanitize=all -Wno-pass-failed
SAN_avx2vnni   := $(SAN_avx2)
SAN_avx512vnni := $(SAN_avx2)
endif
