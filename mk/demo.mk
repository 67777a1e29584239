# demo.mk: the tools of the demo, and how its base model is made.
DEMO_TOOLS := $(addprefix $(BUILD)/demo/,maker load net)
EXTRA_demo := $(call pkg-cflags,freetype2)
$(BUILD)/demo/maker: $(call obj,demo/maker.c) $(call A,pipeline base)
	@mkdir -p $(@D)
	$(call link,$<,pipeline base,$(call pkg-libs,freetype2))
$(BUILD)/demo/load: $(call obj,$(wildcard demo/load*.c) cli/local.c) $(call A,pipeline engine base)
	@mkdir -p $(@D)
	$(call link,$(call obj,$(wildcard demo/load*.c) cli/local.c),pipeline engine base,-levent $(call pkg-libs,libnghttp2))
$(BUILD)/demo/net: $(call obj,demo/net.c) $(call A,engine base)
	@mkdir -p $(@D)
	$(call link,$<,engine base)

.PHONY: demo-tools demo-base
demo-tools: $(DEMO_TOOLS)
tests-build: $(DEMO_TOOLS)
## demo-base      train the demo's base model again, from random weights (some minutes)
demo-base: all demo-tools
	@BUILD='$(BUILD)' demo/make-base.sh
