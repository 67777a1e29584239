# install.mk: files that a distribution ships.
.PHONY: install
## install        DESTDIR= PREFIX=: programs, libwinnow, headers, pkg-config, man pages, documentation, units
install: all
	DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' BUILD='$(BUILD)' VERSION='$(VERSION)' tools/install.sh
