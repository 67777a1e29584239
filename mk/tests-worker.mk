# tests-worker.mk: a maker of small models, for the tests that train one.
$(BUILD)/tests/make_cnn: $(call obj,tests/daemon/make_cnn.c) $(call A,engine base)
	@mkdir -p $(@D)
	$(call link,$<,engine base)
tests-build: $(BUILD)/tests/make_cnn
