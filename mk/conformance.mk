# conformance.mk: ONNX's own node tests, and real models, by the reference runs of engine/ops.
CONFORMANCE := $(BUILD)/tests/conformance $(BUILD)/tests/models
$(CONFORMANCE): $(BUILD)/tests/%: $(BUILD)/obj/tests/conformance/%.o $(call A,engine base)
	@mkdir -p $(@D)
	$(call link,$<,engine base)
tests-build: $(CONFORMANCE)
.PHONY: check-conformance
## check-conformance  ONNX's node tests (Debian: libonnx-testdata; those of pip's newest onnx), and the models in ../shared/data
check-conformance: $(CONFORMANCE) all $(BUILD)/venv-onnx/.done
	$(BUILD)/tests/conformance
	$(BUILD)/tests/models
	BUILD='$(BUILD)' $(BUILD)/venv-onnx/bin/python tests/conformance/newest.py
	BUILD='$(BUILD)' $(BUILD)/venv-onnx/bin/python tests/conformance/plans.py

# tritonclient, which other tests need, asks for a protobuf that the newest onnx does not take: it has an environment of
# its own.
$(BUILD)/venv-onnx/.done:
	python3 -m venv $(BUILD)/venv-onnx
	$(BUILD)/venv-onnx/bin/pip install -q --disable-pip-version-check onnx numpy
	touch $@
