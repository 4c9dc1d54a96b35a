# SPDX-License-Identifier: GPL-2.0
#
# make help lists the targets. The kernel's own build system reads Kbuild.

# Another architecture than this machine's is built by a cross compiler, and what needs another
# Debian release is built in a root of it, each into a directory of its own: scripts/arch.sh says
# where, scripts/setup.sh gets what that takes.
ifdef ARCH
export ARCH
endif
# Also a kernel may say which release: see scripts/kernels.
ifdef KERNEL
ifeq ($(origin DEBIAN),undefined)
DEBIAN := $(shell scripts/kernel.sh '$(KERNEL)' debian)
endif
endif
export DEBIAN
# $(call arch,NAME): a variable of arch.sh. Make exports nothing to $(shell).
arch = $(shell ARCH='$(ARCH)' DEBIAN='$(DEBIAN)' sh -c '. scripts/arch.sh && echo $$$(1)')
foreign := $(call arch,foreign)
enter := $(call arch,enter)
built := $(call arch,build)
umig_dir := $(call arch,umig_dir)
ifneq ($(umig_dir),tools/umig)
umig_out := OUT=$(CURDIR)/$(umig_dir)
endif
ifneq ($(foreign),)
CROSS_COMPILE ?= aarch64-linux-gnu-
sysroot := $(call arch,root)
pkgconfig := $(sysroot)/usr/lib/aarch64-linux-gnu/pkgconfig:$(sysroot)/usr/share/pkgconfig
# For what runs in user space; libraries come from the root of the test VM.
cross := CC='$(CROSS_COMPILE)gcc --sysroot=$(sysroot)' \
	PKG_CONFIG='env PKG_CONFIG_SYSROOT_DIR=$(sysroot) PKG_CONFIG_LIBDIR=$(pkgconfig) pkg-config'
endif

