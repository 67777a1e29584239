# rooms.mk: each room becomes a static archive of all .c files below it; programs link archives.
isa_name = $(lastword $(subst _, ,$(basename $(notdir $(1)))))
native = $(foreach f,$(1),$(if $(filter $(FOREIGN_ISAS),$(call isa_name,$f)),,$f))
rwildcard = $(foreach d,$(wildcard $(1:=/*)),$(call rwildcard,$d,$2) $(filter $(subst *,%,$2),$d))

ROOMS := base engine pipeline config sparsify daemon
MAINS := daemon/main.c sparsify/worker/main.c

SRC_base     := $(call rwildcard,base,*.c)
SRC_engine   := $(call native,$(call rwildcard,engine,*.c))
SRC_pipeline := $(call rwildcard,pipeline,*.c)
SRC_config   := $(call rwildcard,config,*.c)
SRC_sparsify := $(filter-out $(MAINS),$(call rwildcard,sparsify,*.c))
SRC_daemon   := $(filter-out $(MAINS),$(call rwildcard,daemon,*.c))
SRC_cli      := $(call rwildcard,cli,*.c)

# Messages: every .proto becomes C by protobuf-c under $(GEN).
PROTOS_engine := $(wildcard engine/graph/*.proto)
PROTOS_daemon := $(wildcard daemon/api/*.proto)
GEN_engine := $(PROTOS_engine:%.proto=$(GEN)/%.pb-c.c)
GEN_daemon := $(patsubst %.proto,$(GEN)/%.pb-c.c,$(filter-out %/reflection_v1.proto %/reflection_v1alpha.proto,$(PROTOS_daemon)))
DESCRIPTORS := $(GEN)/daemon/api/descriptors
COMPONENTS := $(GEN)/daemon/api/openapi_components

# llhttp comes as C source in a Debian package; strict mode refuses what request smuggling needs.
LLHTTP := /usr/share/llhttp
LLHTTP_INC := -I/usr/share/include/llhttp -DLLHTTP_STRICT_MODE=1
OBJ_llhttp := $(addprefix $(BUILD)/llhttp/,api.o http.o llhttp.o)

LIBS_base     := -larchive -lcrypto $(call pkg-libs,jansson yaml-0.1) -lm
LIBS_engine   := -lprotobuf-c -lm
LIBS_pipeline := -lturbojpeg -lspng -lutf8proc -lpcre2-32 -lm
LIBS_config   :=
LIBS_sparsify := -ldnnl -lgomp -lseccomp -lmuparser -lz
LIBS_daemon   := -levent -levent_openssl -levent_pthreads -lssl -lcrypto $(call pkg-libs,libnghttp2) -lsqlite3 -lsystemd \
                 -luuid -lprotobuf-c -lz
LIBS_cli      := $(call pkg-libs,libcurl)

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
$(foreach r,$(ROOMS) cli,$(eval OBJ_$(r) := $(call obj,$(SRC_$(r)))))
OBJ_engine += $(GEN_engine:$(GEN)/%.c=$(BUILD)/gen-obj/%.o)
OBJ_daemon += $(GEN_daemon:$(GEN)/%.c=$(BUILD)/gen-obj/%.o) $(addprefix $(BUILD)/gen-obj/daemon/api/,descriptors.o openapi_components.o)

PROGRAMS := $(if $(SRC_cli),$(BUILD)/winnow) $(if $(wildcard daemon/main.c),$(BUILD)/winnowd) \
            $(if $(wildcard sparsify/worker/main.c),$(BUILD)/winnow-worker)

isa_of = $(ISA_$(isa_name)) $(SAN_$(isa_name))

.SECONDARY:
$(BUILD)/obj/%.o: %.c | $(GEN_engine:.c=.h) $(GEN_daemon:.c=.h)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CFLAGS_ALL) $(call isa_of,$<) $(EXTRA_$(firstword $(subst /, ,$<))) -MMD -MP -c $< -o $@
EXTRA_daemon := $(LLHTTP_INC)
EXTRA_sparsify :=

$(GEN)/%.pb-c.c $(GEN)/%.pb-c.h: %.proto
	@mkdir -p $(GEN)
	$(call say,PROTOC,$<)protoc --c_out=$(GEN) $<
# The name that compiled models carry (engine/plan/cache_file.h): it changes with the engine's sources, not with the day.
ENGINE_SRC := $(sort $(foreach r,base engine,$(foreach e,c h def inc proto,$(call rwildcard,$r,*.$e))) mk/flags.mk)
ENGINE_ID := $(shell cat $(ENGINE_SRC) | sha256sum | cut -c1-32)
.PHONY: engine-id
engine-id:
$(GEN)/engine/plan/build_id.h: engine-id
	@mkdir -p $(@D)
	@echo '#define WN_ENGINE_ID "$(ENGINE_ID)"' | cmp -s - $@ || echo '#define WN_ENGINE_ID "$(ENGINE_ID)"' > $@
$(call obj,engine/plan/cache_file.c): $(GEN)/engine/plan/build_id.h
# What reflection tells: protoc's descriptors of all of them, as bytes (daemon/api/descriptors.h).
$(DESCRIPTORS).c: $(PROTOS_daemon)
	@mkdir -p $(@D)
	$(call say,PROTOC,$@)protoc --descriptor_set_out=$(DESCRIPTORS).bin $(PROTOS_daemon) && \
	  { echo '#include "daemon/api/descriptors.h"'; echo 'const unsigned char wn_descriptors[] = {'; \
	    xxd -i < $(DESCRIPTORS).bin; echo '};'; echo 'const size_t wn_descriptors_n = sizeof wn_descriptors;'; } > $@
# The schemas of /openapi.json (daemon/api/openapi.h).
$(COMPONENTS).c: daemon/api/openapi_components.json
	@mkdir -p $(@D)
	$(call say,XXD,$<){ echo '#include "daemon/api/openapi.h"'; echo 'const unsigned char wn_openapi_components[] = {'; \
	  xxd -i < $<; echo '};'; echo 'const size_t wn_openapi_components_n = sizeof wn_openapi_components;'; } > $@
$(BUILD)/gen-obj/%.o: $(GEN)/%.c | $(GEN_engine:.c=.h) $(GEN_daemon:.c=.h)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CSTD) $(OPT) $(CODE) $(HARD) $(INC) -MMD -MP -c $< -o $@
$(BUILD)/llhttp/%.o: $(LLHTTP)/%.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CSTD) $(OPT) $(CODE) $(HARD) $(LLHTTP_INC) -c $< -o $@

define archive
$(BUILD)/lib$(1).a: $$(OBJ_$(1)) $(2)
	@mkdir -p $$(@D)
	$$(call say,AR,$$@)rm -f $$@ && ar rcs $$@ $$^
endef
$(foreach r,base engine pipeline config sparsify,$(eval $(call archive,$(r))))
$(eval $(call archive,daemon,$(OBJ_llhttp)))

A = $(foreach r,$(1),$(BUILD)/lib$(r).a)
L = $(foreach r,$(1),$(LIBS_$(r)))

# libwinnow: the engine and what it takes from base; the .so exports winnow_* only.
$(BUILD)/libwinnow.a: $(OBJ_engine) $(OBJ_base)
	$(call say,AR,$@)rm -f $@ && ar rcs $@ $^
$(BUILD)/libwinnow.so: $(OBJ_engine) $(BUILD)/libbase.a engine/winnow.map
	$(call say,LD,$@)$(CC) -shared $(LDFLAGS_ALL) -Wl,-soname,libwinnow.so.0 -Wl,--version-script=engine/winnow.map \
	  -o $@ $(OBJ_engine) $(BUILD)/libbase.a -Wl,--as-needed $(LIBS_engine) $(LIBS_base)

link = $(call say,LD,$@)$(CC) $(LDFLAGS_ALL) -o $@ $(1) -Wl,--start-group $(call A,$(2)) -Wl,--end-group -Wl,--as-needed $(call L,$(2)) $(3)
$(BUILD)/winnow: $(OBJ_cli) $(call A,pipeline engine base)
	$(call link,$(OBJ_cli),pipeline engine base,$(LIBS_cli))
$(BUILD)/winnowd: $(call obj,daemon/main.c) $(call A,daemon config pipeline engine base)
	$(call link,$<,daemon config pipeline engine base)
$(BUILD)/winnow-worker: $(call obj,sparsify/worker/main.c) $(call A,sparsify pipeline engine base)
	$(call link,$<,sparsify pipeline engine base)

-include $(call rwildcard,$(BUILD)/obj,*.d) $(call rwildcard,$(BUILD)/gen-obj,*.d)
