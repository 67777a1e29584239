# Makefile: builds everything out of tree. `make help` lists the targets.
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := all

SAN ?=
CC = gcc
BUILD ?= build$(if $(SAN),-$(SAN))$(if $(findstring clang,$(CC)),-clang)
PREFIX ?= /usr/local
DESTDIR ?=
VENV := build/venv
VERSION := 0.1.0

include mk/flags.mk
include mk/rooms.mk
include mk/tests.mk
include mk/install.mk

.PHONY: all help deps demo format lint clean rooms
## all            build the programs, libwinnow.a and libwinnow.so
all: $(PROGRAMS) $(BUILD)/libwinnow.a $(BUILD)/libwinnow.so

## help           this list
help:
	@echo "make TARGET [V=1] [CC=clang] [SAN=address|undefined|thread] [BUILD=folder]"; echo
	@sed -n 's/^## /  /p' $(MAKEFILE_LIST)

## deps           install what is needed on Debian 12 (apt, and the test clients into build/venv); quick when it is there
deps:
	@tools/deps.sh

## demo           the whole story on loopback: serve, upload, train, prove, swap (ONCE=1: stop at the end; DATA=path)
demo: deps
	@$(MAKE) --no-print-directory all demo-tools
	@BUILD='$(BUILD)' demo/demo.sh

## format         clang-format over all sources
format:
	clang-format -i $(shell git ls-files '*.c' '*.h')

## lint           room rules; clang-tidy and shellcheck where installed (FILES='a.c b.c': only these)
lint: rooms $(GEN_engine:.c=.h) $(GEN_daemon:.c=.h)
	@FILES='$(FILES)' tools/lint.sh $(CSTD) $(INC) $(LLHTTP_INC) $(call pkg-cflags,freetype2) -DWN_VERSION='"$(VERSION)"'

## rooms          check that includes follow ARCHITECTURE.md's table of who may use whom
rooms:
	@python3 tools/check-rooms.py

## clean          remove every build folder, the test clients' venv included
clean:
	rm -rf build build-*
-include mk/demo.mk