# The newest series whose headers are installed, unless KERNEL= or KDIR= says which.
KERNEL ?= $(if $(foreign)$(enter),6.12,$(lastword $(shell ls -d /lib/modules/*/build 2>/dev/null | \
	cut -d/ -f4 | sort -V | cut -d. -f1,2)))
C ?= 0
# W=1 and WERROR=1 are for those who change the code.
W ?= 0
WERROR ?= 0

ifdef KDIR
release := $(shell cat $(KDIR)/include/config/kernel.release)
kdir := $(KDIR)
build := $(built)/$(release)
else
kdir = $(shell ARCH='$(ARCH)' DEBIAN='$(DEBIAN)' scripts/kernel.sh $(KERNEL) build)
build := $(built)/$(KERNEL)
endif

DESTDIR ?=
PREFIX ?= /usr/local
INSTALL ?= install

.PHONY: all
all: modules umig ## modules and umig

.PHONY: help
help: ## this list
	@echo 'usage: make [TARGET] [NAME=VALUE]...'
	@awk -F ':.*## ' '/^[a-z_-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo '  KERNEL=7.3|6.1|...|debug|kcsan|RELEASE  for which kernel, see make kernels ($(KERNEL))'
	@echo '  KDIR=DIR                 a built kernel tree to build against'
	@echo '  DEBIAN=12|13             build, or test, in a root of that release (the kernel says which)'
	@echo '  ARCH=arm64               build, or test, for another architecture'
	@echo '  T=NAME                   with test: only this test program or script'
	@echo '  STRESS_SECONDS=N SEED=N  with test: of the random test'
	@echo '  ACCEL=tcg|kvm            accelerator of the test VM (kvm if /dev/kvm works)'
	@echo '  W=1 C=1 WERROR=1         warnings, sparse, warnings as errors'

.PHONY: kernels
kernels: ## the kernels that the module is built and tested for
	@awk '!/^#/ { on = $$3 == "-" ? "for debugging" : "on " $$3 ($$4 ? " and " $$4 : ""); \
		print "Linux " $$1 ", built with Debian " $$2 ", " on }' scripts/kernels

ifneq ($(enter),)
.PHONY: modules umig selftests
modules umig selftests:
	@$(enter) $(MAKE) $@ KERNEL=$(KERNEL) W=$(W) C=$(C) WERROR=$(WERROR)
else
# Kernels share no objects, so each is built in a copy of the tree made of symbolic links.
.PHONY: modules
modules: ## build/KERNEL/drivers/postcopy/postcopy.ko
	@mkdir -p $(build)
	@cp -rsf $(CURDIR)/Kbuild $(CURDIR)/drivers $(CURDIR)/include $(build)/
	@find $(build) -xtype l -delete
	$(MAKE) -C $(kdir) M=$(CURDIR)/$(build) W=$(W) C=$(C) $(if $(filter 1,$(WERROR)),KCFLAGS=-Werror) \
		$(if $(foreign),CROSS_COMPILE=$(CROSS_COMPILE)) $(KBUILD) modules

.PHONY: umig
umig: ## the user space tool
	$(MAKE) -C tools/umig $(umig_out) $(cross)

.PHONY: selftests
selftests: ## the test programs
	$(MAKE) -C selftests/qemu OUT=$(CURDIR)/$(built)/selftests $(cross)
	$(MAKE) -C selftests/guest OUT=$(CURDIR)/$(built)/selftests $(cross)
	$(MAKE) -C selftests/postcopy OUT=$(CURDIR)/$(built)/selftests $(cross)
	$(MAKE) -C selftests/bench OUT=$(CURDIR)/$(built)/selftests $(cross)
endif

.PHONY: test
test: ## all tests, on all kernels in test VMs (KERNEL=, T= to choose)
	@scripts/test.sh $(if $(filter command environment,$(origin KERNEL)),--kernel $(KERNEL)) $(T)

.PHONY: test-all
test-all: ## everything on every kernel and architecture, which takes hours
	@scripts/test.sh --all

.PHONY: test-debug
test-debug: ## all test programs on the debug kernels (KASAN, lockdep ...; KCSAN)
	@scripts/test.sh --debug $(T)

# All kernels but that with PREEMPT_RT, or KERNEL
bench_kernels = $(if $(filter command environment,$(origin KERNEL)),$(KERNEL),$(shell \
	scripts/kernel.sh list | grep -v -- -rt))
.PHONY: bench-build
bench-build:
	@for kernel in $(bench_kernels); do \
		$(MAKE) -s modules umig selftests KERNEL=$$kernel DEBIAN=$$(scripts/kernel.sh $$kernel debian) || exit; \
	done

.PHONY: bench
bench: bench-build ## measure against userfaultfd, on all kernels (KERNEL=, T=demand|bulk|... to choose)
	@selftests/bench/run.sh --kernel '$(bench_kernels)' $(T)

.PHONY: bench-check
bench-check: bench-build ## the same, short: nothing may have got worse
	@selftests/bench/run.sh --kernel '$(bench_kernels)' --check

.PHONY: coverage
coverage: ## which lines of the module the test programs reach
	@scripts/coverage.sh $(T)

.PHONY: demo
demo: ## a stock QEMU guest migrates by postcopy, in a test VM
	@scripts/setup.sh demo
	@selftests/demo.sh

.PHONY: check
check: ## static checks
	@scripts/setup.sh check
	@scripts/check.sh

.PHONY: install
install: modules umig ## module, umig, man page, udev rule, header
	$(MAKE) -C $(kdir) M=$(CURDIR)/$(build) INSTALL_MOD_DIR=extra \
		$(if $(DESTDIR),INSTALL_MOD_PATH=$(DESTDIR)) modules_install
	$(INSTALL) -D -m 644 include/uapi/linux/postcopy.h $(DESTDIR)$(PREFIX)/include/linux/postcopy.h
	$(INSTALL) -D -m 644 scripts/60-postcopy.rules $(DESTDIR)/usr/lib/udev/rules.d/60-postcopy.rules
	$(MAKE) -C tools/umig install $(umig_out) $(cross) DESTDIR=$(DESTDIR) PREFIX=$(PREFIX)

.PHONY: clean
clean: ## removes what was built
	rm -rf build
	$(MAKE) -C tools/umig clean
