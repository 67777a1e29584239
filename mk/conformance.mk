# conformance.mk: ONNX's own node tests, and real models, by the reference runs of engine/ops.
CONFORMANCE := $(BUILD)/tests/conformance $(BUILD)/tests/models
$(CONFORMANCE): $(BUILD)/tests/%: $(BUILD)/obj/tests/conformance/%.o $(call A,engine base)
	@mkdir -p $(@D)
	$(call link,$<,engine base)
tests-build: $(CONFORMANCE)
.PHONY: check-conformance
## check-conformance  ONNX's node tests (Debian: libonnx-testdata), and the models in ../shared/data
check-conformance: $(CONFORMANCE)
	$(BUILD)/tests/conformance
	$(BUILD)/tests/models
