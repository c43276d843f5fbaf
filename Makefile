# The same jobs under their usual names; ./run does the work. Arguments: make test ARGS="-k name";
# make demo STORE=s3 and make test STORE=s3 run on SeaweedFS.
#
#   make install [PREFIX=/usr/local] [DESTDIR=...] [PYTHON=python3] [PIP_ARGS=...]
#   make uninstall                with the same PREFIX, DESTDIR, SBINDIR and UNITDIR
#
# `install` needs Python's venv and, to compile pyfuse3, gcc, pkg-config, libfuse3-dev and Python's
# headers. What lies below DESTDIR works once it has been moved to /.
.PHONY: demo test check bench install uninstall

PREFIX ?= /usr/local
# The environment made is linked to this interpreter: it has to be where the package is used, too.
PYTHON ?= python3
# mount(8) looks for its helpers nowhere else. A package says /usr/sbin where /sbin is a link.
SBINDIR ?= /sbin
UNITDIR ?= /usr/lib/systemd/system
PIP_ARGS ?=

root := $(DESTDIR)$(PREFIX)
home := $(root)/lib/ossfs
venv := $(home)/.venv
shared := $(root)/share/ossfs
commands := ossfs ossfs2 jindo-fuse
unit := $(DESTDIR)$(UNITDIR)/ossfs@.service
helper := $(DESTDIR)$(SBINDIR)/mount.ossfs
man := $(root)/share/man/man1/ossfs.1
bash := $(root)/share/bash-completion/completions/ossfs
zsh := $(root)/share/zsh/site-functions/_ossfs
fish := $(root)/share/fish/vendor_completions.d/ossfs.fish

demo test:
	./run $@ $(if $(STORE),--store $(STORE)) $(ARGS)

check bench:
	./run $@ $(ARGS)

# Built from a copy: setuptools leaves a build directory where it builds, and packs from there what
# has been deleted since. Of the environment's programs only the interpreter is kept, as the others
# name the directory that they were installed in.
install:
	rm -rf "$(venv)" "$(home)/cmd" "$(shared)"
	install -d "$(home)/cmd" "$(shared)/systemd" "$(root)/bin" "$(DESTDIR)$(SBINDIR)"
	"$(PYTHON)" -m venv "$(venv)"
	set -e; copy=$$(mktemp -d); trap 'rm -rf "$$copy"' EXIT; \
	cp -R pyproject.toml README.md ossfs configs "$$copy"; \
	"$(venv)/bin/python" -m pip install -q --disable-pip-version-check $(PIP_ARGS) "$$copy"
	find "$(venv)/bin" -mindepth 1 ! -name 'python*' -delete
	sed -i '/^command = /d' "$(venv)/pyvenv.cfg"
	install -m 755 $(addprefix cmd/,$(commands) container-entrypoint mount.ossfs) "$(home)/cmd"
	install -m 644 cmd/launch.sh "$(home)/cmd"
	for command in $(commands); do \
	ln -sfn "../lib/ossfs/cmd/$$command" "$(root)/bin/$$command" || exit 1; done
	ln -sfn ../lib/ossfs/cmd/container-entrypoint "$(root)/bin/ossfs-container-entrypoint"
	ln -sfn "$(PREFIX)/lib/ossfs/cmd/mount.ossfs" "$(helper)"
	cp -R configs "$(shared)"
	install -m 644 systemd/*mount "$(shared)/systemd"
	chmod -R a+rX "$(home)" "$(shared)" # whatever the umask: mounting is not for root alone
	install -D -m 644 systemd/ossfs@.service "$(unit)"
	sed -i 's,/usr/local/bin/ossfs,$(PREFIX)/bin/ossfs,' "$(unit)"
	install -D -m 644 docs/ossfs.1 "$(man)"
	install -D -m 644 docs/completion/ossfs.bash "$(bash)"
	install -D -m 644 docs/completion/ossfs.zsh "$(zsh)"
	install -D -m 644 docs/completion/ossfs.fish "$(fish)"

uninstall:
	rm -rf "$(home)" "$(shared)"
	rm -f $(foreach name,$(commands) ossfs-container-entrypoint,"$(root)/bin/$(name)")
	rm -f "$(helper)" "$(unit)" "$(man)" "$(bash)" "$(zsh)" "$(fish)"
