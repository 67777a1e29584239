# conformance.mk: ONNX's own node tests against the reference runs of engine/ops.
$(BUILD)/tests/conformance: $(call obj,tests/conformance/conformance.c) $(call A,engine base)
	@mkdir -p $(@D)
	$(call link,$(call obj,tests/conformance/conformance.c),engine base)
tests-build: $(BUILD)/tests/conformance
.PHONY: check-conformance
## check-conformance  ONNX's node tests (Debian: libonnx-testdata) for every operator of the table
check-conformance: $(BUILD)/tests/conformance
	$(BUILD)/tests/conformance
