# iotmq: build with PostgreSQL's PGXS.
#
#   make && sudo make install             build and install for the pg_config in PATH
#   make demo, test, model, bench, lint   each installs what it needs, works on a copy of
#                                         this tree and leaves the machine's servers alone
#
# PG_CONFIG=/path/to/pg_config chooses another PostgreSQL.
# TESTS="name..." narrows test and installcheck down to the tests of that name.

PG_CONFIG ?= pg_config

EXTENSION = iotmq
EXTVERSION = 0.1.0
MODULE_big = iotmq
PGFILEDESC = "iotmq - message topics with consumer groups for IoT data"

# The rooms of src, in the same words; in the order in which the install script needs them.
SQL_MODULES = \
	core/schema core/consume_grant core/catalog_change core/depend core/call core/access core/access_lock core/group_lock \
	log/zone_lock log/state log/stable log/message log/table_owner log/copy_in log/segment log/offset log/epoch log/publish \
	group/delivery group/filter group/runs group/lease group/cursor_lock group/cursor group/consume group/claim \
	group/settle group/pull group/preview group/count group/expire group/forget group/deadletter group/redrive \
	group/waiting \
	view/overview view/lag view/open view/stats view/held_back view/holder view/zone_epoch view/overdue view/mirror \
	view/status view/settings view/alerts view/metrics \
	admin/access admin/node admin/group admin/zone admin/topic admin/seek admin/retention \
	admin/maintenance admin/schedule \
	mirror/link mirror/groups mirror/read_source mirror/apply_source mirror/send mirror/store mirror/mirror mirror/move \
	admin/execute

# Upgrade scripts.  Set even while there is none: "make demo DATA=..." means another DATA.
DATA = $(wildcard sql/upgrade/*.sql)
DATA_built = $(EXTENSION)--$(EXTVERSION).sql
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*/*.c)))
PG_CPPFLAGS = -I$(srcdir)/src

# $(call tests,FILES): their names, or those of them that TESTS asks for.  Tests that
# hold backends at stops need what tools/test builds (test/modules/stop): elsewhere
# installcheck leaves them out.
tests = $(filter-out $(without_stops),$(filter $(or $(TESTS),%),$(call names,$(1))))
names = $(basename $(notdir $(sort $(wildcard $(1)))))
stops = $(wildcard $(shell $(PG_CONFIG) --sharedir 2>/dev/null)/extension/iotmq_stop.control)
without_stops := $(if $(stops),,$(basename $(notdir \
	$(shell grep -rl iotmq_stop test/sql test/specs test/t))))

REGRESS := $(call tests,test/sql/*.sql)
ISOLATION := $(call tests,test/specs/*.spec)
PROVE_TESTS := $(patsubst %,test/t/%.pl,$(call tests,test/t/*.pl))
TAP_TESTS := $(if $(PROVE_TESTS),1)

# Every test finds the extension loaded, so that each can run alone.
REGRESS_OPTS = --inputdir=test --load-extension=$(EXTENSION)
ISOLATION_OPTS = --inputdir=test --load-extension=$(EXTENSION)
REGRESS_PREP = output_iso/expected
EXTRA_CLEAN = output_iso

all:

# The targets at the end work without PostgreSQL, since they install it.
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))
ifneq ($(PGXS),)
include $(PGXS)

# The extension iotmq_router is SQL, and goes along; where there is no PL/Proxy it can't be created.
all install uninstall clean: %: %-router
%-router:
	$(MAKE) -C router $*
else
all install installcheck clean:
	@echo 'PostgreSQL server development files not found by "$(PG_CONFIG)".' >&2
	@echo 'Install them (on Debian: tools/packages build) or set PG_CONFIG.' >&2
	@exit 1
endif

$(DATA_built): $(SQL_MODULES:%=sql/%.sql) Makefile
	cat $(filter %.sql,$^) > $@

$(OBJS) $(OBJS:.o=.bc): $(wildcard src/*.h src/*/*.h)

# The isolation tester looks for expected files below its output folder first.
output_iso/expected:
	mkdir -p $(@D)
	ln -s ../expected $@

demo:
	demo/run

test:
	tools/test

model:
	tools/packages model
	test/model/run large

bench:
	bench/run

# Counted, not timed; CHECK=1 compares with bench/results/instructions.md instead of writing it.
bench-instructions:
	bench/instructions $(if $(CHECK),--check)

# On a PostgreSQL with assertions, which the first call builds.
test-assert:
	tools/test-assert

# Does a test notice when a line that matters is wrong?
mutants:
	tools/mutants

# All programs of examples/, with a JDK, a Go compiler, and npm where there is one.
examples:
	tools/packages build test examples
	EXAMPLES=all TESTS=060_examples tools/test

# All that takes too long for every commit.
nightly:
	tools/nightly

lint:
	tools/lint

# ROUNDS=n SEED=s FAULT=kind,kind...: kills, promotions, full disks, clocks under load.
faults:
	test/faults/run

# HOURS=n: hours under load, and what grows meanwhile.
soak:
	test/soak/run

# ROUNDS=n SEED=s; sqlsmith: QUERIES=n SEED=s
fuzz sqlsmith:
	test/fuzz/run $@

# What installcheck is going to run, for tools/test to count.
list-tests:
	@echo $(REGRESS) $(ISOLATION) $(PROVE_TESTS)

.PHONY: demo test model test-assert mutants examples nightly bench bench-instructions lint faults soak fuzz sqlsmith list-tests
