# tests-daemon.mk: programs that the tests of the daemon's parts drive.

# The network alone, without the rest of the daemon.
NET_OBJ := $(call obj,$(wildcard daemon/net/*.c)) $(OBJ_llhttp)
$(BUILD)/tests/net_server: $(call obj,tests/daemon/net_server.c) $(NET_OBJ) $(BUILD)/libbase.a
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS_ALL) -o $@ $^ -Wl,--as-needed $(LIBS_daemon) $(LIBS_base)
tests-build: $(BUILD)/tests/net_server

# The registry and the batcher without network: swaps under load (make SAN=thread for the thread sanitizer).
SERVE_OBJ := $(call obj,$(wildcard daemon/serve/*.c))
$(BUILD)/tests/serve_stress: $(call obj,tests/daemon/serve_stress.c tests/unit/daemon/serve/rig.c) $(SERVE_OBJ) \
  $(call A,pipeline config engine base)
	@mkdir -p $(@D)
	$(call link,$(filter %.o,$^),pipeline config engine base)
tests-build: $(BUILD)/tests/serve_stress

.PHONY: check-clients
## check-clients  grpcurl, ghz, perf_analyzer and KServe's SDK against a real winnowd (installs them: 700 MB)
check-clients: deps all
	@tools/clients.sh
	@BUILD='$(BUILD)' python3 tests/run.py clients

.PHONY: check-h2spec
## check-h2spec   HTTP/2 judged by h2spec, in clear text and under TLS (needs Go)
check-h2spec: $(BUILD)/tests/net_server
	@BUILD='$(BUILD)' python3 tests/daemon/h2spec.py
